package ingest

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxAction      = 100    // bytes of an action's name
	maxUserActions = 200    // names of one user and day; others are counted together
	maxActions     = 50_000 // of all users and names of a day
	otherActions   = "other"

	// activityEvery is how often what users do is sent, which is how much of it a crash of the process may lose. ClickHouse makes a part of a table of each insert,
	// which costs as much as thousands of rows.
	activityEvery = 10 * time.Second
)

// activity adds up what users do until it is flushed.
type activity struct {
	mu      sync.Mutex
	day     int64             // since 1970, of known
	names   map[string]uint32 // numbers of the day's names: most users' are the same
	known   map[did]*tally    // of the day
	of      map[uint32]int    // names of each user in known
	others  map[uint32]*tally // what has other names, since the last flush, by the user
	counted []*tally          // what is to be flushed
}

// did is a user and the number of a name.
type did struct{ user, name uint32 }

// tally is what a user did by one name on a day.
type tally struct {
	day    int64
	user   uint32
	action string
	count  uint64
	spent  time.Duration
}

func newActivity() *activity {
	return &activity{names: map[string]uint32{}, known: map[did]*tally{}, of: map[uint32]int{}, others: map[uint32]*tally{}}
}

// Activity counts one operation of a user for user_activity: what it was called and how long it took. It costs a look into two maps; what a crash of
// the process may lose is the last ten seconds of it.
func (i *Ingester) Activity(userID int, action string, took time.Duration) {
	i.activity.add(time.Now(), uint32(userID), action, 1, took)
}

func (a *activity) add(at time.Time, user uint32, action string, count uint64, spent time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if day := at.Unix() / 86400; day != a.day {
		a.day = day
		clear(a.names)
		clear(a.known)
		clear(a.of)
		clear(a.others)
	}
	t := a.tally(user, action)
	if t.count == 0 {
		a.counted = append(a.counted, t)
	}
	t.count += count
	t.spent += spent
}

// tally bounds the names, which clients choose.
func (a *activity) tally(user uint32, action string) *tally {
	if len(action) > maxAction {
		cut := maxAction
		for cut > 0 && !utf8.RuneStart(action[cut]) {
			cut--
		}
		action = action[:cut]
	}
	name, named := a.names[action]
	if t := a.known[did{user, name}]; named && t != nil {
		return t
	}
	if a.of[user] >= maxUserActions || len(a.known) >= maxActions {
		t := a.others[user]
		if t == nil {
			t = &tally{day: a.day, user: user, action: otherActions}
			a.others[user] = t
		}
		return t
	}
	action = strings.Clone(action) // which is a part of a document
	if !named {
		name = uint32(len(a.names))
		a.names[action] = name
	}
	t := &tally{day: a.day, user: user, action: action}
	a.known[did{user, name}] = t
	a.of[user]++
	return t
}

func (a *activity) take() []tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.counted) == 0 {
		return nil
	}
	taken := make([]tally, len(a.counted))
	for i, t := range a.counted {
		taken[i] = *t
		t.count, t.spent = 0, 0
	}
	clear(a.counted)
	a.counted = a.counted[:0]
	clear(a.others)
	return taken
}

func (a *activity) giveBack(taken []tally) {
	for _, t := range taken {
		a.add(time.Unix(t.day*86400, 0), t.user, t.action, t.count, t.spent)
	}
}

// flushActivity sends what was counted the way of events. What cannot be spooled is counted on.
func (i *Ingester) flushActivity(ctx context.Context) {
	taken := i.activity.take()
	if taken == nil {
		return
	}
	b := newBlock(activityTable)
	for _, t := range taken {
		b.rows++
		b.sections[activityDate] = append(b.sections[activityDate], byte(t.day), byte(t.day>>8))
		b.put32(activityUser, t.user)
		b.putText(activityAction, []byte(t.action))
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
