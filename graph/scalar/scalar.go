// Package scalar reads and writes the leaves of the graph strictly: nothing is coerced that the GraphQL specification does not coerce,
// and nothing gets in that the databases could not store.
package scalar

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

func MarshalInt(n int) graphql.Marshaler { return graphql.MarshalInt(n) }

// UnmarshalInt takes a whole number of 32 bits.
func UnmarshalInt(v any) (int, error) {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case float64:
		if n = int64(v); float64(n) != v {
			return 0, invalid(v, "a whole number")
		}
	case json.Number:
		var err error
		if n, err = v.Int64(); err != nil {
			f, err := v.Float64()
			if n = int64(f); err != nil || math.Abs(f) > math.MaxInt32 || float64(n) != f {
				return 0, invalid(v, "a whole number of 32 bits")
			}
		}
	default:
		return 0, invalid(v, "a whole number")
	}
	if n < math.MinInt32 || n > math.MaxInt32 {
		return 0, invalid(v, "a whole number of 32 bits")
	}
	return int(n), nil
}

// MarshalFloat writes a finite number; GraphQL has no other.
func MarshalFloat(f float64) graphql.ContextMarshaler { return graphql.MarshalFloatContext(f) }

// UnmarshalFloat takes a finite number.
func UnmarshalFloat(_ context.Context, v any) (float64, error) {
	var f float64
	var err error
	switch v := v.(type) {
	case int:
		f = float64(v)
	case int64:
		f = float64(v)
	case float64:
		f = v
	case json.Number:
		f, err = v.Float64()
	default:
		return 0, invalid(v, "a number")
	}
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, invalid(v, "a finite number")
	}
	return f, nil
}

func MarshalBoolean(b bool) graphql.Marshaler { return graphql.MarshalBoolean(b) }

// UnmarshalBoolean takes true and false.
func UnmarshalBoolean(v any) (bool, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	return false, invalid(v, "true or false")
}

func MarshalString(s string) graphql.Marshaler { return graphql.MarshalString(s) }

// UnmarshalString takes text that the databases can store.
func UnmarshalString(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", invalid(v, "text")
	}
	return s, models.CheckText(s)
}

func MarshalID(id string) graphql.Marshaler { return graphql.MarshalString(id) }

// UnmarshalID takes text and, as GraphQL wants it, whole numbers.
func UnmarshalID(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, models.CheckText(v)
	case int, int64, json.Number:
		return stringOf(v), nil
	default:
		return "", invalid(v, "an id")
	}
}

const dateTime = "2006-01-02T15:04:05.000Z07:00"

func MarshalDateTime(t time.Time) graphql.Marshaler { return written(AppendDateTime, t) }

// UnmarshalDateTime takes RFC 3339 with an offset, within the years that both databases can hold.
func UnmarshalDateTime(v any) (time.Time, error) {
	if s, ok := v.(string); ok {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			return t, nil
		}
	}
	return time.Time{}, invalid(v, "an instant in RFC 3339 with an offset, such as 2026-11-23T09:30:00.000Z")
}

// MarshalDate writes the day that t is in, in UTC.
func MarshalDate(t time.Time) graphql.Marshaler { return written(AppendDate, t) }

// UnmarshalDate takes a day as the beginning of it in UTC.
func UnmarshalDate(v any) (time.Time, error) {
	if s, ok := v.(string); ok {
		if t, err := time.Parse(time.DateOnly, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, invalid(v, "a day, such as 2026-11-23")
}

func MarshalUUID(u uuid.UUID) graphql.Marshaler { return written(AppendUUID, u) }

// UnmarshalUUID takes the canonical text form.
func UnmarshalUUID(v any) (uuid.UUID, error) {
	if s, ok := v.(string); ok && len(s) == 36 {
		if u, err := uuid.Parse(s); err == nil {
			return u, nil
		}
	}
	return uuid.Nil, invalid(v, "a UUID")
}

func MarshalBigInt(n int64) graphql.Marshaler { return written(AppendBigInt, n) }

// UnmarshalBigInt takes a whole number of 64 bits as text, or as a number where it is exact.
func UnmarshalBigInt(v any) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case string, json.Number:
		if n, err := strconv.ParseInt(stringOf(v), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, invalid(v, "a whole number of 64 bits")
}

func stringOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// written is a value that Append… writes.
func written[V any](write func([]byte, V) []byte, value V) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) { _, _ = w.Write(write(make([]byte, 0, 40), value)) }) // a buffer
}

func invalid(v any, want string) error {
	text := stringOf(v)
	if len(text) > 40 || text == "" {
		return models.Errorf(models.BadUserInput, "expected %s", want)
	}
	return models.Errorf(models.BadUserInput, "expected %s, not %q", want, text)
}
