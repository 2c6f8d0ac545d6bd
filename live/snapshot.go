package live

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// snapshot is PostgreSQL's pg_snapshot: which transactions had ended at one moment. The zero snapshot shows nothing.
type snapshot struct {
	xmax uint64   // the first transaction that had not begun
	open []uint64 // those that had begun and not ended
}

// shows says whether the rows of a committed transaction were visible.
func (s snapshot) shows(xid uint64) bool { return xid < s.xmax && !slices.Contains(s.open, xid) }

// parseSnapshot reads the text form, xmin:xmax:open,open,….
func parseSnapshot(text string) (snapshot, error) {
	s := snapshot{open: []uint64{}}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("parse snapshot %q", text)
	}
	var err error
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return s, fmt.Errorf("parse snapshot %q: %w", text, err)
	}
	if parts[2] == "" {
		return s, nil
	}
	for _, field := range strings.Split(parts[2], ",") {
		xid, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return s, fmt.Errorf("parse snapshot %q: %w", text, err)
		}
		s.open = append(s.open, xid)
	}
	return s, nil
}
