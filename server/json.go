package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deep the values of variables can be nested.
const maxJSONDepth = 64

// decodeJSON reads exactly one JSON value, more strictly than encoding/json: no invalid UTF-8, no lone surrogates, no repeated keys, nothing after
// the value. Numbers stay exact (json.Number). Its errors say what is wrong without repeating the text.
func decodeJSON(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	if loneSurrogate(text) {
		return nil, errors.New(`half of a surrogate pair in a \u escape`)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := decodeValue(decoder, 0)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return value, nil
}

func decodeValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := next(decoder)
	if err != nil {
		return nil, err
	}
	delimiter, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == maxJSONDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxJSONDepth)
	}
	if delimiter == '{' {
		return decodeObject(decoder, depth+1)
	}
	return decodeArray(decoder, depth+1)
}

func decodeObject(decoder *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for decoder.More() {
		token, err := next(decoder)
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, malformed(decoder)
		}
		if _, repeated := object[key]; repeated {
			return nil, fmt.Errorf("an object has the same key twice, at byte %d", decoder.InputOffset())
		}
		if object[key], err = decodeValue(decoder, depth); err != nil {
			return nil, err
		}
	}
	_, err := next(decoder) // the closing brace
	return object, err
}

func decodeArray(decoder *json.Decoder, depth int) (any, error) {
	array := []any{}
	for decoder.More() {
		value, err := decodeValue(decoder, depth)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := next(decoder) // the closing bracket
	return array, err
}

func next(decoder *json.Decoder) (json.Token, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, malformed(decoder)
	}
	return token, nil
}

func malformed(decoder *json.Decoder) error {
	return fmt.Errorf("malformed at byte %d", decoder.InputOffset())
}

// loneSurrogate finds escapes that encoding/json would replace by U+FFFD without a word.
func loneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 || i+1 >= len(text) {
			return false
		}
		unit, ok := escapedUnit(text[i:])
		if !ok {
			text = text[i+2:]
			continue
		}
		text = text[i+6:]
		if !utf16.IsSurrogate(unit) {
			continue
		}
		low, ok := escapedUnit(text)
		if !ok || utf16.DecodeRune(unit, low) == utf8.RuneError {
			return true
		}
		text = text[6:]
	}
}

// escapedUnit reads the \uXXXX that text begins with.
func escapedUnit(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var unit rune
	for _, c := range text[2:6] {
		switch {
		case '0' <= c && c <= '9':
			unit = unit<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			unit = unit<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return unit, true
}
