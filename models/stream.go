package models

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Stream is one of the logs that can be followed.
type Stream byte

const (
	RunStream     Stream = 'r'
	MessageStream Stream = 'm'
)

// Place orders what one read of a log found. Runs go by Seq, messages by when they were said, in microseconds, and then by id.
type Place struct {
	Seq int64
	ID  uuid.UUID
}

// Compare is negative where p comes first.
func (p Place) Compare(other Place) int {
	return cmp.Or(cmp.Compare(p.Seq, other.Seq), bytes.Compare(p.ID[:], other.ID[:]))
}

// Position says what of a log somebody has received: everything that Prior shows, and of what Current shows besides everything up to
// Place. A number alone cannot say it, since transactions commit out of the order in which they write.
type Position struct {
	Log     uint64 // which database on which server: transaction ids mean nothing in another
	Prior   *Snapshot
	Current *Snapshot // nil: nothing certain, for example in the midst of a snapshot of states; the client has to begin again
	Place   Place
}

// After says whether an event of the transaction xid comes after p.
func (p *Position) After(xid uint64, place Place) bool {
	return !p.Prior.Shows(xid) && !(p.Current.Shows(xid) && place.Compare(p.Place) <= 0)
}

// Mark is an event's place in its stream.
type Mark struct {
	Xid      uint64
	Snapshot bool // a state as it is, not a change
	Position
}

// Stamp gives the mark of whatever embeds it.
func (m *Mark) Stamp() *Mark { return m }

const (
	cursorBegin = 0
	cursorExact = 1
	maxPosition = 32 << 10 // characters; each open transaction costs two or three
	maxOpen     = 10_000
)

// Cursor is the position as clients keep it: opaque, and the same on every replica. It holds the stream, the log, both snapshots (the open
// transactions as distances) and the place: 30 to 60 characters while few transactions are open.
func (p *Position) Cursor(stream Stream) string {
	kind := byte(cursorExact)
	if p.Current == nil {
		kind = cursorBegin
	}
	raw := binary.BigEndian.AppendUint64([]byte{byte(stream), kind}, p.Log)
	if kind == cursorExact {
		raw = binary.AppendUvarint(raw, p.Current.Max)
		raw = binary.AppendVarint(raw, int64(p.Current.Max-p.Prior.Max)) // Prior may have been read by another replica, and end later
		raw = appendOpen(raw, p.Current)
		raw = appendOpen(raw, p.Prior)
		raw = binary.AppendVarint(raw, p.Place.Seq)
		if stream == MessageStream {
			raw = append(raw, p.Place.ID[:]...)
		}
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func appendOpen(raw []byte, s *Snapshot) []byte {
	raw = binary.AppendUvarint(raw, uint64(len(s.Open)))
	last := s.Max
	for i := len(s.Open) - 1; i >= 0; i-- {
		raw = binary.AppendUvarint(raw, last-s.Open[i])
		last = s.Open[i]
	}
	return raw
}

// ParsePosition reads a cursor of a stream. It fails with BadUserInput where s is not one that we gave out.
func ParsePosition(stream Stream, s string) (*Position, error) {
	malformed := Errorf(BadUserInput, "malformed cursor: use a cursor as the API gave it")
	if len(s) > maxPosition {
		return nil, malformed
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) < 10 {
		return nil, malformed
	}
	if Stream(raw[0]) != stream {
		return nil, Errorf(BadUserInput, "this cursor is of something else: use one of this subscription")
	}
	p := &Position{Log: binary.BigEndian.Uint64(raw[2:])}
	if raw[1] == cursorExact {
		r := reader{raw: raw[10:]}
		p.Current, p.Prior = &Snapshot{}, &Snapshot{}
		p.Current.Max = r.uvarint()
		p.Prior.Max = p.Current.Max - uint64(r.varint())
		p.Current.Open = r.open(p.Current.Max)
		p.Prior.Open = r.open(p.Prior.Max)
		p.Place.Seq = r.varint()
		if stream == MessageStream && len(r.raw) == len(p.Place.ID) {
			copy(p.Place.ID[:], r.raw)
		}
		if r.failed || p.Prior.Max > math.MaxInt64 || p.Current.Max > math.MaxInt64 { // PostgreSQL's counter does not get there
			return nil, malformed
		}
	}
	if p.Cursor(stream) != s { // whatever was not read above
		return nil, malformed
	}
	return p, nil
}

type reader struct {
	raw    []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	value, n := binary.Uvarint(r.raw)
	if n <= 0 {
		r.failed, r.raw = true, nil
		return 0
	}
	r.raw = r.raw[n:]
	return value
}

func (r *reader) varint() int64 {
	value, n := binary.Varint(r.raw)
	if n <= 0 {
		r.failed, r.raw = true, nil
		return 0
	}
	r.raw = r.raw[n:]
	return value
}

func (r *reader) open(last uint64) []uint64 {
	count := r.uvarint()
	if count > maxOpen {
		r.failed = true
		return nil
	}
	open := make([]uint64, count)
	for i := int(count) - 1; i >= 0; i-- {
		distance := r.uvarint()
		if distance == 0 || distance > last {
			r.failed = true
			return nil
		}
		last -= distance
		open[i] = last
	}
	return open
}

// StreamFilter says which events are wanted; conditions are combined with AND.
type StreamFilter struct {
	UserID   *int // the tenant; nil only for those who may see every tenant
	RunID    *uuid.UUID
	ThreadID *uuid.UUID
}

// Stretch is a part of a log, read in one moment.
type Stretch[E any] struct {
	Log     uint64
	Last    uint64    // the greatest xid of the tenant's latest rows, where that was asked
	At      *Snapshot // of that moment
	Rows    []E       // each with its mark
	More    bool      // there is more after the last of Rows; otherwise everything that At shows has been read
	Expired bool      // the position is of another database, or rows after it have been deleted; there are no Rows
}

// Shared lets those who received the same event share what they read because of it. Only viewers of equal rights who ask for the same
// share, and only while an answer is fresh.
type Shared struct {
	mu      sync.Mutex
	answers map[any]*sharedAnswer
}

type sharedAnswer struct {
	done  chan struct{}
	at    time.Time // when the question was put
	value any
	err   error
}

// sharedAge bounds how long an answer serves others. It is that of a viewer's rights.
const sharedAge = time.Second

// Share answers from s, or else puts the question and leaves the answer. The question must say whose it is and be comparable. Ask runs until
// it has an answer even when ctx ends, since others may wait for it. An error is not kept.
func Share[V any](ctx context.Context, s *Shared, question any, ask func(context.Context) (V, error)) (V, error) {
	if s == nil {
		return ask(ctx)
	}
	s.mu.Lock()
	known, ok := s.answers[question]
	if !ok || time.Since(known.at) > sharedAge {
		known = &sharedAnswer{done: make(chan struct{}), at: time.Now()}
		if s.answers == nil {
			s.answers = map[any]*sharedAnswer{}
		}
		s.answers[question] = known
		s.mu.Unlock()
		defer close(known.done)
		known.err = Errorf(Internal, "asking broke off") // unless it comes to an end
		var value V
		value, known.err = ask(context.WithoutCancel(ctx))
		known.value = value
		if known.err != nil {
			s.mu.Lock()
			if s.answers[question] == known {
				delete(s.answers, question)
			}
			s.mu.Unlock()
		}
		return value, known.err
	}
	s.mu.Unlock()
	var none V
	select {
	case <-known.done:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	if known.err != nil {
		return none, known.err
	}
	return known.value.(V), nil
}
