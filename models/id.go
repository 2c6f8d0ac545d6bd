package models

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
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
	if len(s) > maxID {
		return GlobalID{}, malformedID()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return GlobalID{}, malformedID()
	}
	kind, key, found := strings.Cut(string(raw), ":")
	if !found {
		return GlobalID{}, malformedID()
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
		return GlobalID{}, malformedID()
	}
	return id, err
}

func malformedID() error {
	return Errorf(BadUserInput, "malformed id: use an id as the API gave it")
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
		return 0, malformedID()
	}
	return int(n), nil
}

// Int64 is the key of an AuditLog.
func (id GlobalID) Int64() (int64, error) {
	n, err := strconv.ParseInt(id.Key, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != id.Key {
		return 0, malformedID()
	}
	return n, nil
}

// UUID is the key of everything else but a Workload.
func (id GlobalID) UUID() (uuid.UUID, error) {
	u, err := uuid.Parse(id.Key)
	if err != nil || u.String() != id.Key {
		return uuid.Nil, malformedID()
	}
	return u, nil
}

func globalID(kind Kind, key string) string { return GlobalID{kind, key}.String() }

// uuidID is globalID of a UUID.
func uuidID(kind Kind, key uuid.UUID) string { return string(appendID(nil, kind, key)) }

// appendID adds a global id to a text: GlobalID.String without the strings, and two letters at a time. Lists have many.
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
		binary.LittleEndian.PutUint16(plain[n:], hexOf[b])
		n += 2
	}
	text = slices.Grow(text, 4*n/3+4)
	rest := plain[:n]
	for ; len(rest) >= 3; rest = rest[3:] {
		bits := uint32(rest[0])<<16 | uint32(rest[1])<<8 | uint32(rest[2])
		text = binary.LittleEndian.AppendUint32(text, uint32(base64Of[bits>>12])|uint32(base64Of[bits&4095])<<16)
	}
	return base64.RawURLEncoding.AppendEncode(text, rest)
}

// hexOf are the two digits of each byte, and base64Of the two letters of each twelve bits, the first one in the lower half.
var hexOf, base64Of = func() (digits [256]uint16, letters [4096]uint16) {
	for i := range digits {
		digits[i] = binary.LittleEndian.Uint16(hex.AppendEncode(nil, []byte{byte(i)}))
	}
	for i := range letters {
		letters[i] = binary.LittleEndian.Uint16(base64.RawURLEncoding.AppendEncode(nil, []byte{byte(i >> 4), byte(i << 4), 0}))
	}
	return digits, letters
}()

// Node is an object with a global id.
type Node interface {
	IsNode()
	ID() string
	Join(Cohort)
}
