package scalar

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"
)

// For each scalar, Append… adds the text that Marshal… writes.

func AppendInt(text []byte, n int) []byte { return strconv.AppendInt(text, int64(n), 10) }

func AppendBoolean(text []byte, b bool) []byte { return strconv.AppendBool(text, b) }

func AppendID(text []byte, id string) []byte { return AppendString(text, id) }

// AppendString escapes no more than it must, as the executor does. Nothing in most of a text has to be, which is seen eight bytes at a time.
func AppendString(text []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	text = append(text, '"')
	start := 0
	for i := 0; i < len(s); {
		end := min(i+8, len(s))
		if end == i+8 && !needsEscape(s[i:end]) {
			i = end
			continue
		}
		for ; i < end; i++ {
			c := s[i]
			if c >= ' ' && c != '"' && c != '\\' {
				continue
			}
			text = append(text, s[start:i]...)
			start = i + 1
			switch c {
			case '\t':
				text = append(text, `\t`...)
			case '\r':
				text = append(text, `\r`...)
			case '\n':
				text = append(text, `\n`...)
			case '"', '\\':
				text = append(text, '\\', c)
			default:
				text = append(text, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			}
		}
	}
	text = append(text, s[start:]...)
	return append(text, '"')
}

// needsEscape looks at all of eight bytes in one word. A byte is less than n where subtracting n borrows from its highest bit, which it did not have;
// it is some character where it is less than 1 once the bits of that character are turned.
func needsEscape(eight string) bool {
	const each, highest = 0x0101010101010101, 0x8080808080808080
	word := binary.LittleEndian.Uint64([]byte(eight)) // which is not copied
	quote, backslash := word^each*'"', word^each*'\\'
	return ((word-each*' ')&^word|(quote-each)&^quote|(backslash-each)&^backslash)&highest != 0
}

func AppendDateTime(text []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		text = append(text, '"')
		text = t.AppendFormat(text, dateTime)
		return append(text, '"')
	}
	hour, minute, second := t.Clock()
	text = append(text, '"')
	text = appendTwo(appendTwo(text, year/100), year%100)
	text = appendTwo(append(text, '-'), int(month))
	text = appendTwo(append(text, '-'), day)
	text = appendTwo(append(text, 'T'), hour)
	text = appendTwo(append(text, ':'), minute)
	text = appendTwo(append(text, ':'), second)
	millis := t.Nanosecond() / int(time.Millisecond)
	text = appendTwo(append(text, '.', byte('0'+millis/100)), millis%100)
	return append(text, 'Z', '"')
}

func appendTwo(text []byte, n int) []byte { return append(text, byte('0'+n/10), byte('0'+n%10)) }

func AppendDate(text []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(text, `"`+time.DateOnly+`"`)
}

func AppendUUID(text []byte, u uuid.UUID) []byte {
	text = append(text, '"')
	for i, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return append(text, '"')
}

func AppendBigInt(text []byte, n int64) []byte {
	text = strconv.AppendInt(append(text, '"'), n, 10)
	return append(text, '"')
}

// AppendEnum adds a value of a column as the graph names it: in upper case.
func AppendEnum[E ~string](text []byte, value E) []byte {
	text = append(text, '"')
	for i := range len(value) {
		c := value[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		text = append(text, c)
	}
	return append(text, '"')
}

// AppendMarshaler writes a value that writes itself.
func AppendMarshaler(text []byte, value graphql.Marshaler) []byte {
	w := writer(text)
	value.MarshalGQL(&w)
	return w
}

type writer []byte

func (w *writer) Write(p []byte) (int, error)       { *w = append(*w, p...); return len(p), nil }
func (w *writer) WriteString(s string) (int, error) { *w = append(*w, s...); return len(s), nil }
