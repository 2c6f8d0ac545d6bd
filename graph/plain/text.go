package plain

import (
	"bytes"
	"io"
	"sync"
)

// text is what a plan has written. It can be written out once: its pieces are used again.
type text struct{ first *piece }

// piece is a part of a text. A long one is made in pieces: one buffer, doubled until all fits into it, would take five times its memory.
type piece struct {
	text []byte
	next *piece
}

const (
	pieceLength = 16 << 10
	pieceRoom   = 4 << 10 // for what is begun when the piece is full
	shortText   = 4 << 10 // for which a piece is too long
)

var pool = sync.Pool{New: func() any { return &piece{text: make([]byte, 0, pieceLength+pieceRoom)} }}

func (t *text) size() (size int) {
	for p := t.first; p != nil; p = p.next {
		size += len(p.text)
	}
	return size
}

func (t *text) MarshalGQL(w io.Writer) {
	p := t.first
	t.first = nil
	for p != nil {
		_, _ = w.Write(p.text) // a buffer
		next := p.next
		p.release()
		p = next
	}
}

// release has the piece used again, unless it was cut or has grown around one long value.
func (p *piece) release() {
	if p.next = nil; cap(p.text) >= pieceLength+pieceRoom && cap(p.text) <= 2*(pieceLength+pieceRoom) {
		pool.Put(p)
	}
}

// Answers are made in buffers of these lengths, which are used again.
const (
	shortestBuffer = 1 << 10
	longestBuffer  = 1 << 20
)

var buffers sync.Pool // of *[]byte

// grow makes room for n bytes more, in a buffer that was released if there is one.
func grow(buffer *bytes.Buffer, n int) {
	if buffer.Available() >= n {
		return
	}
	if n += buffer.Len(); n < shortestBuffer || n > longestBuffer {
		buffer.Grow(n)
		return
	}
	if used, ok := buffers.Get().(*[]byte); ok && cap(*used) >= n {
		*buffer = *bytes.NewBuffer(append((*used)[:0], buffer.Bytes()...))
		return
	}
	buffer.Grow(n)
}

// Release gives an answer's buffer back, whoever made it: nobody reads it any more.
func Release(answer []byte) {
	if n := cap(answer); n >= shortestBuffer && n <= longestBuffer {
		buffers.Put(&answer)
	}
}
