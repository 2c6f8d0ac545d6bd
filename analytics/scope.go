package analytics

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

const (
	maxSubjects = 10_000
	maxRuns     = 20_000     // of all threads of one question
	maxKeys     = 256 * 1024 // bytes of workload ids in one question, which travel in a URL
)

// scope is whose events a question is about: subjects of one kind, all of which the viewer may see. Every row that a question reads comes
// from a select of its scope, which is where the tenants are.
type scope struct {
	kind  models.SubjectKind
	now   time.Time // what has expired is gone by this clock
	users []int     // the tenants; [0] for the platform
	keys  []key     // workloads or threads
	runs  []run     // of the threads
}

type key struct {
	user int
	id   string
}

type run struct{ id, thread uuid.UUID }

// newScope leaves out whom the viewer may not see; nobody may be left. Only a superuser may ask about the platform. It fails with
// Unauthenticated, Forbidden and TooComplex.
func (a *Analytics) newScope(ctx context.Context, subjects []models.Subject) (scope, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return scope{}, err
	}
	s := scope{now: time.Now().UTC()}
	seen := make(map[models.Subject]bool, len(subjects))
	size := 0
	for i, subject := range subjects {
		if i > 0 && subject.Kind != s.kind {
			panic("analytics: a question about subjects of two kinds")
		}
		s.kind = subject.Kind
		if subject.Kind == models.SubjectPlatform && !viewer.Superuser {
			return scope{}, models.Errorf(models.Forbidden, "only superusers may ask for this")
		}
		if seen[subject] || !viewer.Superuser && subject.UserID != viewer.UserID {
			continue
		}
		seen[subject] = true
		s.users = append(s.users, subject.UserID)
		if subject.Kind == models.SubjectWorkload || subject.Kind == models.SubjectThread {
			s.keys = append(s.keys, key{subject.UserID, subject.ID})
			size += len(subject.ID)
		}
	}
	if len(seen) > maxSubjects || size > maxKeys {
		return scope{}, models.Errorf(models.TooComplex, "analytics of at most %d objects at once", maxSubjects)
	}
	slices.Sort(s.users)
	s.users = slices.Compact(s.users)
	if s.kind == models.SubjectThread && len(s.keys) > 0 {
		s.runs, err = a.runsOf(ctx, s.keys)
	}
	return s, err
}

// runsOf asks which runs the threads have.
func (a *Analytics) runsOf(ctx context.Context, threads []key) ([]run, error) {
	if a.runsOfThreads == nil {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(threads))
	for i, thread := range threads {
		id, err := uuid.Parse(thread.id)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	found, err := a.runsOfThreads(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(found) > maxRuns {
		return nil, models.Errorf(models.TooComplex, "analytics of threads with at most %d runs together", maxRuns)
	}
	runs := make([]run, 0, len(found))
	for id, thread := range found {
		runs = append(runs, run{id, thread})
	}
	slices.SortFunc(runs, func(a, b run) int { return slices.Compare(a.id[:], b.id[:]) })
	return runs, nil
}

// empty says that there is nobody to ask about.
func (s scope) empty() bool { return len(s.users) == 0 }

// byUser says that the subjects are tenants, or everybody: the tables by user can answer.
func (s scope) byUser() bool { return s.kind == models.SubjectUser || s.kind == models.SubjectPlatform }

// table is what a question reads.
type table struct {
	name     string
	everyone bool   // the table has rows of user 0, which are about everybody
	thread   string // the expression for the id of an event's thread; empty where the table does not know workloads
	unfold   string // what follows the table's name
}

var (
	workloadEvents    = table{name: "workload_events", thread: "dimensions['thread_id']"}
	metricValues      = table{name: "workload_events", thread: "dimensions['thread_id']", unfold: unfoldMetrics} // a row for each value
	aggregatedMetrics = table{name: "aggregated_metrics", thread: "thread_id"}
	metricSums        = table{name: "metric_sums", everyone: true}
	metricBins        = table{name: "metric_bins", everyone: true}
	metricDimensions  = table{name: "metric_dimensions", everyone: true}
	userActivity      = table{name: "user_activity"}
)

// unfoldMetrics names the parts of a value as the aggregates name theirs. Unfolded as one column, they would have to be put together and taken apart again.
const unfoldMetrics = " ARRAY JOIN metrics.name AS metric_name, metrics.value AS value, metrics.unit AS unit"

// source is one way in which rows of a table belong to the scope: whose they are, and which they are.
type source struct{ user, id, where string }

func (s scope) sources(t table) []source {
	const tenants = "user_id IN {users:Array(UInt32)}"
	switch {
	case s.kind == models.SubjectPlatform && t.everyone:
		return []source{{"user_id", "''", tenants}}
	case s.kind == models.SubjectPlatform:
		return []source{{"toUInt32(0)", "''", "1"}}
	case s.kind == models.SubjectUser:
		return []source{{"user_id", "''", tenants}}
	case t.thread == "":
		panic("analytics: " + t.name + " does not know workloads")
	case s.kind == models.SubjectWorkload:
		return []source{s.exact(source{"user_id", "workload_id", tenants + " AND workload_id IN {ids:Array(String)}"})}
	}
	dimension := source{"user_id", t.thread, tenants + " AND " + t.thread + " IN {ids:Array(String)}"}
	if len(s.runs) == 0 {
		return []source{s.exact(dimension)}
	}
	// An event of a thread's run that also names the thread counts once.
	const owner = "transform(workload_id, runs, threads, '')"
	dimension.where += " AND " + owner + " != " + t.thread
	return []source{s.exact(source{"user_id", owner, tenants + " AND workload_id IN runs"}), s.exact(dimension)}
}

// exact keeps one tenant's workload from being taken for another's of the same id.
func (s scope) exact(from source) source {
	if len(s.users) > 1 {
		from.where += " AND (user_id, " + from.id + ") IN {keys:Array(Tuple(UInt32, String))}"
	}
	return from
}

// from selects columns of the scope's rows, after the columns tenant and subject, which say whose they are.
func (s scope) from(t table, columns, where string) string {
	var selects []string
	for _, source := range s.sources(t) {
		selects = append(selects, "SELECT "+source.user+" AS tenant, "+source.id+" AS subject, "+columns+
			" FROM "+t.name+t.unfold+" WHERE "+source.where+" AND "+where)
	}
	return strings.Join(selects, " UNION ALL ")
}

// with names the runs of the threads, in front of a question's text: too many for a parameter.
func (s scope) with() string {
	if len(s.runs) == 0 {
		return ""
	}
	var runs, threads strings.Builder
	for i, run := range s.runs {
		if i > 0 {
			runs.WriteByte(',')
			threads.WriteByte(',')
		}
		runs.WriteString("'" + run.id.String() + "'")
		threads.WriteString("'" + run.thread.String() + "'")
	}
	return "WITH [" + runs.String() + "] AS runs, [" + threads.String() + "] AS threads "
}

// parameters are what the sources mention.
func (s scope) parameters() clickhouse.Parameters {
	parameters := clickhouse.Parameters{"users": numbers(s.users)}
	if s.byUser() {
		return parameters
	}
	ids, keys := make([]string, len(s.keys)), make([]string, len(s.keys))
	for i, key := range s.keys {
		ids[i] = key.id
		keys[i] = "(" + strconv.Itoa(key.user) + ",'" + escape.Replace(key.id) + "')"
	}
	parameters["ids"] = texts(ids)
	if len(s.users) > 1 {
		parameters["keys"] = "[" + strings.Join(keys, ",") + "]"
	}
	return parameters
}

// row is a row of an answer, which begins with the columns tenant and subject.
type row struct {
	driver.Rows
	kind models.SubjectKind
}

// read scans what follows tenant and subject, and says whose row it is.
func (r row) read(into ...any) (models.Subject, error) {
	var tenant uint32
	subject := models.Subject{Kind: r.kind}
	if err := r.Scan(append([]any{&tenant, &subject.ID}, into...)...); err != nil {
		return models.Subject{}, err
	}
	subject.UserID = int(tenant)
	return subject, nil
}
