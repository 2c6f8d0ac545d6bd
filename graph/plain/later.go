package plain

import "context"

// left is the read of an object whose key is known. Its resolver leaves it to be done at the same time as the reads of what is below the object, which
// need no more than the key.
type left struct {
	open     bool
	read     func(context.Context) (settle func(), err error)
	begun    bool
	settle   func()
	err      error
	panicked any
}

type leftKey struct{}

// Later leaves the read of the object that a resolver answers with, of which it has the key alone. Read returns what fills the object in, which
// nobody looks at meanwhile, or why there is no such object. False says that the resolver has to read it before it answers.
func Later(ctx context.Context, read func(context.Context) (settle func(), err error)) bool {
	l, ok := ctx.Value(leftKey{}).(*left)
	if !ok || !l.open {
		return false
	}
	l.open, l.read = false, read
	return true
}

func (l *left) offer(ctx context.Context) context.Context {
	l.open = true
	return context.WithValue(ctx, leftKey{}, l)
}

// close is when the resolver has answered.
func (l *left) close() { l.open = false }

func (l *left) isWaiting() bool { return l.read != nil && !l.begun }

func (l *left) begin(ctx context.Context) {
	defer func() { l.panicked = recover() }() // for whoever finishes
	l.begun = true
	l.settle, l.err = l.read(ctx)
}

// finish fills the object in, if something was left.
func (l *left) finish(ctx context.Context) error {
	if l.isWaiting() {
		l.begin(ctx)
	}
	if l.panicked != nil {
		panic(l.panicked)
	}
	if l.err == nil && l.settle != nil {
		l.settle()
	}
	return l.err
}
