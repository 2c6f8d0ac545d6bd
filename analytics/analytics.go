// Package analytics is all of ClickHouse: each question is a small struct that knows its SQL, and every question passes one place
// that adds the tenants whom the viewer may see, the limits and the deadline.
package analytics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/netra-ai/netra/models"
)

// Config says which ClickHouse, and within which bounds.
type Config struct {
	URL      string        // http://user:password@host:port/database, or clickhouse://
	Deadline time.Duration // for one question; 5 s unless set
}

// Analytics answers questions from ClickHouse, each for the viewer of its context.
type Analytics struct {
	conn     driver.Conn
	deadline time.Duration
}

// Open makes an Analytics. It does not connect: a ClickHouse that is away is an error of the questions, not of Open.
func Open(cfg Config) (*Analytics, error) {
	options, err := clickhouse.ParseDSN(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the URL of ClickHouse: %w", err)
	}
	deadline := cfg.Deadline
	if deadline == 0 {
		deadline = 5 * time.Second
	}
	options.DialTimeout = 2 * time.Second
	options.ReadTimeout = deadline + time.Second
	options.MaxOpenConns = 16
	options.MaxIdleConns = 8
	options.ClientInfo.Products = append(options.ClientInfo.Products, struct{ Name, Version string }{"netra", "1"})
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return &Analytics{conn: conn, deadline: deadline}, nil
}

// Close gives the connections back.
func (a *Analytics) Close() error { return a.conn.Close() }

// Ping asks whether ClickHouse answers. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.deadline)
	defer cancel()
	return translate(ctx, a.conn.Ping(ctx))
}

// question is SQL with named parameters. `{users:Array(UInt32)}` is always given: the tenants of the question.
type question interface {
	SQL() (text string, parameters clickhouse.Parameters)
}

// ask runs a question for those of users whom the viewer may see, and hands each row to scan.
func (a *Analytics) ask(ctx context.Context, q question, users []int, scan func(driver.Rows) error) error {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return err
	}
	if !viewer.Superuser {
		users = slices.DeleteFunc(slices.Clone(users), func(id int) bool { return id != viewer.UserID })
	}
	if len(users) == 0 {
		return nil
	}
	text, parameters := q.SQL()
	parameters["users"] = numbers(users)

	asking, cancel := context.WithTimeout(ctx, a.deadline)
	defer cancel()
	asking = clickhouse.Context(asking, clickhouse.WithParameters(parameters), clickhouse.WithSettings(clickhouse.Settings{
		"max_memory_usage": "2000000000",
		"max_rows_to_read": "1000000000",
		"max_result_rows":  "1000000",
		"readonly":         "2",
		"cancel_http_readonly_queries_on_client_close": "1",
	}))
	models.TallyFrom(ctx).Questions.Add(1)
	rows, err := a.conn.Query(asking, text)
	if err != nil {
		return translate(asking, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return translate(asking, err)
		}
	}
	return translate(asking, rows.Err())
}

// translate gives ClickHouse's errors the code that clients can act on.
func translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return models.Wrap(err, models.Timeout, "analytics took too long")
	case ctx.Err() != nil:
		return ctx.Err() // the client has left
	}
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		switch exception.Code {
		case 159, 160: // TIMEOUT_EXCEEDED, TOO_SLOW
			return models.Wrap(err, models.Timeout, "analytics took too long")
		case 202, 210, 241, 242, 439: // TOO_MANY_SIMULTANEOUS_QUERIES, NETWORK_ERROR, MEMORY_LIMIT_EXCEEDED, TABLE_IS_READ_ONLY, CANNOT_SCHEDULE_TASK
			return models.Wrap(err, models.AnalyticsUnavailable, "analytics cannot be had now")
		default:
			return err
		}
	}
	return models.Wrap(err, models.AnalyticsUnavailable, "analytics cannot be had now")
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
