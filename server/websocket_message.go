package server

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/99designs/gqlgen/graphql"
)

// message is one of the client's, checked.
type message struct {
	kind    string
	id      string             // of subscribe and complete
	payload map[string]any     // nil where it is absent or null
	params  *graphql.RawParams // of subscribe
}

// maxOperationID bounds an operation's id, which every answer repeats.
const maxOperationID = 256

// parseMessage accepts exactly what the protocol allows a client to send. Its errors are reasons to close with 4400.
func parseMessage(data []byte) (message, error) {
	value, err := decodeJSON(data)
	if err != nil {
		return message{}, fmt.Errorf("invalid message: %w", err)
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return message{}, errors.New("invalid message: not an object")
	}
	var m message
	if m.kind, ok = fields["type"].(string); !ok {
		return message{}, errors.New("invalid message: type is not a string")
	}
	switch m.kind {
	case "subscribe", "complete":
		if m.id, ok = fields["id"].(string); !ok || m.id == "" || len(m.id) > maxOperationID {
			return message{}, fmt.Errorf("invalid message: id is not a string of 1 to %d bytes", maxOperationID)
		}
	case "connection_init", "ping", "pong":
	default:
		return message{}, errors.New("invalid message: unknown type")
	}
	if m.kind == "complete" {
		return m, nil
	}
	if m.payload, ok = fields["payload"].(map[string]any); !ok && (fields["payload"] != nil || m.kind == "subscribe") {
		return message{}, errors.New("invalid message: payload is not an object")
	}
	if m.kind == "subscribe" {
		var refused *refusal
		if m.params, refused = paramsFrom(m.payload); refused != nil {
			return message{}, fmt.Errorf("invalid message: %w", refused.err)
		}
	}
	return m, nil
}

const payloadKey = `,"payload":`

// startMessage writes a message up to its payload.
func startMessage(buf *bytes.Buffer, id, kind string) {
	buf.WriteString(`{"id":`)
	buf.Write(encode(id))
	buf.WriteString(`,"type":"`)
	buf.WriteString(kind)
	buf.WriteByte('"')
	buf.WriteString(payloadKey)
}

// writeResponse writes the data as the executor made it: encoding/json would read and copy all of it once more.
func writeResponse(buf *bytes.Buffer, response *graphql.Response) {
	buf.WriteByte('{')
	if len(response.Errors) > 0 {
		buf.WriteString(`"errors":`)
		buf.Write(encode(response.Errors))
		buf.WriteByte(',')
	}
	buf.WriteString(`"data":`)
	if response.Data == nil {
		buf.WriteString("null")
	}
	buf.Write(response.Data)
	if len(response.Extensions) > 0 {
		buf.WriteString(`,"extensions":`)
		buf.Write(encode(response.Extensions))
	}
	buf.WriteByte('}')
}

// putBuffer gives a buffer back unless a rare large answer made it large.
func putBuffer(buf *bytes.Buffer) {
	if buf.Cap() <= maxPooled {
		buffers.Put(buf)
	}
}
