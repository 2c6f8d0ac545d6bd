package app

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Limits of what a mutation takes: of texts in characters, of documents in bytes and in levels.
const (
	maxName     = 255
	maxShort    = 100
	maxKey      = 200
	maxURL      = 2_048
	maxError    = 10_000
	maxContent  = 100_000
	maxMetadata = 64 << 10
	maxDocument = 256 << 10
	maxDepth    = 64
	maxItems    = 100
)

// checks collects what is wrong with an input.
type checks struct {
	errors []*models.UserError
	target []string    // the field that names what the mutation is about
	kind   models.Kind // of that
	key    string      // its database id
}

// refusal is everything that is wrong with an input.
type refusal struct{ errors []*models.UserError }

func (r *refusal) Error() string { return r.errors[0].Message }

// Unwrap gives the refusal its code.
func (r *refusal) Unwrap() error {
	return models.Errorf(models.Code(r.errors[0].Code), "%s", r.errors[0].Message)
}

func (k *checks) refusal() error {
	if len(k.errors) == 0 {
		return nil
	}
	return &refusal{k.errors}
}

func (k *checks) fail(err *models.Error, path ...string) {
	k.errors = append(k.errors, &models.UserError{Field: path, Message: err.Message, Code: string(err.Code)})
}

func (k *checks) wrong(path string, format string, args ...any) {
	k.fail(models.Errorf(models.BadUserInput, format, args...), strings.Split(path, ".")...)
}

// id is an object that the input names by its global id.
func (k *checks) id(path string, kind models.Kind, global string) uuid.UUID {
	parsed, err := models.ParseIDOf(kind, global)
	var key uuid.UUID
	if err == nil {
		key, err = parsed.UUID()
	}
	if err != nil {
		k.wrong(path, "%s", err.Error())
	}
	return key
}

// about is the object that the mutation is about.
func (k *checks) about(path string, kind models.Kind, global string) uuid.UUID {
	key := k.id(path, kind, global)
	k.target = strings.Split(path, ".")
	if key != uuid.Nil {
		k.kind, k.key = kind, key.String()
	}
	return key
}

// ids are several objects, each once.
func (k *checks) ids(path string, kind models.Kind, globals []string) []uuid.UUID {
	if len(globals) == 0 || len(globals) > maxItems {
		k.wrong(path, "give 1 to %d ids", maxItems)
		return nil
	}
	keys := make([]uuid.UUID, len(globals))
	seen := make(map[uuid.UUID]bool, len(globals))
	for i, global := range globals {
		at := path + "." + strconv.Itoa(i)
		keys[i] = k.id(at, kind, global)
		if keys[i] != uuid.Nil && seen[keys[i]] {
			k.wrong(at, "this id stands there twice")
		}
		seen[keys[i]] = true
	}
	return keys
}

// name is text that must say something.
func (k *checks) name(path, value string, characters int) {
	if strings.TrimFunc(value, unicode.IsSpace) == "" {
		k.wrong(path, "must not be blank")
		return
	}
	k.text(path, value, characters)
}

// optionalName is a name that may be absent.
func (k *checks) optionalName(path string, value *string, characters int) {
	if value != nil {
		k.name(path, *value, characters)
	}
}

func (k *checks) text(path, value string, characters int) {
	if err := models.CheckText(value); err != nil { // the name of a file, which no scalar has read
		k.wrong(path, "%s", err.Error())
		return
	}
	if n := utf8.RuneCountInString(value); n > characters {
		k.wrong(path, "has %d characters; at most %d are allowed", n, characters)
	}
}

// document is JSON of any kind.
func (k *checks) document(path string, value models.JSON, bytes int) {
	switch {
	case len(value) > bytes:
		k.wrong(path, "has %d bytes; at most %d are allowed", len(value), bytes)
	case depthOf(value) > maxDepth:
		k.wrong(path, "is nested more than %d levels deep", maxDepth)
	}
}

// object is JSON with names; absent, it is none.
func (k *checks) object(path string, value models.JSON, bytes int) {
	if value != nil && value[0] != '{' {
		k.wrong(path, "must be a JSON object")
		return
	}
	k.document(path, value, bytes)
}

func (k *checks) metadata(value models.JSON) { k.object("metadata", value, maxMetadata) }

// depthOf is how deep a document is nested that encoding/json has written.
func depthOf(document models.JSON) int {
	deepest, depth, quoted := 0, 0, false
	for i := 0; i < len(document); i++ {
		switch c := document[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
