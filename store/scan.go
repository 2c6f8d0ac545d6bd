package store

import (
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/netra-ai/netra/models"
)

// target takes the rows of a query as they come off the wire: database/sql would make a value of its own of every column, for bun to convert and to store.
type target interface {
	take(result pgx.Rows, types *pgtype.Map) error
}

// found is a target for rows as T, a struct that bun knows or a pointer to one.
type found[T any] struct {
	db   *bun.DB
	rows []T
}

// taken is the rows, unless something went wrong.
func (f *found[T]) taken(err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return f.rows, nil
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
	var into texts
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
		row := unsafe.Add(block.UnsafePointer(), uintptr(used)*of.Size())
		for i, raw := range result.RawValues() {
			var err error
			switch c := &columns[i]; {
			case c.store == nil:
				err = c.scan(raw, block.Index(used))
			case raw != nil: // in a new struct NULL is what is there already
				err = c.store(&into, c, raw, unsafe.Add(row, c.offset))
			}
			if err != nil {
				return fmt.Errorf("scan column %s: %w", columns[i].field.Name, err)
			}
		}
		used++
		if isPointer {
			f.rows = append(f.rows, *(*T)(unsafe.Pointer(&row)))
		} else {
			f.rows = append(f.rows, *(*T)(row))
		}
	}
	return result.Err()
}

// column is how a column of a result is stored.
type column struct {
	field   *schema.Field
	offset  uintptr // of the field in its struct
	store   store   // nil for what only pgx and bun can store
	convert func([]byte) (driver.Value, error)
	spare   any // what a store of pointers has made for the next rows
}

func columnsOf(table *schema.Table, fields []pgconn.FieldDescription, types *pgtype.Map) ([]column, error) {
	columns := make([]column, len(fields))
	for i, description := range fields {
		field := table.LookupField(description.Name)
		if field == nil {
			return nil, fmt.Errorf("%s has no field for column %s", table.TypeName, description.Name)
		}
		columns[i] = column{field: field, offset: field.StructField.Offset}
		if len(field.Index) == 1 { // it is in no struct within the struct
			columns[i].store = storeOf(field, description)
		}
		if columns[i].store == nil {
			columns[i].convert = converter(description, types)
		}
	}
	return columns, nil
}

func (c *column) scan(raw []byte, row reflect.Value) error {
	if raw == nil {
		return c.field.ScanValue(row, nil)
	}
	value, err := c.convert(raw)
	if err != nil {
		return err
	}
	return c.field.ScanWithCheck(c.field.Value(row), value)
}

// store stores a value that is not NULL where a field is, without reflection, which would cost as much as all else that is done for a row. The
// field has the type of which the store was made, which storeOf looks at.
type store func(t *texts, c *column, raw []byte, into unsafe.Pointer) error

// kind is how values of a type of PostgreSQL are stored in fields of type V, and in fields of type *V.
type kind struct{ value, pointer store }

func kindOf[V any](set func(t *texts, raw []byte, into *V) error) kind {
	return kind{
		value: func(t *texts, _ *column, raw []byte, into unsafe.Pointer) error { return set(t, raw, (*V)(into)) },
		pointer: func(t *texts, c *column, raw []byte, into unsafe.Pointer) error {
			spare, _ := c.spare.(*spares[V])
			if spare == nil {
				spare = new(spares[V])
				c.spare = spare
			}
			value := spare.next()
			*(**V)(into) = value
			return set(t, raw, value)
		},
	}
}

// spares are made in blocks, as structs are.
type spares[V any] struct {
	block []V
	size  int
}

func (s *spares[V]) next() *V {
	if len(s.block) == 0 {
		s.size = min(max(4*s.size, firstBlock), lastBlock)
		s.block = make([]V, s.size)
	}
	value := &s.block[0]
	s.block = s.block[1:]
	return value
}

var (
	uuids = kindOf(func(_ *texts, raw []byte, into *uuid.UUID) error {
		copy(into[:], raw)
		return nil
	})
	instants = kindOf(func(_ *texts, raw []byte, into *time.Time) (err error) {
		*into, err = instant(raw)
		return err
	})
	documents = kindOf(func(_ *texts, raw []byte, into *models.JSON) error {
		*into = append(models.JSON(nil), raw[1:]...) // the first byte is the format's version
		return nil
	})
	int4s = kindOf(func(_ *texts, raw []byte, into *int) error {
		*into = int(int32(binary.BigEndian.Uint32(raw)))
		return nil
	})
	int8s = kindOf(func(_ *texts, raw []byte, into *int64) error {
		*into = int64(binary.BigEndian.Uint64(raw))
		return nil
	})
	booleans = kindOf(func(_ *texts, raw []byte, into *bool) error {
		*into = raw[0] != 0
		return nil
	})
	strs = kindOf(func(t *texts, raw []byte, into *string) error {
		*into = t.add(raw)
		return nil
	})
)

// storeOf is for what the hot tables are made of; nil for everything else.
func storeOf(field *schema.Field, description pgconn.FieldDescription) store {
	var found kind
	of, isBinary := field.IndirectType, description.Format == pgtype.BinaryFormatCode
	switch oid := description.DataTypeOID; {
	case isBinary && oid == pgtype.UUIDOID && of == reflect.TypeFor[uuid.UUID]():
		found = uuids
	case isBinary && oid == pgtype.TimestamptzOID && of == reflect.TypeFor[time.Time]():
		found = instants
	case isBinary && oid == pgtype.JSONBOID && of == reflect.TypeFor[models.JSON]():
		found = documents
	case reflect.PointerTo(of).Implements(reflect.TypeFor[sql.Scanner]()):
	case isBinary && oid == pgtype.Int4OID && of.Kind() == reflect.Int:
		found = int4s
	case isBinary && oid == pgtype.Int8OID && (of.Kind() == reflect.Int || of.Kind() == reflect.Int64) && of.Size() == 8:
		found = int8s
	case isBinary && oid == pgtype.BoolOID && of.Kind() == reflect.Bool:
		found = booleans
	case (oid == pgtype.TextOID || oid == pgtype.VarcharOID) && of.Kind() == reflect.String:
		found = strs
	}
	if field.IsPtr {
		return found.pointer
	}
	return found.value
}

// texts are the strings of one result, which lie together: they come and go together.
type texts struct {
	strings.Builder
	length int // that is made next
}

const (
	firstText = 128
	lastText  = 16 << 10
)

func (t *texts) add(raw []byte) string {
	if t.Cap()-t.Len() < len(raw) {
		t.length = min(max(2*t.length, firstText), lastText)
		t.Reset() // what is full stays with its strings
		t.Grow(max(t.length, len(raw)))
	}
	from := t.Len()
	t.Write(raw)
	return t.String()[from:]
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
