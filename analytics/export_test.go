package analytics

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/netra-ai/netra/models"
)

// SQL is the text and the parameters of a question, as the viewer of ctx would send it.
func (a *Analytics) SQL(ctx context.Context, q question, subjects ...models.Subject) (string, clickhouse.Parameters, error) {
	scope, err := a.newScope(ctx, subjects)
	if err != nil {
		return "", nil, err
	}
	text, parameters := q.SQL(scope)
	return scope.with() + text, parameters, nil
}

// Send puts any SQL the way that questions go.
func (a *Analytics) Send(ctx context.Context, text string) error {
	return a.send(ctx, "Test", text, nil, func(driver.Rows) error { return nil })
}

// Translate is what becomes of an error of ClickHouse's.
func Translate(err error) error { return translate(context.Background(), err) }

// Borders of the steps, in milliseconds since 1970.
func (q Series) Borders() []int64 { return q.values.borders }
