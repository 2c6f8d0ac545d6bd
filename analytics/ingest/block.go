package ingest

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
)

// A table says how its blocks are made: each column is made of sections of bytes, as ClickHouse's Native format has them one behind the other.
type table struct {
	name     string
	columns  []tableColumn
	sections []sectionKind
}

type tableColumn struct {
	name, kind string
	sections   []int
}

type sectionKind int

const (
	values sectionKind = iota // of fixed size, or texts that each follow their length
	ends                      // where each row's list ends, as uint64: counted from the block's beginning
)

// The sections of workload_events. The lists of a metric's names, values and units end alike.
const (
	eventID = iota
	eventAt
	eventUser
	eventWorkload
	eventType
	eventCategory
	metricEnds
	metricNames
	metricValues
	metricUnits
	dimensionEnds
	dimensionKeys
	dimensionValues
	eventMetadata
	eventSections
)

var eventTable = &table{
	name: "workload_events",
	columns: []tableColumn{
		{"event_id", "UUID", []int{eventID}},
		{"timestamp", "DateTime64(3, 'UTC')", []int{eventAt}},
		{"user_id", "UInt32", []int{eventUser}},
		{"workload_id", "String", []int{eventWorkload}},
		{"event_type", "String", []int{eventType}},
		{"event_category", "String", []int{eventCategory}},
		{"metrics.name", "Array(String)", []int{metricEnds, metricNames}},
		{"metrics.value", "Array(Float64)", []int{metricEnds, metricValues}},
		{"metrics.unit", "Array(String)", []int{metricEnds, metricUnits}},
		{"dimensions", "Map(String, String)", []int{dimensionEnds, dimensionKeys, dimensionValues}},
		{"metadata", "String", []int{eventMetadata}},
	},
	sections: func() []sectionKind {
		kinds := make([]sectionKind, eventSections)
		kinds[metricEnds], kinds[dimensionEnds] = ends, ends
		return kinds
	}(),
}

// The sections of user_activity.
const (
	activityDate = iota
	activityUser
	activityAction
	activityCount
	activityDuration
	activitySections
)

var activityTable = &table{
	name: "user_activity",
	columns: []tableColumn{
		{"date", "Date", []int{activityDate}},
		{"user_id", "UInt32", []int{activityUser}},
		{"action", "String", []int{activityAction}},
		{"count", "UInt64", []int{activityCount}},
		{"total_duration_ms", "UInt64", []int{activityDuration}},
	},
	sections: make([]sectionKind, activitySections),
}

func (t *table) insert() string {
	text := "INSERT INTO " + t.name + " ("
	for i, column := range t.columns {
		if i > 0 {
			text += ", "
		}
		text += column.name
	}
	return text + ")"
}

// types spares ClickHouse's HTTP interface a question before each insert. It casts where a table has been given others.
func (t *table) types() []clickhouse.ColumnNameAndType {
	types := make([]clickhouse.ColumnNameAndType, len(t.columns))
	for i, column := range t.columns {
		types[i] = clickhouse.ColumnNameAndType{Name: column.name, Type: column.kind}
	}
	return types
}

// block is rows by column, ready to be sent: making, joining and reading blocks is copying bytes.
type block struct {
	table    *table
	rows     int
	sections [][]byte
}

func newBlock(t *table) *block { return &block{table: t, sections: make([][]byte, len(t.sections))} }

func (b *block) size() int {
	size := 0
	for _, section := range b.sections {
		size += len(section)
	}
	return size
}

// reset keeps the memory.
func (b *block) reset() {
	b.rows = 0
	for i := range b.sections {
		b.sections[i] = b.sections[i][:0]
	}
}

func (b *block) putText(section int, text []byte) {
	b.sections[section] = append(binary.AppendUvarint(b.sections[section], uint64(len(text))), text...)
}

func (b *block) put32(section int, value uint32) {
	b.sections[section] = binary.LittleEndian.AppendUint32(b.sections[section], value)
}

func (b *block) put64(section int, value uint64) {
	b.sections[section] = binary.LittleEndian.AppendUint64(b.sections[section], value)
}

// putUUID writes the two halves as ClickHouse does, each with its last byte first.
func (b *block) putUUID(section int, id uuid.UUID) {
	b.put64(section, binary.BigEndian.Uint64(id[:8]))
	b.put64(section, binary.BigEndian.Uint64(id[8:]))
}

// putEnd ends a row's list of n elements.
func (b *block) putEnd(section, n int) { b.put64(section, b.lastEnd(section)+uint64(n)) }

func (b *block) lastEnd(section int) uint64 {
	if all := b.sections[section]; len(all) > 0 {
		return binary.LittleEndian.Uint64(all[len(all)-8:])
	}
	return 0
}

func (b *block) putEvent(e *event) {
	b.rows++
	b.putUUID(eventID, e.id)
	b.put64(eventAt, uint64(e.at.UnixMilli()))
	b.put32(eventUser, uint32(e.user))
	b.putText(eventWorkload, e.workload)
	b.putText(eventType, e.kind)
	b.putText(eventCategory, e.category)
	b.putEnd(metricEnds, len(e.metrics))
	for i := range e.metrics {
		b.putText(metricNames, e.metrics[i].name)
		b.put64(metricValues, math.Float64bits(e.metrics[i].value))
		b.putText(metricUnits, e.metrics[i].unit)
	}
	b.putEnd(dimensionEnds, len(e.dimensions))
	for i := range e.dimensions {
		b.putText(dimensionKeys, e.dimensions[i].key)
		b.putText(dimensionValues, e.dimensions[i].value)
	}
	b.putText(eventMetadata, e.metadata)
}

// join appends the rows of another block of the same table.
func (b *block) join(other *block) {
	b.rows += other.rows
	for i, kind := range b.table.sections {
		if kind == values {
			b.sections[i] = append(b.sections[i], other.sections[i]...)
			continue
		}
		before := b.lastEnd(i)
		b.sections[i] = slices.Grow(b.sections[i], len(other.sections[i]))
		for at := 0; at < len(other.sections[i]); at += 8 {
			b.put64(i, before+binary.LittleEndian.Uint64(other.sections[i][at:]))
		}
	}
}

// marshal appends the block as the spool keeps it.
func (b *block) marshal(to []byte) []byte {
	to = binary.AppendUvarint(to, uint64(b.rows))
	for _, section := range b.sections {
		to = binary.AppendUvarint(to, uint64(len(section)))
		to = append(to, section...)
	}
	return to
}

var errCorrupt = errors.New("the file is corrupt")

// unmarshal reads what marshal wrote and keeps from. It fails with errCorrupt.
func (t *table) unmarshal(from []byte) (*block, error) {
	b := newBlock(t)
	take := func() (n int, ok bool) {
		value, width := binary.Uvarint(from)
		if width <= 0 || value > math.MaxInt32 {
			return 0, false
		}
		from = from[width:]
		return int(value), true
	}
	var ok bool
	if b.rows, ok = take(); !ok {
		return nil, errCorrupt
	}
	for i := range b.sections {
		n, ok := take()
		if !ok || n > len(from) {
			return nil, errCorrupt
		}
		b.sections[i], from = from[:n:n], from[n:]
	}
	if len(from) > 0 {
		return nil, errCorrupt
	}
	return b, nil
}
