package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"

	"github.com/netra-ai/netra/models"
)

const (
	headSize = 4096 // what mimetype looks at

	// MaxText is how many bytes of a text are kept beside the object. Full text reads 50,000 characters, of at most 4 bytes each.
	MaxText = 200_000
)

// ErrUnreadable is that the sender, and not the storage, has failed.
var ErrUnreadable = errors.New("the upload could not be read to its end")

// DefaultTypes is what may be uploaded: documents, data, pictures, sound, films, archives, and what nothing is known of. Programs are not among it.
var DefaultTypes = []string{
	"text/*", "image/*", "audio/*", "video/*", "font/*", "model/*",
	"application/json", "application/x-ndjson", "application/*+json", "application/*+xml", "application/pdf", "application/x-subrip",
	"application/vnd.openxmlformats-officedocument.*", "application/vnd.oasis.opendocument.*", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
	"application/vnd.ms-outlook", "application/msword", "application/x-ole-storage", "application/epub+zip",
	"application/vnd.apache.parquet", "application/vnd.sqlite3", "application/x-hdf*", "application/x-netcdf",
	"application/zip", "application/gzip", "application/zstd", "application/x-xz", "application/x-bzip2", "application/x-7z-compressed", "application/x-tar",
	"application/octet-stream",
}

// Rules are what an object must keep to.
type Rules struct {
	Limit    int64    // bytes
	Types    []string // media types that are taken, with * for any text; an empty list takes all
	Declared string   // the media type that the sender gave; it is compared and never believed
	Name     string   // the file's; of kinds of text that look alike its ending tells which
}

// Facts are what has been seen of an object while it went by.
type Facts struct {
	Size      int64
	Checksum  string  // SHA-256 in hex
	MediaType string  // as sniffed, without parameters
	Text      *string // the first MaxText bytes of a text in UTF-8; nil for anything else
}

// inspection is a reader that looks at what it reads.
type inspection struct {
	caller    context.Context // ends the reading
	from      io.Reader
	head      []byte // read already, to be read again
	limit     int64
	size      int64
	sum       hash.Hash
	mediaType string
	text      *bytes.Buffer // nil when there is none to keep
	failed    error         // why reading ended before the end
}

func newInspection(ctx context.Context, from io.Reader, rules Rules) (*inspection, error) {
	in := &inspection{caller: ctx, from: from, limit: rules.Limit, sum: sha256.New()}
	var err error
	if in.head, err = io.ReadAll(io.LimitReader(from, headSize)); err != nil {
		return nil, unreadable(err)
	}
	if in.mediaType, err = typeOf(in.head, rules.Declared, rules.Name); err != nil {
		return nil, err
	}
	if len(rules.Types) > 0 && !slices.ContainsFunc(rules.Types, func(pattern string) bool { return matches(pattern, in.mediaType) }) {
		return nil, models.Errorf(models.UnsupportedMediaType, "files of type %s are not taken", in.mediaType)
	}
	if slices.Contains(texts, in.mediaType) {
		in.text = new(bytes.Buffer)
	}
	return in, nil
}

// known is the size of an object so small that all of it has been read; -1 of others.
func (in *inspection) known() int64 {
	if len(in.head) == headSize {
		return -1
	}
	return int64(len(in.head))
}

func unreadable(err error) error { return fmt.Errorf("%w: %w", ErrUnreadable, err) }

func (in *inspection) Read(p []byte) (n int, err error) {
	if in.failed != nil {
		return 0, in.failed
	}
	if len(in.head) > 0 {
		n = copy(p, in.head)
		in.head = in.head[n:]
	} else if n, err = in.from.Read(p); err != nil && !errors.Is(err, io.EOF) {
		in.failed = unreadable(err)
		return 0, in.failed
	}
	if in.failed = in.caller.Err(); in.failed != nil {
		return 0, in.failed
	}
	if in.size += int64(n); in.size > in.limit {
		in.failed = TooLarge(in.limit)
		return 0, in.failed
	}
	in.sum.Write(p[:n])
	if in.text != nil {
		in.text.Write(p[:min(n, MaxText-in.text.Len())])
	}
	return n, err
}

// TooLarge is the error for more bytes than are allowed.
func TooLarge(limit int64) *models.Error {
	return models.Errorf(models.TooComplex, "the file has more than %d bytes", limit)
}

func (in *inspection) facts() *Facts {
	facts := &Facts{Size: in.size, Checksum: hex.EncodeToString(in.sum.Sum(nil)), MediaType: in.mediaType}
	if in.text != nil {
		facts.Text = readable(in.text.Bytes(), in.size > MaxText)
	}
	return facts
}

// readable is text as the database can hold it: UTF-8 without a byte order mark and without NUL. A text that was cut ends with a whole character.
func readable(raw []byte, cut bool) *string {
	raw = bytes.TrimPrefix(raw, []byte("\uFEFF"))
	for i := 1; cut && i < utf8.UTFMax && i <= len(raw); i++ {
		if tail := raw[len(raw)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				raw = raw[:len(raw)-i]
			}
			break
		}
	}
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return nil
	}
	text := string(raw)
	return &text
}

// texts are the types whose text is kept.
var texts = []string{"text/plain", "text/markdown", "text/csv", "text/tab-separated-values", "application/json", "application/x-ndjson"}

// named are endings of texts that cannot be told from plain ones by looking at them.
var named = map[string]string{".md": "text/markdown", ".markdown": "text/markdown", ".csv": "text/csv", ".tsv": "text/tab-separated-values"}

// typeOf is the media type of a file that begins with head. What the sender says must not contradict it; of plain text it may tell the kind.
func typeOf(head []byte, declared, name string) (string, error) {
	sniffed := mimetype.Detect(head)
	found := base(sniffed.String())
	said := base(declared)
	if said == "" || said == "application/octet-stream" {
		said = named[strings.ToLower(path.Ext(name))]
	} else if contradicts(sniffed, said) {
		return "", models.Errorf(models.UnsupportedMediaType, "the file is %s and not %s", found, said)
	}
	if found == "text/plain" && slices.Contains(texts, said) && !strings.HasPrefix(said, "application/") {
		return said, nil
	}
	return found, nil
}

// families are types of which the kinds may be taken where they themselves are not: the library does not tell a type's kinds.
var families = []string{"text/plain", "text/xml", "application/json", "application/zip", "application/x-ole-storage", "application/ogg", "image/png", "video/mp4", "application/vnd.shx"}

// Hopeless is whether no file that was declared to be of this type can be taken.
func Hopeless(declared string, types []string) bool {
	said := base(declared)
	known := mimetype.Lookup(said)
	if len(types) == 0 || known == nil || known.Parent() == nil || slices.Contains(families, base(known.String())) {
		return false
	}
	taken := func(kind string) bool {
		return slices.ContainsFunc(types, func(pattern string) bool {
			exact := mimetype.Lookup(pattern)
			return matches(pattern, kind) || exact != nil && within(exact, kind)
		})
	}
	if taken(said) {
		return false
	}
	for kind := known; kind.Parent() != nil; kind = kind.Parent() {
		if taken(base(kind.String())) {
			return false
		}
	}
	return true
}

// contradicts is whether a file cannot be what was said. Kinds of one family do not contradict each other (a .docx is a .zip), nor does a type that
// has no signature.
func contradicts(sniffed *mimetype.MIME, said string) bool {
	known := mimetype.Lookup(said)
	if known == nil {
		return strings.HasPrefix(said, "text/") && !within(sniffed, "text/plain")
	}
	return !within(sniffed, said) && !(sniffed.Parent() != nil && within(known, sniffed.String()))
}

// within is whether a type is another, or a kind of it.
func within(kind *mimetype.MIME, of string) bool {
	for ; kind != nil; kind = kind.Parent() {
		if kind.Is(of) {
			return true
		}
	}
	return false
}

// base is a media type without its parameters, in lower case; empty where there is none.
func base(mediaType string) string {
	parsed, _, err := mime.ParseMediaType(mediaType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return parsed
}

// matches is whether a media type has a pattern's form, in which * stands for any text.
func matches(pattern, mediaType string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == mediaType
	}
	return len(mediaType) >= len(before)+len(after) && strings.HasPrefix(mediaType, before) && strings.HasSuffix(mediaType, after)
}
