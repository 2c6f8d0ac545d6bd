// Package analytics is all of ClickHouse: each question is a small struct that knows its SQL, and every question passes one place
// that adds the tenants whom the viewer may see, the limits and the deadline.
package analytics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Config says which ClickHouse, and within which bounds.
type Config struct {
	URL         string        // http://user:password@host:port/database, or clickhouse://
	Deadline    time.Duration // for one question, waiting for a place included; 5 s unless set
	Concurrency int           // questions in ClickHouse at a time, the others wait; 16 unless set

	// RunsOfThreads says which thread each run of threads belongs to. It is asked once for a question about threads.
	RunsOfThreads func(ctx context.Context, threads []uuid.UUID) (map[uuid.UUID]uuid.UUID, error)
}

// Analytics answers questions from ClickHouse, each for the viewer of its context. As a prometheus.Collector it tells how they went.
type Analytics struct {
	conn     driver.Conn
	gate     *gate
	measures *measures

	runsOfThreads func(context.Context, []uuid.UUID) (map[uuid.UUID]uuid.UUID, error)
}

// Open makes an Analytics. It does not connect: a ClickHouse that is away is an error of the questions, not of Open.
func Open(cfg Config) (*Analytics, error) {
	options, err := clickhouse.ParseDSN(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the URL of ClickHouse: %w", err)
	}
	deadline, places := cfg.Deadline, cfg.Concurrency
	if deadline == 0 {
		deadline = 5 * time.Second
	}
	if places == 0 {
		places = 16
	}
	options.DialTimeout = 2 * time.Second
	options.ReadTimeout = deadline + time.Second
	// Whoever has a place has a connection: the client's own queue knows nothing of deadlines. The rest is for probes, and for
	// connections that are still on their way back.
	options.MaxOpenConns = places + 4
	options.MaxIdleConns = places
	options.ClientInfo.Products = append(options.ClientInfo.Products, struct{ Name, Version string }{"netra", "1"})
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	a := &Analytics{conn: conn, gate: newGate(deadline, places, conn.Ping), runsOfThreads: cfg.RunsOfThreads}
	a.measures = newMeasures(a.gate)
	return a, nil
}

// Close gives the connections back.
func (a *Analytics) Close() error { return a.conn.Close() }

// Ping asks whether ClickHouse answers. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.gate.deadline)
	defer cancel()
	return translate(ctx, a.conn.Ping(ctx))
}

// question is SQL with named parameters, put for a scope: its rows come from the scope's tables and begin with tenant and subject.
type question interface {
	SQL(scope) (text string, parameters clickhouse.Parameters)
}

// ask runs a question for those of subjects, all of one kind, whom the viewer may see, and hands each row to scan. When none is left it
// asks nothing.
func (a *Analytics) ask(ctx context.Context, q question, subjects []models.Subject, scan func(row) error) error {
	scope, err := a.newScope(ctx, subjects)
	if err != nil || scope.empty() {
		return err
	}
	text, parameters := q.SQL(scope)
	if scope.kind != models.SubjectPlatform && !strings.Contains(text, "{users:") {
		return fmt.Errorf("a question without its tenants: %T", q)
	}
	maps.Copy(parameters, scope.parameters())

	return a.send(ctx, reflect.TypeOf(q).Name(), scope.with()+text, parameters, func(rows driver.Rows) error { return scan(row{rows, scope.kind}) })
}

// send puts the SQL of the question of that name to ClickHouse, within its deadline. The name is for the metrics.
func (a *Analytics) send(ctx context.Context, name, text string, parameters clickhouse.Parameters, scan func(driver.Rows) error) error {
	started := time.Now()
	err := a.gate.pass(ctx, func(ctx context.Context) error {
		models.TallyFrom(ctx).Questions.Add(1)
		return a.query(ctx, text, parameters, scan)
	})
	a.measures.observe(name, err, time.Since(started))
	return err
}

func (a *Analytics) query(ctx context.Context, text string, parameters clickhouse.Parameters, scan func(driver.Rows) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asking := clickhouse.Context(untimed{ctx}, clickhouse.WithParameters(parameters), clickhouse.WithSettings(clickhouse.Settings{
		"max_memory_usage":   "2000000000",
		"max_rows_to_read":   "1000000000",
		"max_result_rows":    "1000000",
		"max_query_size":     "4000000", // the runs of threads are in the text
		"max_execution_time": executionTime(ctx),
		"readonly":           "2",
		"cancel_http_readonly_queries_on_client_close": "1",
	}))
	rows, err := a.conn.Query(asking, text)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			cancel() // or Close would read the rest of the answer
			return unreadable{err}
		}
	}
	return rows.Err()
}

// executionTime is what ClickHouse may take, in seconds: nine tenths of what is left, so that it can still say that it took too long.
// Silence until the deadline then means that it is away.
func executionTime(ctx context.Context) string {
	deadline, _ := ctx.Deadline()
	left := max(time.Until(deadline)*9/10, 10*time.Millisecond)
	return strconv.FormatFloat(left.Seconds(), 'f', 3, 64)
}

// untimed hides a deadline from the client, which would set a max_execution_time of its own, 5 s beyond it. The context ends all the same.
type untimed struct{ context.Context }

func (untimed) Deadline() (time.Time, bool) { return time.Time{}, false }

// translate gives ClickHouse's errors the code that clients can act on. ctx is the question's, with its deadline.
func translate(ctx context.Context, err error) error {
	var known *models.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return models.Wrap(err, models.Timeout, "analytics took too long")
	case ctx.Err() != nil:
		return ctx.Err() // the client has left
	case errors.As(err, new(unreadable)):
		return err
	}
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return models.Wrap(err, models.AnalyticsUnavailable, "analytics cannot be had now")
	}
	switch exception.Code {
	case 159, 160: // TIMEOUT_EXCEEDED, TOO_SLOW
		return models.Wrap(err, models.Timeout, "analytics took too long: ask for a shorter range, or for fewer objects at once")
	}
	switch {
	case overloaded(exception):
		return models.Wrap(err, models.AnalyticsUnavailable, "analytics cannot be had now")
	case tooMuch(exception):
		return models.Wrap(err, models.TooComplex, "this reads too much at once: ask for a shorter range, fewer metrics or fewer objects")
	default:
		return err
	}
}

const memoryLimitExceeded = 241 // of one query or of the whole server: only the words tell

// tooMuch is whether a limit of one question was reached.
func tooMuch(exception *clickhouse.Exception) bool {
	switch exception.Code {
	case 158, 191, 307, 396: // TOO_MANY_ROWS, SET_SIZE_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
		return true
	case memoryLimitExceeded:
		return strings.Contains(exception.Message, "Query memory limit") || strings.Contains(exception.Message, "(for query)")
	}
	return false
}

// overloaded is whether ClickHouse says that it can do nothing now, whatever the question.
func overloaded(exception *clickhouse.Exception) bool {
	switch exception.Code {
	case 202, 439, // TOO_MANY_SIMULTANEOUS_QUERIES, CANNOT_SCHEDULE_TASK
		209, 210, 279, // SOCKET_TIMEOUT, NETWORK_ERROR, ALL_CONNECTION_TRIES_FAILED: of one of its servers to another
		242, 394, 516: // TABLE_IS_READ_ONLY, QUERY_WAS_CANCELLED (by an operator, or in a shutdown), AUTHENTICATION_FAILED
		return true
	case memoryLimitExceeded:
		return !tooMuch(exception)
	}
	return false
}

const maxRange = 366 * 24 * time.Hour // a year: what the aggregates keep

// checkRange fails with BadUserInput.
func checkRange(span models.TimeRange) error {
	switch {
	case !span.From.Before(span.To):
		return models.Errorf(models.BadUserInput, "range: from must be before to")
	case span.To.Sub(span.From) > maxRange:
		return models.Errorf(models.BadUserInput, "range: at most %d days", int(maxRange.Hours()/24))
	case span.From.Year() < 1970 || span.To.Year() > 2105:
		return models.Errorf(models.BadUserInput, "range: between the years 1970 and 2105")
	}
	return nil
}

// numbers and texts write arrays as ClickHouse's parameters want them.

func numbers(values []int) string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = strconv.Itoa(value)
	}
	return "[" + strings.Join(list, ",") + "]"
}

func texts(values []string) string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = "'" + escape.Replace(value) + "'"
	}
	return "[" + strings.Join(list, ",") + "]"
}

var escape = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\t", `\t`, "\r", `\r`)
