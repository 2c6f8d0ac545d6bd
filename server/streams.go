package server

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/internal/wait"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
)

// Session is what a credential gives its bearer.
type Session struct {
	Viewer  models.Viewer
	Expires time.Time // zero is never
}

// StreamSettings bound sockets and event streams of one replica. A field that is zero takes its default.
type StreamSettings struct {
	PerUser        int           // open at once for one user; 1,000
	Operations     int           // at once on one socket; 100
	Authenticating int           // clients who are authenticated at once; 32
	Waiting        int           // clients who wait for that; 1,000. More are sent away, to come again after a random while
	Beginning      int           // subscriptions that begin at once; 24
	InitTimeout    time.Duration // for connection_init, and again for being authenticated; 3 s
	WriteTimeout   time.Duration // for a client to take a frame or an event; 3 s
	Heartbeat      time.Duration // between two signs of life; 25 s. A socket that is silent for twice as long is gone
	Standing       time.Duration // between two questions whether everybody still has their rights; 700 ms
}

func (s StreamSettings) withDefaults() StreamSettings {
	fallback(&s.PerUser, 1_000)
	fallback(&s.Operations, 100)
	fallback(&s.Authenticating, 32)
	fallback(&s.Beginning, 24)
	fallback(&s.Waiting, 1_000)
	fallback(&s.InitTimeout, 3*time.Second)
	fallback(&s.WriteTimeout, 3*time.Second)
	fallback(&s.Heartbeat, 25*time.Second)
	fallback(&s.Standing, 700*time.Millisecond)
	return s
}

func fallback[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// StreamsConfig says who may have sockets and event streams.
type StreamsConfig struct {
	// Authenticate says what a bearer token gives. An error of code UNAUTHENTICATED or FORBIDDEN refuses the client, any other asks it to try
	// again later.
	Authenticate func(ctx context.Context, bearer string) (Session, error)
	// Standing is what these viewers are now, in any order, asked again and again while streams are open: one question for everybody, and a user, or
	// an API key, is in it once, however many streams there are. Streams of one who is missing from the answer end, and those of one who has
	// lost a right. When it fails nothing ends, since the rows that a stream shows are behind the same database. nil never asks.
	Standing func(ctx context.Context, viewers []models.Viewer) ([]models.Viewer, error)
	Settings StreamSettings
	Log      *slog.Logger
}

// Streams is the account of one replica's open sockets and event streams: whose they are, how many, and until when.
type Streams struct {
	cfg    StreamsConfig
	turns  chan struct{} // held while authenticating
	begins chan struct{} // held while a subscription begins

	mu       sync.Mutex
	open     map[stream]models.Viewer // the zero viewer until it is known whose the stream is
	viewers  map[models.Viewer]map[stream]struct{}
	users    map[int]int // open streams
	waiting  int         // for a turn, or having one
	watching bool        // a goroutine asks for everybody's standing
	draining bool
	working  sync.WaitGroup // streams, and operations on them
}

// stream is one open socket or event stream. Its methods may be called at any time and more than once.
type stream interface {
	drain()               // ends it for good once that loses nothing, so that its client goes elsewhere
	revoke(reason string) // ends it: its bearer may no longer have it
	abort()               // ends it now
}

// subject is whose standing decides whether a stream may go on: a user, and the API key that was presented, if it was one.
type subject struct {
	userID int
	apiKey uuid.UUID
}

func subjectOf(v models.Viewer) subject { return subject{v.UserID, v.APIKey} }

// NewStreams makes an empty account.
func NewStreams(cfg StreamsConfig) *Streams {
	cfg.Settings = cfg.Settings.withDefaults()
	return &Streams{
		cfg:     cfg,
		turns:   make(chan struct{}, cfg.Settings.Authenticating),
		begins:  make(chan struct{}, cfg.Settings.Beginning),
		open:    map[stream]models.Viewer{},
		viewers: map[models.Viewer]map[stream]struct{}{},
		users:   map[int]int{},
	}
}

// Open is how many sockets and event streams are open.
func (st *Streams) Open() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.open)
}

func (st *Streams) isDraining() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.draining
}

// enter counts a stream; false when the server is going away.
func (st *Streams) enter(s stream) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.draining {
		return false
	}
	st.open[s] = models.Viewer{}
	st.working.Add(1)
	return true
}

func (st *Streams) leave(s stream) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.forget(s)
	delete(st.open, s)
	st.working.Done()
}

// forget is called with the lock held.
func (st *Streams) forget(s stream) {
	viewer := st.open[s]
	if viewer == (models.Viewer{}) {
		return
	}
	if delete(st.viewers[viewer], s); len(st.viewers[viewer]) == 0 {
		delete(st.viewers, viewer)
	}
	if st.users[viewer.UserID]--; st.users[viewer.UserID] == 0 {
		delete(st.users, viewer.UserID)
	}
}

var errCrowded = models.Errorf(models.RateLimited, "too many clients come at once: try again in a while")

// authenticate waits for its turn, so that a herd of clients costs the database no more than a few at a time. It fails with RateLimited when
// too many wait already.
func (st *Streams) authenticate(ctx context.Context, bearer string) (Session, error) {
	st.mu.Lock()
	if st.waiting >= st.cfg.Settings.Waiting {
		st.mu.Unlock()
		return Session{}, errCrowded
	}
	st.waiting++
	st.mu.Unlock()
	defer func() {
		st.mu.Lock()
		st.waiting--
		st.mu.Unlock()
	}()
	select {
	case st.turns <- struct{}{}:
	case <-ctx.Done():
		return Session{}, errCrowded
	}
	defer func() { <-st.turns }()
	return st.cfg.Authenticate(ctx, bearer)
}

// begin waits for a turn to begin a subscription, and says whether there was one before ctx ended. Each asks the database how things are: those of a
// herd would leave no connection of the pool for authenticating the rest, who would be sent away and come again.
func (st *Streams) begin(ctx context.Context, subscription func()) bool {
	select {
	case st.begins <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-st.begins }()
	subscription()
	return true
}

// admit says whose a stream is, or is from now on. It fails with RateLimited when the user has too many.
func (st *Streams) admit(s stream, viewer models.Viewer) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	user, limit := viewer.UserID, st.cfg.Settings.PerUser
	if again := st.open[s].UserID == user; !again && st.users[user] >= limit {
		return models.Errorf(models.RateLimited, "too many open connections of this user: at most %d", limit)
	}
	st.forget(s)
	st.open[s] = viewer
	st.users[user]++
	if st.viewers[viewer] == nil {
		st.viewers[viewer] = map[stream]struct{}{}
	}
	st.viewers[viewer][s] = struct{}{}
	if !st.watching && st.cfg.Standing != nil {
		st.watching = true
		go st.watch()
	}
	return nil
}

// maxUnread is how many bytes the kernel is to keep for one client; it takes twice as many. A client who does not read is noticed when they are
// full, and costs no more.
const maxUnread = 64 << 10

func boundUnread(conn any) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(maxUnread) // where it cannot be set, noticing takes longer
	}
}

func streamOf(operation *graphql.OperationContext) (resolvers.Stream, bool) {
	stream, ok := operation.Stats.GetExtension(resolvers.StreamExtension).(resolvers.Stream)
	return stream, ok
}

// nextResponse waits for an operation's next response; nil is the end.
func nextResponse(ctx context.Context, operation *graphql.OperationContext, responses graphql.ResponseHandler) (response *graphql.Response) {
	stream, ok := streamOf(operation)
	if !ok {
		return responses(ctx)
	}
	stream.Await()
	aside(func() { response = responses(ctx) })
	return response
}

// aside works in a goroutine of its own. Those of a socket last as long as the socket, and what one of them once needed as a stack it would
// keep for long.
func aside(work func()) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		work()
	}()
	<-done
	if panicked != nil {
		panic(panicked) // where it is answered for
	}
}

type connKey struct{}

// withConn lets event streams find their connection.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// watch asks for everybody's standing until no stream is left.
func (st *Streams) watch() {
	tick := time.NewTicker(st.cfg.Settings.Standing)
	defer tick.Stop()
	var collector thrift
	defer collector.adapt(0)
	failing := false
	for range tick.C {
		asked := st.subjects()
		if asked == nil {
			return
		}
		collector.adapt(st.Open())
		ctx := context.Background()
		now, err := st.cfg.Standing(ctx, asked)
		if err != nil {
			if !failing {
				st.cfg.Log.WarnContext(ctx, "the rights of open streams cannot be checked", "error", err)
			}
			failing = true
			continue
		}
		failing = false
		st.end(asked, now)
	}
}

// crowd is how many open streams are so many that the process is mostly their memory. Go allows garbage in proportion to what is live, which is
// generous to what lives for months: from there on it is allowed half, for twice the collector's work.
const crowd = 2_000

// thrift is whether the collector has been told.
type thrift struct{ percent int }

func (t *thrift) adapt(streams int) {
	switch {
	case streams >= crowd && t.percent == 0:
		t.percent = debug.SetGCPercent(50)
		if t.percent < 100 { // somebody has chosen less already, or none at all
			debug.SetGCPercent(t.percent)
		}
	case streams < crowd/2 && t.percent != 0:
		debug.SetGCPercent(t.percent)
		t.percent = 0
	}
}

// subjects is who has streams, each once; nil when nobody has, and then the caller has to end.
func (st *Streams) subjects() []models.Viewer {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.watching = len(st.viewers) > 0
	var viewers []models.Viewer
	known := make(map[subject]struct{}, len(st.viewers))
	for viewer := range st.viewers {
		if _, ok := known[subjectOf(viewer)]; !ok {
			known[subjectOf(viewer)] = struct{}{}
			viewers = append(viewers, viewer)
		}
	}
	return viewers
}

// end ends the streams of those asked for who have lost what they had.
func (st *Streams) end(asked, now []models.Viewer) {
	was, is := bySubject(asked), bySubject(now)
	st.mu.Lock()
	defer st.mu.Unlock()
	for viewer, streams := range st.viewers {
		if _, ok := was[subjectOf(viewer)]; !ok {
			continue // came while the question was under way
		}
		now, ok := is[subjectOf(viewer)]
		reason := ""
		switch {
		case !ok:
			reason = "the account or the key can no longer be used"
		case hasLost(viewer, now):
			reason = "a right was taken back"
		default:
			continue
		}
		for s := range streams {
			go s.revoke(reason) // which may wait for a client who does not read
		}
	}
}

func bySubject(viewers []models.Viewer) map[subject]models.Viewer {
	subjects := make(map[subject]models.Viewer, len(viewers))
	for _, viewer := range viewers {
		subjects[subjectOf(viewer)] = viewer
	}
	return subjects
}

// hasLost is whether a viewer lacks now what streams need: to read, and to see every tenant.
func hasLost(was, now models.Viewer) bool {
	return was.Superuser && !now.Superuser || was.May(models.PermissionRead) && !now.May(models.PermissionRead)
}

const (
	// drainPace is the longest time between two ends while draining, so that few streams are drained at once.
	drainPace = 20 * time.Millisecond
	// drainWindow is over how long many are spread when ctx has no deadline.
	drainWindow = 10 * time.Second
)

// Drain refuses new streams and ends the open ones, sockets with 1012, so that their clients connect to another replica: spread over the first
// three quarters of the time that ctx leaves, so that they do not all come there at once. One with a query running ends when the query has
// been answered. What is still open when ctx ends is cut off, and the error is ctx's.
func (st *Streams) Drain(ctx context.Context) error {
	st.mu.Lock()
	st.draining = true
	streams := make([]stream, 0, len(st.open))
	for s := range st.open {
		streams = append(streams, s)
	}
	st.mu.Unlock()

	window := drainWindow
	if deadline, ok := ctx.Deadline(); ok {
		window = time.Until(deadline) * 3 / 4
	}
	pace, began := min(window/time.Duration(len(streams)+1), drainPace), time.Now()
	for i, s := range streams {
		wait.For(ctx, time.Until(began.Add(pace*time.Duration(i))))
		go s.drain()
	}
	done := make(chan struct{})
	go func() {
		st.working.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		for _, s := range streams {
			s.abort()
		}
		select {
		case <-done:
		case <-time.After(farewell):
		}
		return ctx.Err()
	}
}

// dispersal is over how long clients who are sent away are spread.
const dispersal = 2 * time.Second

// retryAfter is a Retry-After header of some seconds, which are not the same for everybody.
func retryAfter() string { return strconv.Itoa(1 + rand.IntN(3)) }
