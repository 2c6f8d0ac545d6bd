package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/wait"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

// registry is where a test says who may do what.
type registry struct {
	mu      sync.Mutex
	viewers map[string]models.Viewer // by token, or key
	away    bool
	asked   [][]models.Viewer
}

func newRegistry() *registry {
	return &registry{viewers: map[string]models.Viewer{
		"good":  {UserID: 1},
		"key":   byKey,
		"other": {UserID: 2},
		"root":  {UserID: 3, Superuser: true},
	}}
}

func (r *registry) standing(_ context.Context, viewers []models.Viewer) ([]models.Viewer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, slices.Clone(viewers))
	if r.away {
		return nil, errors.New("no database")
	}
	return slices.Collect(maps.Values(r.viewers)), nil
}

func (r *registry) change(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.asked = nil
}

// questions waits for n more questions.
func (r *registry) questions(t *testing.T, n int) [][]models.Viewer {
	t.Helper()
	var asked [][]models.Viewer
	r.change(func() {})
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		asked = r.asked
		return len(asked) >= n
	}, soon, time.Millisecond)
	return asked
}

func (r *registry) config(cfg *server.StreamsConfig) {
	cfg.Standing = r.standing
	cfg.Settings.Standing = 5 * time.Millisecond
}

func (f *fixture) as(t *testing.T, token string) client {
	t.Helper()
	c := f.dial(t)
	c.send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, token))
	c.expect(ack)
	return c
}

func TestStreams_Standing(t *testing.T) {
	t.Parallel()
	t.Run("a user's sockets end with the account, and nobody else's", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		one, again, other := f.as(t, "good"), f.as(t, "long"), f.as(t, "other")
		r.questions(t, 2)
		one.quiet()
		r.change(func() { delete(r.viewers, "good") })
		require.Equal(t, "Forbidden: the account or the key can no longer be used", one.expectClose(4403))
		again.expectClose(4403)
		other.quiet()
	})
	t.Run("a key's sockets end with the key, and not its user's others", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		key, token := f.as(t, "key"), f.as(t, "good")
		r.change(func() { delete(r.viewers, "key") })
		require.Equal(t, "Forbidden: the account or the key can no longer be used", key.expectClose(4403))
		token.quiet()
	})
	t.Run("a lost right ends what had it", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		with, without := f.as(t, "root"), f.as(t, "fallen") // as a replica with an older answer
		r.change(func() { r.viewers["root"] = models.Viewer{UserID: 3} })
		require.Equal(t, "Forbidden: a right was taken back", with.expectClose(4403))
		without.quiet()
		key := f.as(t, "key")
		r.change(func() {
			r.viewers["key"] = models.Viewer{UserID: 1, APIKey: byKey.APIKey, Permissions: models.NewPermissionSet([]models.Permission{models.PermissionIngest})}
		})
		require.Equal(t, "Forbidden: a right was taken back", key.expectClose(4403))
	})
	t.Run("a right that is gained ends nothing", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		c := f.as(t, "good")
		r.change(func() { r.viewers["good"] = models.Viewer{UserID: 1, Superuser: true} })
		r.questions(t, 2)
		c.quiet()
	})
	t.Run("what cannot be asked ends nothing", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		c := f.as(t, "good")
		r.change(func() { r.away = true })
		r.questions(t, 2)
		c.quiet()
		r.change(func() { r.away = false; clear(r.viewers) })
		c.expectClose(4403)
	})
	t.Run("many sockets are one question", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		for i := range 100 {
			f.as(t, []string{"good", "long", "key", "root", "fallen"}[i%5])
		}
		for _, viewers := range r.questions(t, 3) {
			for i := range viewers {
				viewers[i].Superuser = false // root with an older answer or a newer one
			}
			require.ElementsMatch(t, []models.Viewer{{UserID: 1}, byKey, {UserID: 3}}, viewers)
		}
	})
	t.Run("nobody is asked for when nobody is there", func(t *testing.T) {
		t.Parallel()
		r := newRegistry()
		f := setup(t, r.config)
		for range 3 {
			c := f.as(t, "good")
			r.questions(t, 2)
			require.NoError(t, c.Close())
			require.Eventually(t, func() bool { return f.streams.Open() == 0 }, soon, time.Millisecond)
		}
		r.change(func() {})
		quiet := time.Now()
		require.Eventually(t, func() bool { return time.Since(quiet) > 100*time.Millisecond }, soon, 10*time.Millisecond)
		r.mu.Lock()
		defer r.mu.Unlock()
		require.LessOrEqual(t, len(r.asked), 1, "but for one that was under way")
	})
}

func TestStreams_Limits(t *testing.T) {
	t.Parallel()
	t.Run("a user has only so many, and a place that is left is free", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.PerUser = 2 })
		first := f.as(t, "good")
		first.send(`{"type":"ping","payload":{"authorization":"Bearer key"}}`)
		first.expect(`{"type":"pong","payload":{"authorized":true}}`)
		f.as(t, "key")
		third := f.dial(t)
		third.send(initOK)
		require.Equal(t, "Try again later: too many open connections of this user: at most 2", third.expectClose(1013))
		f.as(t, "other").quiet()
		first.send(`{"type":"ping","payload":{"authorization":"Bearer good"}}`)
		first.expect(`{"type":"pong","payload":{"authorized":true}}`)
		require.NoError(t, first.Close())
		require.Eventually(t, func() bool { return f.streams.Open() <= 2 }, soon, time.Millisecond)
		f.as(t, "good").quiet()
	})
	t.Run("a herd is authenticated a few at a time", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		now, most := 0, 0
		answer := make(chan struct{})
		f := setup(t, func(cfg *server.StreamsConfig) {
			cfg.Settings.Authenticating = 3
			cfg.Settings.InitTimeout = soon
			cfg.Authenticate = func(ctx context.Context, bearer string) (server.Session, error) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					now--
				}()
				<-answer
				return authenticate(ctx, bearer)
			}
		})
		clients := make([]client, 100)
		for i := range clients {
			clients[i] = f.dial(t)
		}
		for _, c := range clients {
			c.send(initOK)
		}
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return now == 3
		}, soon, time.Millisecond)
		for range clients {
			answer <- struct{}{}
		}
		for _, c := range clients {
			c.expect(ack)
		}
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 3, most)
	})
	t.Run("subscriptions begin a few at a time, and hold up nothing else", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.Beginning = 2 })
		asked, answer := make(chan struct{}, 5), make(chan struct{})
		f.watch = func(context.Context) (<-chan *models.RunEvent, error) {
			asked <- struct{}{}
			<-answer
			return counting(1, 1), nil
		}
		clients := make([]client, 5)
		for i := range clients {
			clients[i] = f.ready(t)
			clients[i].send(subscribe("1", watch))
		}
		<-asked
		<-asked
		f.ready(t).quiet()
		require.Empty(t, asked)
		clients[4].send(`{"id":"1","type":"complete"}`) // whether it has begun or waits
		clients[4].quiet()
		close(answer)
		for _, c := range clients[:4] {
			c.expect(next("1", 1))
		}
	})
	t.Run("beyond the queue they are sent away over a while", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) {
			cfg.Settings.Authenticating, cfg.Settings.Waiting, cfg.Settings.InitTimeout = 1, 2, 20*time.Second
		})
		hanging := `{"type":"connection_init","payload":{"authorization":"Bearer hang"}}`
		inside, waiting := f.dial(t), f.dial(t)
		inside.send(hanging)
		waiting.send(hanging)
		clock := begin(t)
		clients := make([]client, 20)
		for i := range clients {
			clients[i] = f.dial(t)
		}
		var closed sync.WaitGroup
		ended := make(chan time.Duration, len(clients))
		for _, c := range clients {
			closed.Go(func() {
				for c.WriteMessage(1, []byte(initOK)) == nil {
					if _, _, err := c.ReadMessage(); err != nil { // unless it came before the two
						break
					}
				}
				ended <- clock.took()
			})
		}
		closed.Wait()
		close(ended)
		var times []time.Duration
		for at := range ended {
			times = append(times, at)
		}
		slices.Sort(times)
		last := times[len(times)-3] // two may have come to a place in the queue before those for whom it is, and wait there for long
		require.Greater(t, last-times[0], 300*time.Millisecond, "not all at once")
		require.Less(t, last, 5*time.Second)
	})
}

// steady is a source that says something, pauses and says something again, and never ends by itself.
func steady(ctx context.Context, stop <-chan struct{}, pause time.Duration) <-chan *models.RunEvent {
	events := make(chan *models.RunEvent)
	go func() {
		defer close(events)
		for version := 1; ; version++ {
			select {
			case events <- event(version):
			case <-ctx.Done():
				return
			case <-stop:
				return
			}
			wait.For(ctx, pause)
		}
	}()
	return events
}

func TestStreams_TokensEnd(t *testing.T) {
	t.Parallel()
	t.Run("within a second of their time", func(t *testing.T) {
		t.Parallel()
		c := setup(t).as(t, "second")
		clock := begin(t)
		require.Equal(t, "Forbidden: the token has expired", c.expectClose(4403))
		require.Less(t, clock.took(), 2*time.Second)
	})
	t.Run("unless a newer one came, and no stream notices", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		stop := make(chan struct{})
		f.watch = func(ctx context.Context) (<-chan *models.RunEvent, error) {
			return steady(ctx, stop, 20*time.Millisecond), nil
		}
		c := f.as(t, "seconds")
		c.send(subscribe("1", watch))
		c.expect(next("1", 1))
		c.send(`{"type":"ping","payload":{"authorization":"Bearer long"}}`)
		began, version := time.Now(), 1
		renewed := false
		for time.Since(began) < 3500*time.Millisecond {
			message := c.receive()
			if message == `{"type":"pong","payload":{"authorized":true,"expires":"2100-01-01T00:00:00Z"}}` {
				renewed = true
				continue
			}
			version++
			require.JSONEq(t, next("1", version), message)
		}
		close(stop)
		require.True(t, renewed)
	})
	t.Run("an older one is not prolonged by a newer one that is refused", func(t *testing.T) {
		t.Parallel()
		c := setup(t).as(t, "second")
		c.send(`{"type":"ping","payload":{"authorization":"Bearer other"}}`)
		c.expectClose(4403)
	})
}
