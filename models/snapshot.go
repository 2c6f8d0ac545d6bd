package models

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is PostgreSQL's pg_snapshot: which transactions had ended at one moment. The zero snapshot shows nothing. It does not
// change once made.
type Snapshot struct {
	Max  uint64   // the first transaction that had not begun
	Open []uint64 // those that had begun and not ended, ascending
}

// Shows says whether the rows of a committed transaction were visible.
func (s *Snapshot) Shows(xid uint64) bool {
	if xid >= s.Max {
		return false
	}
	_, open := slices.BinarySearch(s.Open, xid)
	return !open
}

// Min is the first transaction that had not ended: everything before it had.
func (s *Snapshot) Min() uint64 {
	if len(s.Open) > 0 {
		return s.Open[0]
	}
	return s.Max
}

// forgettable is how many transactions a crash may make a server forget, at most. They end without a trace within the fifth of a second that
// the server's log takes to be written by itself.
const forgettable = 10_000

// Known is the snapshot without those transactions that it alone knows to have ended: the latest, after last. A server that
// crashes forgets transactions that left no trace, such as those that were rolled back a moment before, and gives their ids out again; to
// a position that had seen them end, what is written under these ids would be no news. Last has left a trace. It must not be before a row
// that the snapshot shows.
func (s *Snapshot) Known(last uint64) *Snapshot {
	end := last + 1
	if s.Max > forgettable {
		end = max(end, s.Max-forgettable)
	}
	if end >= s.Max {
		return s
	}
	n, _ := slices.BinarySearch(s.Open, end)
	return &Snapshot{Max: end, Open: s.Open[:n:n]}
}

// Last is the latest transaction that had ended.
func (s *Snapshot) Last() uint64 {
	last := s.Max - 1
	for i := len(s.Open) - 1; i >= 0 && s.Open[i] == last; i-- {
		last--
	}
	return last
}

// Compare orders the snapshots of one server by time: transactions only begin and end.
func (s *Snapshot) Compare(other *Snapshot) int {
	return cmp.Or(cmp.Compare(s.Max, other.Max), cmp.Compare(len(other.Open), len(s.Open)))
}

// ParseSnapshot reads the text form, xmin:xmax:open,open,….
func ParseSnapshot(text string) (*Snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return nil, fmt.Errorf("parse snapshot %q", text)
	}
	s := &Snapshot{Open: []uint64{}}
	var err error
	if s.Max, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return nil, fmt.Errorf("parse snapshot %q: %w", text, err)
	}
	if parts[2] == "" {
		return s, nil
	}
	for _, field := range strings.Split(parts[2], ",") {
		xid, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("parse snapshot %q: %w", text, err)
		}
		s.Open = append(s.Open, xid)
	}
	slices.Sort(s.Open)
	return s, nil
}
