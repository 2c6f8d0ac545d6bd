package embedded

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// streamable are the formats in which a result is the blocks' outputs one behind the other. In all others (JSON, …WithNames,
// Pretty) a result has a beginning and an end, which the engine writes around every block that it streams.
var streamable = map[string]bool{
	"native": true, "rowbinary": true, "msgpack": true,
	"tabseparated": true, "tsv": true, "tabseparatedraw": true, "tsvraw": true, "raw": true, "csv": true, "lineasstring": true,
	"jsoneachrow": true, "jsonlines": true, "ndjson": true, "jsonstringseachrow": true,
	"jsoncompacteachrow": true, "jsoncompactstringseachrow": true,
}

func contentType(format string) string {
	format = strings.ToLower(format)
	switch {
	case format == "jsonlines", format == "ndjson", strings.HasPrefix(format, "json") && strings.HasSuffix(format, "eachrow"):
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(format, "json"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(format, "csv"):
		return "text/csv; charset=UTF-8"
	case strings.HasPrefix(format, "tabseparated"), strings.HasPrefix(format, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case format == "native", strings.HasPrefix(format, "rowbinary"), format == "msgpack", format == "parquet", strings.HasPrefix(format, "arrow"):
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}

// nativeReviser rewrites blocks from revision 0 of the Native format, the only one that the library writes, to the
// revision that a client has asked for. The two differ around the columns only, and a column tells its length to nobody
// but its decoder: each is decoded to find its end, and passed on byte for byte.
type nativeReviser struct {
	blocks   []byte
	unread   *bytes.Reader
	buffered *bufio.Reader
	reader   *chproto.Reader
	revision uint64
}

// nativeBuffer is at least what chproto.NewReader would make, which otherwise wraps a buffer of its own around ours and
// hides how far it has read.
const nativeBuffer = 256 << 10

func reviseNative(to io.Writer, blocks []byte, revision uint64) error {
	unread := bytes.NewReader(blocks)
	buffered := bufio.NewReaderSize(unread, nativeBuffer)
	r := &nativeReviser{blocks: blocks, unread: unread, buffered: buffered, reader: chproto.NewReader(buffered), revision: revision}
	for r.position() < len(blocks) {
		var block chproto.Buffer
		if err := r.block(&block); err != nil {
			return newEngineError(codeNotImplemented, "NOT_IMPLEMENTED", "the embedded engine cannot send this result: "+err.Error())
		}
		if _, err := to.Write(block.Buf); err != nil {
			return err
		}
	}
	return nil
}

func (r *nativeReviser) position() int {
	return len(r.blocks) - r.unread.Len() - r.buffered.Buffered()
}

func (r *nativeReviser) block(to *chproto.Buffer) error {
	columns, err := r.reader.UVarInt()
	if err != nil {
		return err
	}
	rows, err := r.reader.Int()
	if err != nil {
		return err
	}
	// What the revision adds to a block: field 1, not an overflow block; field 2, no bucket; end of fields.
	to.PutUVarInt(1)
	to.PutBool(false)
	to.PutUVarInt(2)
	to.PutInt32(-1)
	to.PutUVarInt(0)
	to.PutUVarInt(columns)
	to.PutUVarInt(uint64(rows))
	for range columns {
		if err := r.column(to, rows); err != nil {
			return err
		}
	}
	return nil
}

func (r *nativeReviser) column(to *chproto.Buffer, rows int) error {
	start := r.position()
	name, err := r.reader.Str()
	if err != nil {
		return err
	}
	kind, err := r.reader.Str()
	if err != nil {
		return err
	}
	values := r.position()
	if !bytes.HasSuffix(r.blocks[:values], []byte(kind)) {
		return errors.New("lost track of the Native format")
	}
	if rows > 0 {
		if err := skipColumn(r.reader, name, column.Type(kind), rows, r.revision); err != nil {
			return err
		}
	}
	to.PutRaw(r.blocks[start:values])
	if r.revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
		to.PutBool(false)
	}
	to.PutRaw(r.blocks[values:r.position()])
	return nil
}

func skipColumn(reader *chproto.Reader, name string, kind column.Type, rows int, revision uint64) error {
	decoder, err := kind.Column(name, &column.ServerContext{Revision: revision, Timezone: time.UTC})
	if err != nil {
		return err
	}
	if prefixed, ok := decoder.(column.CustomSerialization); ok {
		if err := prefixed.ReadStatePrefix(reader); err != nil {
			return err
		}
	}
	return decoder.Decode(reader, rows)
}

// decodedBody undoes the two ways in which a client may compress what it sends: HTTP's, and ClickHouse's own frames.
func decodedBody(body io.Reader, contentEncoding string, frames bool) (io.Reader, error) {
	switch contentEncoding {
	case "", "identity":
	case "gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		body = unzipped
	case "deflate":
		inflated, err := zlib.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("deflate: %w", err)
		}
		body = inflated
	default:
		return nil, newEngineError(codeNotImplemented, "NOT_IMPLEMENTED",
			"the embedded engine does not know the Content-Encoding "+contentEncoding)
	}
	if frames {
		body = compress.NewReader(body)
	}
	return body, nil
}

// frameWriter compresses in ClickHouse's frames, each of them complete in itself.
type frameWriter struct {
	to    io.Writer
	frame *compress.Writer
}

func newFrameWriter(to io.Writer, method string) *frameWriter {
	chosen := compress.LZ4
	if strings.EqualFold(method, "ZSTD") {
		chosen = compress.ZSTD
	}
	return &frameWriter{to: to, frame: compress.NewWriter(compress.LevelZero, chosen)}
}

const frameSize = 1 << 20

func (w *frameWriter) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		piece := data[:min(len(data), frameSize)]
		if err := w.frame.Compress(piece); err != nil {
			return written, fmt.Errorf("compress the result: %w", err)
		}
		if _, err := w.to.Write(w.frame.Data); err != nil {
			return written, err
		}
		written += len(piece)
		data = data[len(piece):]
	}
	return written, nil
}
