package ingest

import (
	"context"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxAction      = 100    // bytes of an action's name
	maxUserActions = 200    // names of one user and day; others are counted together
	maxActions     = 50_000 // names of all users of a day
	otherActions   = "other"
)

// activity adds up what users do until it is flushed.
type activity struct {
	mu     sync.Mutex
	counts map[deed]*tally
	day    int64                          // since 1970, of known
	known  map[uint32]map[string]struct{} // the names of the day
	names  int
}

type deed struct {
	day    int64
	user   uint32
	action string
}

type tally struct {
	count uint64
	spent time.Duration
}

func newActivity() *activity {
	return &activity{counts: map[deed]*tally{}, known: map[uint32]map[string]struct{}{}}
}

// Activity counts one operation of a user for user_activity: what it was called and how long it took. It costs a look into a map; what a crash of
// the process may lose is the last second of it.
func (i *Ingester) Activity(userID int, action string, took time.Duration) {
	i.activity.add(time.Now(), uint32(userID), action, 1, took)
}

func (a *activity) add(at time.Time, user uint32, action string, count uint64, spent time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := deed{day: at.Unix() / 86400, user: user}
	d.action = a.admit(d.day, user, action)
	t := a.counts[d]
	if t == nil {
		t = &tally{}
		a.counts[d] = t
	}
	t.count += count
	t.spent += spent
}

// admit bounds the names, which clients choose.
func (a *activity) admit(day int64, user uint32, action string) string {
	if day != a.day {
		a.day, a.names = day, 0
		clear(a.known)
	}
	if len(action) > maxAction {
		cut := maxAction
		for cut > 0 && !utf8.RuneStart(action[cut]) {
			cut--
		}
		action = action[:cut]
	}
	names := a.known[user]
	if _, ok := names[action]; ok {
		return action
	}
	if len(names) >= maxUserActions || a.names >= maxActions {
		return otherActions
	}
	if names == nil {
		names = map[string]struct{}{}
		a.known[user] = names
	}
	names[action] = struct{}{}
	a.names++
	return action
}

func (a *activity) take() map[deed]*tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.counts) == 0 {
		return nil
	}
	taken := a.counts
	a.counts = make(map[deed]*tally, len(taken))
	return taken
}

func (a *activity) giveBack(taken map[deed]*tally) {
	for d, t := range taken {
		a.add(time.Unix(d.day*86400, 0), d.user, d.action, t.count, t.spent)
	}
}

// flushActivity sends what was counted the way of events. What cannot be spooled is counted on.
func (i *Ingester) flushActivity(ctx context.Context) {
	taken := i.activity.take()
	if taken == nil {
		return
	}
	b := newBlock(activityTable)
	for d, t := range taken {
		b.rows++
		b.sections[activityDate] = append(b.sections[activityDate], byte(d.day), byte(d.day>>8))
		b.put32(activityUser, d.user)
		b.putText(activityAction, []byte(d.action))
		b.put64(activityCount, t.count)
		// What is left of a millisecond is not much beside the next count's; dropping it would make quick operations free.
		b.put64(activityDuration, uint64((t.spent+time.Millisecond/2)/time.Millisecond))
	}
	if err := i.write(b); err != nil {
		i.activity.giveBack(taken)
		i.log.WarnContext(ctx, "user activity could not be spooled and will be tried again", "error", err)
		return
	}
	i.accepted.Add(int64(len(taken)))
}
