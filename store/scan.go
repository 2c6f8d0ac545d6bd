package store

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/netra-ai/netra/models"
)

// target takes the rows of a query as they come off the wire. It is the query's first argument, which conn keeps for itself: database/sql
// would make a value of its own of every column, for bun to convert and to store.
type target interface {
	take(result pgx.Rows, types *pgtype.Map) error
}

// found is a target for rows as T, a struct that bun knows or a pointer to one.
type found[T any] struct {
	db   *bun.DB
	rows []T
}

// Structs are made in blocks, the first for one row: an operation needs all of its rows or none.
const (
	firstBlock = 1
	lastBlock  = 64
)

func (f *found[T]) take(result pgx.Rows, types *pgtype.Map) error {
	f.rows = nil
	of := reflect.TypeFor[T]()
	isPointer := of.Kind() == reflect.Pointer
	if isPointer {
		of = of.Elem()
	}
	var columns []column
	var block reflect.Value
	size, used := firstBlock, 0
	for result.Next() {
		if columns == nil {
			var err error
			if columns, err = columnsOf(f.db.Table(of), result.FieldDescriptions(), types); err != nil {
				return err
			}
		}
		if !block.IsValid() || used == block.Len() {
			block, used = reflect.MakeSlice(reflect.SliceOf(of), size, size), 0
			size = min(4*size, lastBlock)
		}
		row := block.Index(used)
		used++
		for i, raw := range result.RawValues() {
			if err := columns[i].scan(raw, row); err != nil {
				return fmt.Errorf("scan column %s: %w", columns[i].field.Name, err)
			}
		}
		if isPointer {
			row = row.Addr()
		}
		f.rows = append(f.rows, row.Interface().(T))
	}
	return result.Err()
}

// column is how a column of a result is stored.
type column struct {
	field *schema.Field
	store func(raw []byte, into reflect.Value) error // of any value but NULL
}

func columnsOf(table *schema.Table, fields []pgconn.FieldDescription, types *pgtype.Map) ([]column, error) {
	columns := make([]column, len(fields))
	for i, description := range fields {
		field := table.LookupField(description.Name)
		if field == nil {
			return nil, fmt.Errorf("%s has no field for column %s", table.TypeName, description.Name)
		}
		columns[i] = column{field, storer(field, description, types)}
	}
	return columns, nil
}

// scan stores into a new struct, in which NULL is what is there already, unless its field has its own idea of it.
func (c column) scan(raw []byte, row reflect.Value) error {
	if raw == nil {
		return c.field.ScanValue(row, nil)
	}
	return c.store(raw, c.field.Value(row))
}

// storer stores what the hot tables are made of as it comes, and leaves everything else to pgx and bun.
func storer(field *schema.Field, description pgconn.FieldDescription, types *pgtype.Map) func([]byte, reflect.Value) error {
	store := storerOf(field.IndirectType, description)
	switch {
	case store == nil:
		convert := converter(description, types)
		return func(raw []byte, into reflect.Value) error {
			value, err := convert(raw)
			if err != nil {
				return err
			}
			return field.ScanWithCheck(into, value)
		}
	case field.IsPtr:
		return func(raw []byte, into reflect.Value) error {
			value := reflect.New(field.IndirectType)
			into.Set(value)
			return store(raw, value.Elem())
		}
	default:
		return store
	}
}

func storerOf(of reflect.Type, description pgconn.FieldDescription) func([]byte, reflect.Value) error {
	binaryFormat, oid := description.Format == pgtype.BinaryFormatCode, description.DataTypeOID
	switch {
	case binaryFormat && oid == pgtype.UUIDOID && of == reflect.TypeFor[uuid.UUID]():
		return func(raw []byte, into reflect.Value) error {
			copy(into.Addr().Interface().(*uuid.UUID)[:], raw)
			return nil
		}
	case binaryFormat && oid == pgtype.TimestamptzOID && of == reflect.TypeFor[time.Time]():
		return func(raw []byte, into reflect.Value) (err error) {
			*into.Addr().Interface().(*time.Time), err = instant(raw)
			return err
		}
	case binaryFormat && oid == pgtype.JSONBOID && of == reflect.TypeFor[models.JSON]():
		return func(raw []byte, into reflect.Value) error {
			into.SetBytes(append([]byte(nil), raw[1:]...)) // the first byte is the format's version
			return nil
		}
	case reflect.PointerTo(of).Implements(reflect.TypeFor[sql.Scanner]()):
		return nil
	case binaryFormat && oid == pgtype.Int4OID && reflect.Zero(of).CanInt():
		return func(raw []byte, into reflect.Value) error {
			into.SetInt(int64(int32(binary.BigEndian.Uint32(raw))))
			return nil
		}
	case binaryFormat && oid == pgtype.Int8OID && reflect.Zero(of).CanInt():
		return func(raw []byte, into reflect.Value) error {
			into.SetInt(int64(binary.BigEndian.Uint64(raw)))
			return nil
		}
	case binaryFormat && oid == pgtype.BoolOID && of.Kind() == reflect.Bool:
		return func(raw []byte, into reflect.Value) error {
			into.SetBool(raw[0] != 0)
			return nil
		}
	case of.Kind() == reflect.String && (oid == pgtype.TextOID || oid == pgtype.VarcharOID):
		if of == reflect.TypeFor[string]() {
			return func(raw []byte, into reflect.Value) error {
				into.SetString(string(raw))
				return nil
			}
		}
		known := map[string]string{} // a type of its own has few values
		return func(raw []byte, into reflect.Value) error {
			text, ok := known[string(raw)]
			if !ok {
				text = string(raw)
				known[text] = text
			}
			into.SetString(text)
			return nil
		}
	default:
		return nil
	}
}

// postgresEpoch is 2000-01-01 in microseconds of Unix time.
const postgresEpoch = 946684800_000000

// instant is a timestamptz in the binary format.
func instant(raw []byte) (time.Time, error) {
	micros := int64(binary.BigEndian.Uint64(raw))
	if micros == math.MaxInt64 || micros == math.MinInt64 {
		return time.Time{}, errors.New("an infinite time")
	}
	return time.UnixMicro(micros + postgresEpoch).UTC(), nil
}
