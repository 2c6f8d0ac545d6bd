package models

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Kind is the GraphQL type that a global id names.
type Kind string

const (
	KindUser    Kind = "User"
	KindThread  Kind = "Thread"
	KindMessage Kind = "Message"
	KindRun     Kind = "Run"

	KindReference  Kind = "Reference"
	KindSupplyItem Kind = "SupplyItem"
	KindAPIKey     Kind = "ApiKey"
	KindAuditLog   Kind = "AuditLog"

	KindWorkload Kind = "Workload"
)

// GlobalID is the opaque id of an object: its kind and database id.
type GlobalID struct {
	Kind Kind
	Key  string // the database id as text
}

func (id GlobalID) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(id.Kind) + ":" + id.Key))
}

// maxID has room for the longest workload_id that ingestion accepts.
const maxID = 400

// ParseID reads a global id. It fails with BadUserInput where s is not one that we gave out.
func ParseID(s string) (GlobalID, error) {
	malformed := Errorf(BadUserInput, "malformed id: use an id as the API gave it")
	if len(s) > maxID {
		return GlobalID{}, malformed
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return GlobalID{}, malformed
	}
	kind, key, found := strings.Cut(string(raw), ":")
	if !found {
		return GlobalID{}, malformed
	}
	id := GlobalID{Kind(kind), key}
	switch id.Kind {
	case KindUser:
		_, err = id.Int()
	case KindThread, KindMessage, KindRun, KindReference, KindSupplyItem, KindAPIKey:
		_, err = id.UUID()
	case KindAuditLog:
		_, err = id.Int64()
	case KindWorkload:
		_, _, err = ParseWorkloadKey(id.Key)
	default:
		return GlobalID{}, malformed
	}
	return id, err
}

// ParseIDOf reads a global id of one kind. Another kind is BadUserInput.
func ParseIDOf(kind Kind, s string) (GlobalID, error) {
	id, err := ParseID(s)
	if err == nil && id.Kind != kind {
		return GlobalID{}, Errorf(BadUserInput, "this is the id of %s, not of %s", id.Kind.article(), kind.article())
	}
	return id, err
}

// article is the kind with its article.
func (k Kind) article() string {
	if k == KindAPIKey || k == KindAuditLog {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// Int is the key of a User.
func (id GlobalID) Int() (int, error) {
	n, err := strconv.ParseInt(id.Key, 10, 32)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != id.Key {
		return 0, Errorf(BadUserInput, "malformed id: use an id as the API gave it")
	}
	return int(n), nil
}

// Int64 is the key of an AuditLog.
func (id GlobalID) Int64() (int64, error) {
	n, err := strconv.ParseInt(id.Key, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != id.Key {
		return 0, Errorf(BadUserInput, "malformed id: use an id as the API gave it")
	}
	return n, nil
}

// UUID is the key of everything else but a Workload.
func (id GlobalID) UUID() (uuid.UUID, error) {
	u, err := uuid.Parse(id.Key)
	if err != nil || u.String() != id.Key {
		return uuid.Nil, Errorf(BadUserInput, "malformed id: use an id as the API gave it")
	}
	return u, nil
}

func globalID(kind Kind, key string) string { return GlobalID{kind, key}.String() }

// uuidID is globalID of a UUID.
func uuidID(kind Kind, key uuid.UUID) string { return string(appendID(nil, kind, key)) }

// appendID adds a global id to a text: GlobalID.String without the strings. Lists have many.
func appendID(text []byte, kind Kind, key uuid.UUID) []byte {
	var plain [64]byte
	n := copy(plain[:], kind)
	plain[n] = ':'
	n++
	for i, b := range key {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			plain[n] = '-'
			n++
		}
		plain[n], plain[n+1] = hexDigits[b>>4], hexDigits[b&15]
		n += 2
	}
	return base64.RawURLEncoding.AppendEncode(text, plain[:n])
}

const hexDigits = "0123456789abcdef"

// Node is an object with a global id.
type Node interface {
	IsNode()
	ID() string
	Join(Cohort)
}
