package server

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// kind is what a client's message is for.
type kind int

const (
	kindInit kind = iota + 1
	kindPing
	kindPong
	kindSubscribe
	kindComplete
	kindTerminate
)

// protocol is how a subprotocol calls its messages. Everything else about a socket is the same for all.
type protocol struct {
	name      string
	kinds     map[string]kind // of the client's messages, by type
	next      string          // the type of a result
	keepAlive string          // a message that only says that the server is there; empty where the frames of RFC 6455 do
	older     bool            // errors come one by one, and a refusal has a message of its own
}

var (
	transportWS = &protocol{
		name: "graphql-transport-ws",
		kinds: map[string]kind{
			"connection_init": kindInit, "ping": kindPing, "pong": kindPong, "subscribe": kindSubscribe, "complete": kindComplete,
		},
		next: "next",
	}
	// olderWS is the protocol of the library subscriptions-transport-ws. Its clients have no ping: they renew a token by connecting again.
	olderWS = &protocol{
		name: "graphql-ws",
		kinds: map[string]kind{
			"connection_init": kindInit, "start": kindSubscribe, "stop": kindComplete, "connection_terminate": kindTerminate,
		},
		next:      "data",
		keepAlive: `{"type":"ka"}`,
		older:     true,
	}
)

// protocolOf is nil for a subprotocol that we do not speak.
func protocolOf(subprotocol string) *protocol {
	switch subprotocol {
	case transportWS.name:
		return transportWS
	case olderWS.name:
		return olderWS
	default:
		return nil
	}
}

// message is one of the client's, checked.
type message struct {
	kind    kind
	id      string             // of subscribe and complete
	payload map[string]any     // nil where it is absent or null
	params  *graphql.RawParams // of subscribe
}

// maxOperationID bounds an operation's id, which every answer repeats.
const maxOperationID = 256

// parse accepts exactly what the protocol allows a client to send. Its errors are reasons to close with 4400.
func (p *protocol) parse(data []byte) (message, error) {
	value, err := decodeJSON(data)
	if err != nil {
		return message{}, fmt.Errorf("invalid message: %w", err)
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return message{}, errors.New("invalid message: not an object")
	}
	name, ok := fields["type"].(string)
	if !ok {
		return message{}, errors.New("invalid message: type is not a string")
	}
	m := message{kind: p.kinds[name]}
	switch m.kind {
	case kindSubscribe, kindComplete:
		if m.id, ok = fields["id"].(string); !ok || m.id == "" || len(m.id) > maxOperationID {
			return message{}, fmt.Errorf("invalid message: id is not a string of 1 to %d bytes", maxOperationID)
		}
	case kindInit, kindPing, kindPong, kindTerminate:
	default:
		return message{}, errors.New("invalid message: unknown type")
	}
	if m.kind == kindComplete {
		return m, nil
	}
	if m.payload, ok = fields["payload"].(map[string]any); !ok && (fields["payload"] != nil || m.kind == kindSubscribe) {
		return message{}, errors.New("invalid message: payload is not an object")
	}
	if m.kind == kindSubscribe {
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

// errors is the payload of an error message.
func (p *protocol) errors(errs gqlerror.List) []byte {
	if p.older && len(errs) > 0 {
		return encode(errs[0])
	}
	return encode(errs)
}

// writeResponse writes the data as the executor made it: encoding/json would read and copy all of it once more. What was refused has none.
func writeResponse(buf *bytes.Buffer, response *graphql.Response) {
	buf.WriteByte('{')
	if len(response.Errors) > 0 {
		buf.WriteString(`"errors":`)
		buf.Write(encode(response.Errors))
		if response.Data != nil {
			buf.WriteByte(',')
		}
	}
	switch {
	case response.Data != nil:
		buf.WriteString(`"data":`)
		buf.Write(response.Data)
	case len(response.Errors) == 0:
		buf.WriteString(`"data":null`)
	}
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
