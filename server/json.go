package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxJSONDepth is how deep the values of variables can be nested.
const maxJSONDepth = 64

// decodeJSON reads exactly one JSON value, more strictly than encoding/json: no invalid UTF-8, no lone surrogates, no repeated keys, nothing after
// the value. Numbers stay exact (json.Number). Its errors say what is wrong without repeating the text.
func decodeJSON(text []byte) (any, error) {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true)) // decodeValue sees them, for less
	value, err := decodeValue(decoder)
	if err != nil {
		return nil, inWords(err)
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return value, nil
}

func decodeValue(decoder *jsontext.Decoder) (any, error) {
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	if decoder.StackDepth() > maxJSONDepth {
		return nil, errDepth
	}
	switch token.Kind() {
	case '{':
		object := map[string]any{}
		for decoder.PeekKind() != '}' {
			key, err := decoder.ReadToken()
			if err != nil {
				return nil, err
			}
			name, size := key.String(), len(object) // before the next token
			if object[name], err = decodeValue(decoder); err != nil {
				return nil, err
			}
			if len(object) == size {
				return nil, errRepeated
			}
		}
		_, err := decoder.ReadToken()
		return object, err
	case '[':
		array := []any{}
		for decoder.PeekKind() != ']' {
			value, err := decodeValue(decoder)
			if err != nil {
				return nil, err
			}
			array = append(array, value)
		}
		_, err := decoder.ReadToken()
		return array, err
	case '"':
		return token.String(), nil
	case '0':
		return json.Number(token.String()), nil
	case 'n':
		return nil, nil
	default:
		return token.Bool(), nil
	}
}

var (
	errDepth    = fmt.Errorf("nested more than %d levels deep", maxJSONDepth)
	errRepeated = errors.New("an object has the same key twice")
)

func inWords(err error) error {
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("it ends too early")
	case errors.As(err, &syntactic):
		return fmt.Errorf("malformed at byte %d", syntactic.ByteOffset)
	default:
		return err
	}
}
