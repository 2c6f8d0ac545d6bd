package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/models"
)

const (
	maxIngestWindow = 8 << 20 // bytes that a zstd frame may need to be kept while it is read; RFC 9659 asks for as much
	maxIngestAtOnce = 64      // requests
	ingestIdle      = 20 * time.Second
	ingestTimeout   = 5 * time.Minute
)

// serveIngest takes workload events as NDJSON and answers when they are durable, all of them or none. Machines send it: there is no CORS.
func (s *Server) serveIngest(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	accepted, err := s.ingestEvents(w, r)
	var refused *refusal
	var several *models.EventErrors
	switch {
	case err == nil:
		respondJSON(w, http.StatusOK, map[string]int{"accepted": accepted})
	case errors.As(err, &several):
		s.refuseEvents(w, r, several)
	case errors.As(err, &refused):
		s.refuse(w, r, plainJSON, refused)
	default:
		s.refuse(w, r, plainJSON, &refusal{err: err})
	}
}

func (s *Server) ingestEvents(w http.ResponseWriter, r *http.Request) (accepted int, err error) {
	if r.Method != http.MethodPost {
		refused := refuse(http.StatusMethodNotAllowed, "use POST")
		refused.allow = http.MethodPost
		return 0, refused
	}
	ctx, err := s.authenticateHeader(r)
	if err != nil {
		return 0, err
	}
	if _, err := models.ViewerFrom(ctx); err != nil {
		return 0, err
	}
	if refused := checkIngestType(r.Header); refused != nil {
		return 0, refused
	}
	select {
	case s.ingesting <- struct{}{}:
		defer func() { <-s.ingesting }()
	default:
		return 0, models.Errorf(models.RateLimited, "%d requests are recording events: try again in a moment", maxIngestAtOnce)
	}
	control := http.NewResponseController(w)
	// Deadlines are those of the connection and not every ResponseWriter has one; without it there is nobody to wait for.
	_ = control.SetWriteDeadline(time.Now().Add(ingestTimeout + writeTimeout))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	sent := &patientBody{from: r.Body, control: control, patience: patience{idle: ingestIdle, until: time.Now().Add(ingestTimeout)}}
	lines, done, err := decompress(sent, r.Header.Get("Content-Encoding"))
	if err != nil {
		return 0, s.unreadableEvents(err)
	}
	defer done()
	accepted, err = s.ingest(ctx, &boundedReader{from: lines, left: s.limits.Events}, r.Header.Get("Idempotency-Key"))
	var known *models.Error
	if err != nil && !errors.As(err, &known) {
		return 0, s.unreadableEvents(err)
	}
	return accepted, err
}

func (r *refusal) Error() string { return r.err.Error() }

func checkIngestType(h http.Header) *refusal {
	const want = "the Content-Type must be application/x-ndjson, in UTF-8"
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return refuse(http.StatusUnsupportedMediaType, want)
	}
	mediaType, parameters, err := mime.ParseMediaType(values[0])
	if err != nil || mediaType != "application/x-ndjson" && mediaType != "application/ndjson" {
		return refuse(http.StatusUnsupportedMediaType, want)
	}
	if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return refuse(http.StatusUnsupportedMediaType, want)
	}
	return nil
}

var errTooManyBytes = errors.New("over the limit")

// unreadableEvents says why a body could not be read to its end.
func (s *Server) unreadableEvents(err error) error {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, errTooManyBytes):
		return &refusal{status: http.StatusRequestEntityTooLarge, err: models.Errorf(models.TooComplex,
			"a request may have %d bytes of events, decompressed: send several", s.limits.Events)}
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return refuse(http.StatusBadRequest, "the zstd window may have %d bytes", maxIngestWindow)
	default:
		return refuse(http.StatusBadRequest, "the request's body could not be read")
	}
}

// decompress undoes one encoding. What it returns must be done with.
func decompress(body io.Reader, encoding string) (lines io.Reader, done func(), err error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, func() {}, nil
	case "gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return unzipped, func() {}, nil
	case "zstd":
		unzipped, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxIngestWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return unzipped, unzipped.Close, nil
	default:
		return nil, nil, refuse(http.StatusUnsupportedMediaType, "the Content-Encoding must be gzip, zstd or identity")
	}
}

// boundedReader fails beyond its limit, where io.LimitReader would end.
type boundedReader struct {
	from io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooManyBytes
	}
	return n, err
}

// refuseEvents answers with an error for each line that is wrong, and the line's number.
func (s *Server) refuseEvents(w http.ResponseWriter, r *http.Request, several *models.EventErrors) {
	var errs gqlerror.List
	for _, one := range several.Errors {
		failure := s.present(r.Context(), gqlerror.Wrap(one.Err))
		failure.Extensions["line"] = one.Place
		errs = append(errs, failure)
	}
	if several.More {
		errs = append(errs, coded("lines behind these were not looked at", models.BadUserInput))
	}
	requestFrom(r.Context()).addErrors(errs)
	respondErrors(w, plainJSON, statusOf(errs), errs)
}

// Ingest takes events from NDJSON for the viewer of ctx, all or none, and says how many when they are durable. Events with the same key count
// once; the empty key is none. Its errors are models.Errors, EventErrors, or those of lines.
type Ingest func(ctx context.Context, lines io.Reader, key string) (accepted int, err error)
