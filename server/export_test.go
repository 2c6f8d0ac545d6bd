package server

// What tests look at from outside.
var (
	CheckDefers = checkDefers
	CostOf      = costOf
	DecodeJSON  = decodeJSON
)

// MediaType is that of an answer to who accepts this.
func MediaType(accept string) string { return acceptedFrom(accept).json }

// Check holds a document against the limits that need no schema.
func (l Limits) Check(query string) error {
	if _, err := l.withDefaults().parse(query); err != nil {
		return err
	}
	return nil
}
