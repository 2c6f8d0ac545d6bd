package models

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
)

// JSONOperator compares what stands at a path of a document with a value.
type JSONOperator string

const (
	JSONEqual          JSONOperator = "EQ"
	JSONNotEqual       JSONOperator = "NE"
	JSONLess           JSONOperator = "LT"
	JSONLessOrEqual    JSONOperator = "LE"
	JSONGreater        JSONOperator = "GT"
	JSONGreaterOrEqual JSONOperator = "GE"
	JSONIn             JSONOperator = "IN"
	JSONContains       JSONOperator = "CONTAINS"
	JSONExists         JSONOperator = "EXISTS"
)

func (o JSONOperator) MarshalGQL(w io.Writer) { marshalEnum(w, o) }
func (o *JSONOperator) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, o, []JSONOperator{JSONEqual, JSONNotEqual, JSONLess, JSONLessOrEqual, JSONGreater, JSONGreaterOrEqual, JSONIn, JSONContains, JSONExists})
}

// Limits of conditions on documents: what a statement may be made of.
const (
	maxConditions = 10
	maxPath       = 10
	maxStep       = 200 // bytes
	maxChoices    = 100
)

// JSONCondition is a condition on what stands at a path of a document.
type JSONCondition struct {
	Path     []string
	Operator JSONOperator
	Value    JSON
}

// CheckConditions refuses conditions that mean nothing. It fails with BadUserInput.
func CheckConditions(conditions []JSONCondition) error {
	if len(conditions) > maxConditions {
		return Errorf(BadUserInput, "at most %d conditions on one document", maxConditions)
	}
	for _, c := range conditions {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

func (c JSONCondition) check() error {
	if len(c.Path) < 1 || len(c.Path) > maxPath {
		return Errorf(BadUserInput, "a path has between 1 and %d steps", maxPath)
	}
	for _, step := range c.Path {
		if len(step) > maxStep {
			return Errorf(BadUserInput, "a step of a path has at most %d bytes", maxStep)
		}
	}
	kind := c.Value.kind()
	switch c.Operator {
	case JSONLess, JSONLessOrEqual, JSONGreater, JSONGreaterOrEqual:
		if kind != '0' && kind != '"' {
			return Errorf(BadUserInput, "%s compares with a number or text", c.Operator)
		}
	case JSONIn:
		choices, err := c.Choices()
		if err != nil || len(choices) > maxChoices {
			return Errorf(BadUserInput, "IN needs a list of at most %d values", maxChoices)
		}
	case JSONExists:
		if kind != 't' && kind != 'f' && c.Value != nil {
			return Errorf(BadUserInput, "EXISTS needs true, false or no value")
		}
	default:
		if c.Value == nil {
			return Errorf(BadUserInput, "%s needs a value", c.Operator)
		}
	}
	return nil
}

// Choices are the values of IN.
func (c JSONCondition) Choices() ([]JSON, error) {
	var raw []json.RawMessage
	if c.Value.kind() != '[' {
		return nil, Errorf(BadUserInput, "IN needs a list")
	}
	if err := json.Unmarshal(c.Value, &raw); err != nil {
		return nil, Errorf(BadUserInput, "IN needs a list")
	}
	choices := make([]JSON, len(raw))
	for i, value := range raw {
		choices[i] = JSON(value)
	}
	return choices, nil
}

// Wanted is whether EXISTS asks for documents that have the path.
func (c JSONCondition) Wanted() bool { return c.Value.kind() != 'f' }

// Holders are documents of which every document that meets the condition contains one, for an index on containment: nil where there is no
// such thing, because a step may be a place in a list or because the operator is no kind of equality.
func (c JSONCondition) Holders() []JSON {
	for _, step := range c.Path {
		if _, err := strconv.Atoi(step); err == nil {
			return nil
		}
	}
	switch c.Operator {
	case JSONEqual:
		return []JSON{c.under(c.Value)}
	case JSONIn:
		choices, _ := c.Choices() // CheckConditions has seen them
		holders := make([]JSON, len(choices))
		for i, choice := range choices {
			holders[i] = c.under(choice)
		}
		return holders
	case JSONContains:
		holders := []JSON{c.under(c.Value)}
		if kind := c.Value.kind(); kind != '{' && kind != '[' { // a list contains its plain items
			holders = append(holders, c.under(JSON(bytes.Join([][]byte{[]byte("["), []byte("]")}, c.Value))))
		}
		return holders
	default:
		return nil
	}
}

// under is a document with value at the path and nothing else.
func (c JSONCondition) under(value JSON) JSON {
	document := bytes.NewBuffer(nil)
	for _, step := range c.Path {
		key, _ := json.Marshal(step) // text that CheckText has seen
		document.WriteByte('{')
		document.Write(key)
		document.WriteByte(':')
	}
	document.Write(value)
	document.Write(bytes.Repeat([]byte{'}'}, len(c.Path)))
	return document.Bytes()
}

// kind is the document's first byte, '0' for every number, 0 for none.
func (j JSON) kind() byte {
	trimmed := bytes.TrimLeft(j, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return 0
	case trimmed[0] == '-' || trimmed[0] >= '0' && trimmed[0] <= '9':
		return '0'
	default:
		return trimmed[0]
	}
}
