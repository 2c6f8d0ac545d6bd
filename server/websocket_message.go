package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// message is one of the client's, checked.
type message struct {
	kind    string
	id      string
	payload json.RawMessage // nil where it is absent or null

	query      string // these four of subscribe only
	operation  string
	variables  map[string]any
	extensions map[string]any
}

// maxOperationID bounds an operation's id, which every answer repeats.
const maxOperationID = 256

// parseMessage accepts exactly what the protocol allows a client to send. Its errors are reasons to close with 4400.
func parseMessage(data []byte) (message, error) {
	var fields map[string]json.RawMessage // and not a struct, which would match names in any case
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return message{}, errors.New("invalid message: not a JSON object")
	}
	var m message
	if err := optional(fields, "payload", &m.payload); err != nil {
		return message{}, err
	}
	if err := required(fields, "type", &m.kind); err != nil {
		return message{}, err
	}
	switch m.kind {
	case "connection_init", "ping", "pong":
		if m.payload != nil && m.payload[0] != '{' {
			return message{}, fmt.Errorf("invalid message: the payload of %s is an object", m.kind)
		}
	case "complete":
		return m, m.identify(fields)
	case "subscribe":
		if err := m.identify(fields); err != nil {
			return message{}, err
		}
		return m, m.parseSubscribe()
	default:
		return message{}, errors.New("invalid message: unknown type")
	}
	return m, nil
}

func (m *message) identify(fields map[string]json.RawMessage) error {
	if err := required(fields, "id", &m.id); err != nil {
		return err
	}
	if m.id == "" || len(m.id) > maxOperationID {
		return fmt.Errorf("invalid message: an id has between 1 and %d bytes", maxOperationID)
	}
	return nil
}

func (m *message) parseSubscribe() error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(m.payload, &fields); err != nil || fields == nil {
		return errors.New("invalid message: the payload of subscribe is an object")
	}
	return cmp.Or(
		required(fields, "query", &m.query),
		optional(fields, "operationName", &m.operation),
		optional(fields, "variables", &m.variables),
		optional(fields, "extensions", &m.extensions),
	)
}

func (m *message) params(header http.Header) *graphql.RawParams {
	now := graphql.Now()
	return &graphql.RawParams{
		Query:         m.query,
		OperationName: m.operation,
		Variables:     m.variables,
		Extensions:    m.extensions,
		Headers:       header,
		ReadTime:      graphql.TraceTiming{Start: now, End: now},
	}
}

func required[T any](fields map[string]json.RawMessage, name string, into *T) error {
	if raw, ok := fields[name]; !ok || string(raw) == "null" {
		return fmt.Errorf("invalid message: %s is missing", name)
	}
	return optional(fields, name, into)
}

// optional leaves into alone where the field is absent or null.
func optional[T any](fields map[string]json.RawMessage, name string, into *T) error {
	raw, ok := fields[name]
	if !ok || string(raw) == "null" {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("invalid message: %s has the wrong type", name)
	}
	return nil
}

const payloadKey = `,"payload":`

// startMessage writes a message up to its payload.
func startMessage(buf *bytes.Buffer, id, kind string) {
	buf.WriteString(`{"id":`)
	writeJSON(buf, id)
	buf.WriteString(`,"type":"`)
	buf.WriteString(kind)
	buf.WriteByte('"')
	buf.WriteString(payloadKey)
}

func writeErrors(buf *bytes.Buffer, errs gqlerror.List) {
	if err := writeJSON(buf, errs); err != nil {
		buf.WriteString(`[{"message":"internal error","extensions":{"code":"INTERNAL"}}]`)
	}
}

// writeResponse writes what json.Marshal would, but takes the data as it is: encoding/json would read through all of it twice.
func writeResponse(buf *bytes.Buffer, response *graphql.Response) error {
	buf.WriteByte('{')
	if len(response.Errors) > 0 {
		buf.WriteString(`"errors":`)
		if err := writeJSON(buf, response.Errors); err != nil {
			return err
		}
		buf.WriteByte(',')
	}
	buf.WriteString(`"data":`)
	if response.Data == nil {
		buf.WriteString("null")
	}
	buf.Write(response.Data)
	if len(response.Extensions) > 0 {
		buf.WriteString(`,"extensions":`)
		if err := writeJSON(buf, response.Extensions); err != nil {
			return err
		}
	}
	if response.HasNext != nil { // of @defer
		buf.WriteString(`,"hasNext":` + strconv.FormatBool(*response.HasNext))
		if response.Path != nil {
			buf.WriteString(`,"path":`)
			if err := writeJSON(buf, response.Path); err != nil {
				return err
			}
		}
		if response.Label != "" {
			buf.WriteString(`,"label":`)
			if err := writeJSON(buf, response.Label); err != nil {
				return err
			}
		}
	}
	buf.WriteByte('}')
	return nil
}

func writeJSON(buf *bytes.Buffer, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	buf.Write(encoded)
	return nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// putBuffer gives a buffer back unless a rare large answer made it large.
func putBuffer(buf *bytes.Buffer) {
	if buf.Cap() <= 64<<10 {
		buffers.Put(buf)
	}
}
