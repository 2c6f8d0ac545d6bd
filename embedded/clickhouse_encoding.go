package embedded

import (
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

// reviseNative rewrites blocks from revision 0 of the Native format, the only one that the library writes, to the
// revision that a client has asked for.
func reviseNative(to io.Writer, blocks []byte, revision uint64) error {
	reader := chproto.NewReader(bytes.NewReader(blocks))
	for {
		block := proto.Block{ServerContext: &column.ServerContext{Revision: revision, Timezone: time.UTC}}
		if err := block.Decode(reader, 0); err != nil {
			if errors.Is(err, io.EOF) && len(block.Columns) == 0 {
				return nil
			}
			return fmt.Errorf("read a block of the result: %w", err)
		}
		if block.Rows() == 0 {
			continue
		}
		var buffer chproto.Buffer
		if err := block.Encode(&buffer, revision); err != nil {
			return fmt.Errorf("write a block of the result: %w", err)
		}
		if _, err := to.Write(buffer.Buf); err != nil {
			return err
		}
	}
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
