package server

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/internal/share"
	"github.com/netra-ai/netra/models"
)

// Files receives and gives files. Its methods answer as app.Files documents.
type Files interface {
	Receive(ctx context.Context, from io.Reader, name, declared string) (*models.Upload, error)
	Discard(ctx context.Context, upload *models.Upload)
	ReadUploadLink(token string) (models.Link, error)
	Complete(ctx context.Context, link models.Link, from io.Reader, said models.Sending) (reference *models.Reference, created bool, err error)
	ReadDownloadLink(token string) (models.Link, error)
	Open(ctx context.Context, reference uuid.UUID) (*models.StoredFile, io.ReadSeekCloser, error)
}

const (
	transferTimeout = time.Hour // for one file, either way
	maxRanges       = 10        // of one download; with more it is given whole
)

// serveUpload takes the file that a signed URL was given out for. The URL is the credential: there need not be a token.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	reference, created, err := s.receiveUpload(w, r)
	if err != nil {
		s.refuseFile(w, r, err)
		return
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	h.Set("Location", contentPath(reference.ID()))
	respondJSON(w, status, map[string]string{"referenceId": reference.ID()})
}

func (s *Server) receiveUpload(w http.ResponseWriter, r *http.Request) (reference *models.Reference, created bool, err error) {
	if r.Method != http.MethodPut {
		refused := refuse(http.StatusMethodNotAllowed, "use PUT")
		refused.allow = "PUT, OPTIONS"
		return nil, false, refused
	}
	link, err := s.files.ReadUploadLink(r.PathValue("token"))
	if err != nil {
		return nil, false, err
	}
	ctx, err := s.withLink(r.Context(), link)
	if err != nil {
		return nil, false, err
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, false, refuse(http.StatusUnsupportedMediaType, "send the file as it is, without a Content-Encoding")
	}
	if r.Header.Get("Content-Range") != "" {
		return nil, false, refuse(http.StatusBadRequest, "send the whole file: uploads cannot be resumed")
	}
	checksum, err := digestOf(r.Header)
	if err != nil {
		return nil, false, err
	}
	body, done, err := s.beginReceiving(ctx, w, r)
	if err != nil {
		return nil, false, err
	}
	defer done()
	reference, created, err = s.files.Complete(ctx, link, body, models.Sending{Length: r.ContentLength, MediaType: r.Header.Get("Content-Type"), Checksum: checksum})
	if !body.ended { // otherwise the beginning of the rest would be waited for, before the answer goes
		w.Header().Set("Connection", "close")
	}
	return reference, created, err
}

// digestOf is the SHA-256 that a sender states (RFC 9530), in hex; empty where there is none.
func digestOf(h http.Header) (string, error) {
	for _, value := range append(h.Values("Repr-Digest"), h.Values("Content-Digest")...) {
		for member := range strings.SplitSeq(value, ",") {
			name, encoded, _ := strings.Cut(strings.TrimSpace(member), "=")
			if name != "sha-256" {
				continue
			}
			sum, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimPrefix(encoded, ":"), ":"))
			if err != nil || len(sum) != sha256.Size {
				return "", refuse(http.StatusBadRequest, "a SHA-256 is stated as sha-256=:…:, with its 32 bytes in Base64")
			}
			return hex.EncodeToString(sum), nil
		}
	}
	return "", nil
}

// beginReceiving takes a place among those who send files, and gives the sender time for as long as something comes. It fails with Unauthenticated without a
// viewer, and with RateLimited.
func (s *Server) beginReceiving(ctx context.Context, w http.ResponseWriter, r *http.Request) (body *patientBody, done func(), err error) {
	leave, err := takePlace(ctx, s.receiving, "uploaded")
	if err != nil {
		return nil, nil, err
	}
	control := http.NewResponseController(w)
	// Deadlines are those of the connection and not every ResponseWriter has one; without it there is nobody to wait for.
	_ = control.SetWriteDeadline(time.Now().Add(transferTimeout + s.limits.Timeout + writeTimeout))
	body = &patientBody{from: r.Body, control: control, patience: patience{idle: s.limits.Stall, until: time.Now().Add(transferTimeout)}}
	return body, func() {
		if !body.ended {
			_ = control.SetReadDeadline(time.Now().Add(s.limits.Stall)) // net/http reads some of what is left
		}
		leave()
	}, nil
}

func takePlace(ctx context.Context, places *share.Places, what string) (leave func(), err error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if leave, err = places.Take(viewer.UserID); err != nil {
		return nil, models.Errorf(models.RateLimited, "too many files are being %s at once: try again in a moment", what)
	}
	return leave, nil
}

// withLink is the context of whoever a link was given to, with the rights that they have now.
func (s *Server) withLink(ctx context.Context, link models.Link) (context.Context, error) {
	standing, err := s.standing(ctx, []models.Viewer{{UserID: link.UserID, APIKey: link.APIKey}})
	if err != nil {
		return nil, err
	}
	if len(standing) != 1 || standing[0].UserID != link.UserID {
		return nil, models.Errorf(models.Unauthenticated, "whoever this link was made for may not sign in any more")
	}
	viewer := standing[0]
	requestFrom(ctx).setUser(viewer.UserID)
	return models.WithViewer(ctx, viewer), nil
}

// refuseFile answers what went wrong with a file.
func (s *Server) refuseFile(w http.ResponseWriter, r *http.Request, err error) {
	var refused *refusal
	if !errors.As(err, &refused) {
		refused = &refusal{err: err}
		if models.CodeOf(err) == models.TooComplex {
			refused.status = http.StatusRequestEntityTooLarge
		}
	}
	s.refuse(w, r, plainJSON, refused)
}

func contentPath(reference string) string { return routeReferences + reference + "/content" }

// serveContent gives the file of a reference to whoever may see the reference: by a token in the header, or by one in the URL that the graph gave out.
// Whatever was uploaded, it is a download and runs nothing here.
func (s *Server) serveContent(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Referrer-Policy", "no-referrer") // the URL may hold a token
	ctx, reference, err := s.readContentRequest(r)
	if err != nil {
		s.refuseFile(w, r, err)
		return
	}
	leave, err := takePlace(ctx, s.giving, "downloaded")
	if err != nil {
		s.refuseFile(w, r, err)
		return
	}
	defer leave()
	file, content, err := s.files.Open(ctx, reference)
	if err != nil {
		s.refuseFile(w, r, err)
		return
	}
	defer content.Close() // what was read has been sent
	mediaType := "application/octet-stream"
	if file.MediaType != nil {
		mediaType = *file.MediaType
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file.Name}))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+file.Checksum+`"`)
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range") // each is a request to the storage
	}
	answer := &contentWriter{patientWriter: patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: patience{idle: s.limits.Stall, until: time.Now().Add(transferTimeout)}}}
	answer.refuse = func(status int) {
		h.Del("Content-Disposition")
		refused := &refusal{err: models.Errorf(models.StorageUnavailable, "the file cannot be read now: try again")}
		if status == http.StatusRequestedRangeNotSatisfiable {
			refused = refuse(status, "the file has no such range")
			if size, err := content.Seek(0, io.SeekEnd); err == nil {
				h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
			}
		}
		s.refuseFile(w, r, refused)
	}
	http.ServeContent(answer, r, "", file.CreatedAt, content)
}

// contentWriter is where http.ServeContent writes to. What that would answer in plain text, refuse answers.
type contentWriter struct {
	patientWriter
	refuse  func(status int)
	refused bool
}

func (w *contentWriter) WriteHeader(status int) {
	if w.refused = status == http.StatusRequestedRangeNotSatisfiable || status >= http.StatusInternalServerError; w.refused {
		w.refuse(status)
		return
	}
	w.patientWriter.WriteHeader(status)
}

func (w *contentWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.patientWriter.Write(p)
}

// readContentRequest says which reference's file is asked for, and for whom.
func (s *Server) readContentRequest(r *http.Request) (ctx context.Context, reference uuid.UUID, err error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refused := refuse(http.StatusMethodNotAllowed, "use GET or HEAD")
		refused.allow = "GET, HEAD, OPTIONS"
		return nil, uuid.Nil, refused
	}
	global, err := models.ParseIDOf(models.KindReference, r.PathValue("id"))
	if err != nil {
		return nil, uuid.Nil, err
	}
	if reference, err = global.UUID(); err != nil {
		return nil, uuid.Nil, err
	}
	ctx, err = s.authenticateHeader(r)
	if token := r.URL.Query().Get("token"); err == nil && token != "" {
		var link models.Link
		if link, err = s.files.ReadDownloadLink(token); err == nil && link.Reference != reference {
			err = models.Errorf(models.Unauthenticated, "the link is for another file")
		}
		if err == nil {
			ctx, err = s.withLink(r.Context(), link)
		}
	}
	return ctx, reference, err
}

// patience gives whoever is on the other end of a connection so much time from each byte to the next, and so much for all.
type patience struct {
	idle  time.Duration
	until time.Time

	renewed time.Time
}

// renewal is how often a deadline is set anew, as a part of the time that it gives: setting it costs something.
const renewal = 16

func (p *patience) renew(set func(deadline time.Time) error) {
	now := time.Now()
	if now.Sub(p.renewed) <= p.idle/renewal {
		return
	}
	deadline := now.Add(p.idle)
	if deadline.After(p.until) {
		deadline = p.until
	}
	_ = set(deadline) // see beginReceiving
	p.renewed = now
}

// patientBody gives a sender time for as long as something comes.
type patientBody struct {
	from     io.Reader
	control  *http.ResponseController
	patience patience
	ended    bool // there is no more
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.patience.renew(b.control.SetReadDeadline)
	n, err := b.from.Read(p)
	if errors.Is(err, io.EOF) {
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{}) // when it passed, the context would end as if the sender had left, who is waiting for the answer
	}
	return n, err
}

// patientWriter gives a reader time for as long as something goes.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience patience
}

func (w *patientWriter) Write(p []byte) (int, error) {
	w.patience.renew(w.control.SetWriteDeadline)
	return w.ResponseWriter.Write(p)
}
