package models

import (
	"database/sql/driver"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"
)

// CheckText refuses what PostgreSQL cannot store: NUL and invalid UTF-8. It fails with BadUserInput.
func CheckText(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return Errorf(BadUserInput, "text must not contain NUL characters")
	}
	if !utf8.ValidString(s) {
		return Errorf(BadUserInput, "text must be valid UTF-8")
	}
	return nil
}

// JSON is a JSON document as the database stores it; it is passed on without being parsed.
type JSON json.RawMessage

// MarshalGQL writes the document; an absent one is null.
func (j JSON) MarshalGQL(w io.Writer) {
	if len(j) == 0 {
		_, _ = io.WriteString(w, "null") // the writer is a buffer
		return
	}
	_, _ = w.Write(j)
}

// UnmarshalGQL takes any JSON value that jsonb can store. It fails with BadUserInput.
func (j *JSON) UnmarshalGQL(v any) error {
	if err := checkJSON(v); err != nil {
		return err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return Errorf(BadUserInput, "not a JSON value")
	}
	*j = raw
	return nil
}

func checkJSON(v any) error {
	switch v := v.(type) {
	case string:
		return CheckText(v)
	case []any:
		for _, item := range v {
			if err := checkJSON(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, item := range v {
			if err := CheckText(key); err != nil {
				return err
			}
			if err := checkJSON(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// Scan reads a jsonb column.
func (j *JSON) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		*j = nil
	case []byte:
		*j = append(JSON(nil), src...)
	case string:
		*j = JSON(src)
	default:
		return Errorf(Internal, "scan %T into JSON", src)
	}
	return nil
}

// Value writes a jsonb column.
func (j JSON) Value() (driver.Value, error) {
	if len(j) == 0 {
		return nil, nil
	}
	return string(j), nil
}
