package demo

import (
	"time"
)

const (
	// past is how far back activity goes. It stays within the 90 days after which ClickHouse forgets events.
	past = 80 * 24 * time.Hour
	// lively is how many users have a conversation that still goes on, with runs that are not done.
	lively = 50
	// maxSessions is how often a conversation is taken up again, at most, plus one.
	maxSessions = 4
)

// history is what happened: every thread and run of every user, made when it is asked for.
type history struct {
	size  Size
	first int // the id of the first user
	now   time.Time
	*fiction
}

// thread is what its messages and runs need to know.
type thread struct {
	id       [16]byte
	user, n  int
	topic    topic
	agent    int // of its first run: the index of the type
	model    model
	created  time.Time
	life     time.Duration // from the beginning of the first session to the end of the last
	session  time.Duration // how long each session is
	sessions int
	open     bool // goes on as of now
}

// thread is a user's n-th, from the newest.
func (h *history) thread(user, n int) thread {
	h.turn(kindThread, user, n)
	t := thread{id: h.id(), user: user, n: n, topic: h.topic(), agent: h.IntN(len(agentTypes)), model: one(h.fiction, languageModels),
		sessions: 1 + h.IntN(maxSessions), open: n == 0 && user-h.first < lively}
	if t.open {
		age := 20*time.Minute + h.share(100*time.Minute)
		t.created, t.life, t.sessions = h.now.Add(-age), age, max(t.sessions, 2)
	} else {
		// The square makes recent conversations more frequent than old ones.
		x := (float64(n) + h.Float64()) / float64(h.size.ThreadsPerUser)
		age := 2*time.Hour + time.Duration(x*x*float64(past-2*time.Hour))
		t.created, t.life = h.now.Add(-age), min(h.share(age), h.share(14*24*time.Hour))
	}
	t.session = min(4*time.Minute+h.share(20*time.Minute), t.life/time.Duration(t.sessions))
	return t
}

// moment is a time within the thread's sessions: 0 is its beginning, 1 its end.
func (t thread) moment(x float64) time.Time {
	place := x * float64(t.sessions)
	session := min(int(place), t.sessions-1)
	at := time.Duration((place - float64(session)) * float64(t.session))
	if t.sessions > 1 {
		at += (t.life - t.session) / time.Duration(t.sessions-1) * time.Duration(session)
	}
	return t.created.Add(at).Truncate(time.Microsecond)
}

// messageAt leaves the source of chance where the message's text begins.
func (h *history) messageAt(t thread, n int) (id [16]byte, at time.Time) {
	h.turn(kindMessage, t.user, t.n, n)
	id = h.id()
	if n == 0 {
		return id, t.created
	}
	return id, t.moment((float64(n) + 0.9*h.Float64()) / float64(h.size.MessagesPerThread))
}

// run is an agent's work within a thread.
type run struct {
	id          [16]byte
	thread      thread
	n           int
	agent       string
	status      string
	environment string
	created     time.Time
	started     time.Time // zero while pending, or when cancelled before
	ended       time.Time // zero until it is at an end
}

// run leaves the source of chance where the run's texts begin.
func (h *history) run(t thread, n int) run {
	h.turn(kindRun, t.user, t.n, n)
	r := run{id: h.id(), thread: t, n: n, agent: agentTypes[(t.agent+n)%len(agentTypes)], environment: one(h.fiction, environments),
		created: t.moment((float64(n) + 0.3 + 0.4*h.Float64()) / float64(h.size.RunsPerThread))}
	r.started = earlier(r.created.Add(200*time.Millisecond+h.share(3*time.Second)).Truncate(time.Microsecond), h.now)
	r.ended = earlier(r.started.Add(time.Duration(h.about(12, 0.9)*float64(time.Second))).Truncate(time.Microsecond), h.now)
	switch x := h.IntN(100); {
	case unfinished(h.size, t, n) && n == h.size.RunsPerThread-1:
		r.status, r.started, r.ended = "pending", time.Time{}, time.Time{}
	case unfinished(h.size, t, n):
		r.status, r.ended = "processing", time.Time{}
	case x < 84:
		r.status = "completed"
	case x < 94:
		r.status = "failed"
	default:
		r.status = "cancelled"
	}
	return r
}

// unfinished are the last two runs of a conversation that goes on.
func unfinished(size Size, t thread, n int) bool {
	return t.open && size.RunsPerThread >= 3 && n >= size.RunsPerThread-2
}

// updated is the thread's last activity.
func (h *history) updated(t thread) time.Time {
	last := t.created
	if m := h.size.MessagesPerThread; m > 0 {
		_, last = h.messageAt(t, m-1)
	}
	for n := range h.size.RunsPerThread {
		if r := h.run(t, n); r.lastSeen().After(last) {
			last = r.lastSeen()
		}
	}
	return last
}

// lastSeen is when the run came into its present status.
func (r run) lastSeen() time.Time {
	for _, at := range []time.Time{r.ended, r.started} {
		if !at.IsZero() {
			return at
		}
	}
	return r.created
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
