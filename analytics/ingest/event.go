package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// What one event may be. Lengths are in bytes.
const (
	MaxLine       = 256 << 10 // an event as a line of JSON
	MaxMetrics    = 64
	MaxDimensions = 64
	MaxMetadata   = 32 << 10

	maxWorkload  = 255
	maxType      = 100 // event_type and event_category
	maxName      = 100 // a metric's name, a dimension's key
	maxUnit      = 50
	maxDimension = 1024

	maxAge   = 90 * 24 * time.Hour // older events would expire at once
	maxAhead = time.Hour           // for clocks that are wrong
)

// event is a row of workload_events before it is one. Its texts live as long as the line they were read from.
type event struct {
	id         uuid.UUID
	at         time.Time
	user       int
	workload   []byte
	kind       []byte
	category   []byte
	metrics    []metric
	dimensions []dimension
	metadata   []byte
}

type metric struct {
	name, unit []byte
	value      float64
}

type dimension struct{ key, value []byte }

var metricKind = []byte("metric")

// reader turns what one viewer sends into events. It makes no garbage: an event is good until the next one is read.
type reader struct {
	viewer models.Viewer
	now    time.Time
	event  event

	decoder  *jsontext.Decoder
	line     bytes.Buffer
	unquoted []byte // texts with escapes, undone
}

// of makes the reader one of what a viewer sends now.
func (r *reader) of(viewer models.Viewer, now time.Time) *reader {
	r.viewer, r.now = viewer, now
	return r
}

func newReader() *reader {
	r := &reader{}
	r.decoder = jsontext.NewDecoder(&r.line)
	return r
}

func (r *reader) begin() *event {
	r.event = event{metrics: r.event.metrics[:0], dimensions: r.event.dimensions[:0], at: r.now, user: r.viewer.UserID, kind: metricKind}
	r.unquoted = r.unquoted[:0]
	return &r.event
}

// load makes the decoder read text, which it does in place.
func (r *reader) load(text []byte) {
	r.line = *bytes.NewBuffer(text)
	r.decoder.Reset(&r.line)
}

// mistake is what is wrong with an event, in words for its sender, which go on from the name of a column unless it is about all of the event.
type mistake struct {
	code         models.Code
	column, what string
}

func (m *mistake) Error() string { return m.column + m.what }

func wrong(format string, args ...any) error { return wrongIn("", format, args...) }

func wrongIn(column, format string, args ...any) error {
	return &mistake{models.BadUserInput, column, fmt.Sprintf(format, args...)}
}

// readLine reads an event from a line of JSON. It fails with a mistake.
func (r *reader) readLine(line []byte) (*event, error) {
	e := r.begin()
	if len(line) > MaxLine {
		return nil, errLongLine
	}
	r.load(line)
	if r.decoder.PeekKind() != '{' {
		if !jsontext.Value(line).IsValid() {
			return nil, r.malformed(line)
		}
		return nil, wrong("an event must be a JSON object")
	}
	if err := r.readObject(r.readField); err != nil {
		return nil, r.explain(line, err)
	}
	if _, err := r.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, wrong("something follows the event: write one JSON object a line")
	}
	return e, r.finish()
}

var errLongLine = wrong("an event may have %d bytes", MaxLine)

func (r *reader) explain(line []byte, err error) error {
	var m *mistake
	if errors.As(err, &m) {
		return err
	}
	return r.malformed(line)
}

// malformed says what is wrong with JSON without repeating it.
func (r *reader) malformed(line []byte) error {
	if !utf8.Valid(line) {
		return wrong("not UTF-8")
	}
	r.load(line)
	_, err := r.decoder.ReadValue()
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return wrong("the same key twice, before byte %d", r.decoder.InputOffset())
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return wrong("malformed JSON at byte %d", syntactic.ByteOffset)
	}
	return wrong("malformed JSON")
}

// readObject hands each key to read, which must read the value.
func (r *reader) readObject(read func(key []byte) error) error {
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for r.decoder.PeekKind() != '}' {
		key, err := r.readText()
		if err != nil {
			return err
		}
		if err := read(key); err != nil {
			return err
		}
	}
	_, err := r.decoder.ReadToken()
	return err
}

// readText reads a string that has been seen to be one, in place where it has no escapes.
func (r *reader) readText() ([]byte, error) {
	raw, err := r.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	from := len(r.unquoted)
	if r.unquoted, err = jsontext.AppendUnquote(r.unquoted, []byte(raw)); err != nil {
		return nil, err
	}
	return r.unquoted[from:len(r.unquoted):len(r.unquoted)], nil
}

func (r *reader) text(name string) ([]byte, error) {
	switch r.decoder.PeekKind() {
	case '"':
		return r.readText()
	case 0:
		return nil, errMalformed
	default:
		return nil, wrongIn(name, " must be a string")
	}
}

// errMalformed stands for what the decoder will say about the whole line.
var errMalformed = errors.New("malformed")

func (r *reader) readField(key []byte) (err error) {
	e := &r.event
	switch string(key) {
	case "event_id":
		text, err := r.text("event_id")
		if err != nil {
			return err
		}
		return e.setID(text)
	case "timestamp":
		text, err := r.text("timestamp")
		if err != nil {
			return err
		}
		if e.at, err = time.Parse(time.RFC3339Nano, string(text)); err != nil {
			return wrongIn("timestamp", " must be an instant in RFC 3339, such as 2026-11-23T09:30:00.000Z")
		}
		return nil
	case "user_id":
		raw, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		id, err := strconv.ParseInt(string(raw), 10, 32)
		if err != nil || id < 1 {
			return wrongIn("user_id", " must be a positive whole number")
		}
		e.user = int(id)
		return nil
	case "workload_id":
		e.workload, err = r.text("workload_id")
	case "event_type":
		e.kind, err = r.text("event_type")
	case "event_category":
		e.category, err = r.text("event_category")
	case "metrics":
		return r.readMetrics()
	case "dimensions":
		return r.readDimensions()
	case "metadata":
		return r.readMetadata()
	default:
		return wrong("unknown key %.60q", key)
	}
	return err
}

func (e *event) setID(text []byte) error {
	id, err := uuid.ParseBytes(text)
	if err != nil || len(text) != 36 {
		return wrongIn("event_id", " must be a UUID")
	}
	e.id = id
	return nil
}

func (r *reader) readMetrics() error {
	if kind := r.decoder.PeekKind(); kind != '[' {
		return r.unless(kind, "metrics", " must be a list")
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for r.decoder.PeekKind() != ']' {
		if kind := r.decoder.PeekKind(); kind != '{' {
			return r.unless(kind, "metrics", "[%d] must be an object", len(r.event.metrics))
		}
		if len(r.event.metrics) == MaxMetrics {
			return wrongIn("metrics", ": an event may have %d", MaxMetrics)
		}
		r.event.metrics = append(r.event.metrics, metric{value: math.NaN()})
		if err := r.readObject(r.readMetric); err != nil {
			return err
		}
		if m := &r.event.metrics[len(r.event.metrics)-1]; math.IsNaN(m.value) {
			return wrongIn("metrics", "[%d].value is missing", len(r.event.metrics)-1)
		}
	}
	_, err := r.decoder.ReadToken()
	return err
}

// unless prefers the decoder's own account of what is not JSON.
func (r *reader) unless(kind jsontext.Kind, column, format string, args ...any) error {
	if kind == 0 {
		return errMalformed
	}
	return wrongIn(column, format, args...)
}

func (r *reader) readMetric(key []byte) (err error) {
	place := len(r.event.metrics) - 1
	m := &r.event.metrics[place]
	switch string(key) {
	case "name":
		if kind := r.decoder.PeekKind(); kind != '"' {
			return r.unless(kind, "metrics", "[%d].name must be a string", place)
		}
		m.name, err = r.readText()
	case "unit":
		if kind := r.decoder.PeekKind(); kind != '"' {
			return r.unless(kind, "metrics", "[%d].unit must be a string", place)
		}
		m.unit, err = r.readText()
	case "value":
		if kind := r.decoder.PeekKind(); kind != '0' {
			return r.unless(kind, "metrics", "[%d].value must be a number", place)
		}
		token, err := r.decoder.ReadToken()
		if err != nil {
			return err
		}
		if m.value, err = token.Float(); err != nil || math.IsInf(m.value, 0) {
			return wrongIn("metrics", "[%d].value must be finite", place)
		}
		return nil
	default:
		return wrongIn("metrics", "[%d]: unknown key %.60q", place, key)
	}
	return err
}

func (r *reader) readDimensions() error {
	if kind := r.decoder.PeekKind(); kind != '{' {
		return r.unless(kind, "dimensions", " must be an object of strings")
	}
	return r.readObject(func(key []byte) error {
		if kind := r.decoder.PeekKind(); kind != '"' {
			return r.unless(kind, "dimensions", ".%.60s must be a string", key)
		}
		if len(r.event.dimensions) == MaxDimensions {
			return wrongIn("dimensions", ": an event may have %d", MaxDimensions)
		}
		value, err := r.readText()
		r.event.dimensions = append(r.event.dimensions, dimension{key, value})
		return err
	})
}

func (r *reader) readMetadata() error {
	if kind := r.decoder.PeekKind(); kind != '{' {
		return r.unless(kind, "metadata", " must be an object")
	}
	raw, err := r.decoder.ReadValue()
	r.event.metadata = raw
	return err
}

// readInput reads an event of the graph. It fails with a mistake.
func (r *reader) readInput(in *models.EventInput) (*event, error) {
	e := r.begin()
	e.workload = []byte(in.WorkloadID)
	if in.EventID != nil {
		e.id = *in.EventID
	}
	if in.Timestamp != nil {
		e.at = *in.Timestamp
	}
	if in.UserID != nil {
		id, err := models.ParseIDOf(models.KindUser, *in.UserID)
		if err == nil {
			e.user, err = id.Int()
		}
		if err != nil {
			return nil, wrongIn("user_id", ": %s", err)
		}
	}
	if in.EventType != nil {
		e.kind = []byte(*in.EventType)
	}
	if in.EventCategory != nil {
		e.category = []byte(*in.EventCategory)
	}
	if len(in.Metrics) > MaxMetrics {
		return nil, wrongIn("metrics", ": an event may have %d", MaxMetrics)
	}
	for i, m := range in.Metrics {
		if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			return nil, wrongIn("metrics", "[%d].value must be finite", i)
		}
		var unit []byte
		if m.Unit != nil {
			unit = []byte(*m.Unit)
		}
		e.metrics = append(e.metrics, metric{[]byte(m.Name), unit, m.Value})
	}
	if !absent(in.Dimensions) {
		if err := r.within(in.Dimensions, r.readDimensions); err != nil {
			return nil, err
		}
	}
	if !absent(in.Metadata) {
		if err := r.within(in.Metadata, r.readMetadata); err != nil {
			return nil, err
		}
	}
	for _, text := range [][]byte{e.workload, e.kind, e.category} {
		if !utf8.Valid(text) {
			return nil, wrong("not UTF-8")
		}
	}
	for _, m := range e.metrics {
		if !utf8.Valid(m.name) || !utf8.Valid(m.unit) {
			return nil, wrong("not UTF-8")
		}
	}
	return e, r.finish()
}

func absent(document models.JSON) bool { return len(document) == 0 || string(document) == "null" }

func (r *reader) within(document models.JSON, read func() error) error {
	r.load(document)
	if err := read(); err != nil {
		return r.explain(document, err)
	}
	return nil
}

// finish checks the event and fills in what was left to us.
func (r *reader) finish() error {
	e := &r.event
	if e.user != r.viewer.UserID && !r.viewer.Superuser {
		return &mistake{models.Forbidden, "", "only superusers may record events of other users"}
	}
	switch {
	case e.user < 1:
		return wrongIn("user_id", " is missing")
	case e.at.Before(r.now.Add(-maxAge)):
		return wrongIn("timestamp", " is more than %d days ago", int(maxAge.Hours())/24)
	case e.at.After(r.now.Add(maxAhead)):
		return wrongIn("timestamp", " is more than %d minutes ahead", int(maxAhead.Minutes()))
	case len(e.workload) == 0:
		return wrongIn("workload_id", " is missing")
	case len(e.kind) == 0:
		return wrongIn("event_type", " is empty")
	case len(e.metadata) > MaxMetadata:
		return wrongIn("metadata", " may have %d bytes", MaxMetadata)
	}
	if err := check("workload_id", "", e.workload, maxWorkload); err != nil {
		return err
	}
	if err := check("event_type", "", e.kind, maxType); err != nil {
		return err
	}
	if err := check("event_category", "", e.category, maxType); err != nil {
		return err
	}
	for i := range e.metrics {
		m := &e.metrics[i]
		if len(m.name) == 0 || len(m.name) > maxName || len(m.unit) > maxUnit || hasNUL(m.name) || hasNUL(m.unit) {
			return m.mistake(i)
		}
	}
	for i := range e.dimensions {
		d := &e.dimensions[i]
		if len(d.key) == 0 || len(d.key) > maxName || len(d.value) > maxDimension || hasNUL(d.key) || hasNUL(d.value) {
			return d.mistake()
		}
	}
	if e.id == uuid.Nil {
		e.id = newID(e.at)
	}
	return nil
}

func (m *metric) mistake(i int) error {
	if len(m.name) == 0 {
		return wrongIn("metrics", "[%d].name is missing", i)
	}
	if err := check("metrics", fmt.Sprintf("[%d].name", i), m.name, maxName); err != nil {
		return err
	}
	return check("metrics", fmt.Sprintf("[%d].unit", i), m.unit, maxUnit)
}

func (d *dimension) mistake() error {
	if len(d.key) == 0 {
		return wrongIn("dimensions", " has an empty key")
	}
	if err := check("dimensions", ": a key", d.key, maxName); err != nil {
		return err
	}
	return check("dimensions", fmt.Sprintf(".%.60s", d.key), d.value, maxDimension)
}

// check holds a text of a column, or of a part of one, against what fits.
func check(column, part string, text []byte, longest int) error {
	if len(text) > longest {
		return wrongIn(column, "%s may have %d bytes", part, longest)
	}
	if hasNUL(text) {
		return wrongIn(column, "%s must not contain NUL characters", part)
	}
	return nil
}

func hasNUL(text []byte) bool { return bytes.IndexByte(text, 0) >= 0 }

// newID is a UUID of version 7: it begins with the event's time, as the table's order does.
func newID(at time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|rand.Uint64()&0x0fff)
	binary.BigEndian.PutUint64(id[8:], 1<<63|rand.Uint64()>>2)
	return id
}
