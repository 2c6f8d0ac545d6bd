package server

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/99designs/gqlgen/graphql"

	"github.com/netra-ai/netra/models"
)

const (
	maxFiles   = 10       // of one request
	maxFileMap = 16 << 10 // bytes
)

// isMultipart is whether a request brings files by the GraphQL multipart request specification.
func isMultipart(r *http.Request) bool {
	mediaType, _, err := parseMediaType(r.Header.Get("Content-Type"))
	return r.Method == http.MethodPost && err == nil && mediaType == "multipart/form-data"
}

// readMultipart reads an operation and receives its files, one after the other and straight into the storage, in the order that the specification asks for:
// operations, map, files. Whatever comes back, release must be called when the operation is over: files that it made nothing of are given up.
//
// A form is what any page can make a browser send. It cannot make it send the Authorization header, without which nothing is received.
func (s *Server) readMultipart(ctx context.Context, w http.ResponseWriter, r *http.Request) (params *graphql.RawParams, release func(), err error) {
	var uploads []*models.Upload
	release = func() {
		for _, upload := range uploads {
			s.files.Discard(ctx, upload)
		}
	}
	body, done, err := s.beginReceiving(ctx, w, r)
	if err != nil {
		return nil, release, err
	}
	defer done()
	r.Body = io.NopCloser(body)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, release, refuse(http.StatusBadRequest, "the form is malformed: its Content-Type needs a boundary")
	}
	operations, err := textPart(form, "operations", s.limits.Body)
	if err != nil {
		return nil, release, err
	}
	params, refused := parseParams(operations)
	if refused != nil {
		return nil, release, refused
	}
	places, err := readFileMap(form)
	if err != nil {
		return nil, release, err
	}
	for len(places) > 0 {
		part, err := form.NextPart()
		if err != nil {
			return nil, release, brokenForm(err, "a file that the map names is missing")
		}
		place, ok := places[part.FormName()]
		if !ok {
			return nil, release, refuse(http.StatusBadRequest, "the form has a part that the map does not name, or names once and comes twice")
		}
		delete(places, part.FormName())
		upload, err := s.files.Receive(ctx, part, part.FileName(), part.Header.Get("Content-Type"))
		if err != nil {
			return nil, release, err
		}
		uploads = append(uploads, upload)
		if !place.put(params.Variables, *upload) {
			return nil, release, refuse(http.StatusBadRequest, "the map names a place that is not null in the variables")
		}
	}
	if _, err := form.NextPart(); !errors.Is(err, io.EOF) {
		return nil, release, brokenForm(err, "the form has a part that the map does not name")
	}
	return params, release, nil
}

// brokenForm tells a form that ends where it should not from one that has ended.
func brokenForm(err error, otherwise string) error {
	if err == nil || errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "%s", otherwise)
	}
	return refuse(http.StatusBadRequest, "the form could not be read to its end")
}

// textPart reads the next part of a form, which must have this name.
func textPart(form *multipart.Reader, name string, limit int64) ([]byte, error) {
	part, err := form.NextPart()
	if err != nil {
		return nil, brokenForm(err, "the form has no part "+name)
	}
	if part.FormName() != name {
		return nil, refuse(http.StatusBadRequest, "the form's parts must be operations, map, and the files, in this order")
	}
	text, err := io.ReadAll(io.LimitReader(part, limit+1))
	switch {
	case err != nil:
		return nil, brokenForm(err, "")
	case int64(len(text)) > limit:
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, err: models.Errorf(models.TooComplex, "the form's part %s has more than %d bytes", name, limit)}
	}
	return text, nil
}

// place is where in the variables a file belongs.
type place []string

// readFileMap reads which part of the form belongs where.
func readFileMap(form *multipart.Reader) (map[string]place, error) {
	text, err := textPart(form, "map", maxFileMap)
	if err != nil {
		return nil, err
	}
	value, err := decodeJSON(text)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the form's part map is not acceptable JSON: %s", err)
	}
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 {
		return nil, refuse(http.StatusBadRequest, "the form's part map must be a JSON object that names each file")
	}
	if len(object) > maxFiles {
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, err: models.Errorf(models.TooComplex, "a request may bring %d files", maxFiles)}
	}
	places := make(map[string]place, len(object))
	for name, value := range object {
		list, _ := value.([]any)
		var path string
		if len(list) == 1 {
			path, _ = list[0].(string)
		}
		steps := strings.Split(path, ".")
		if len(steps) < 2 || steps[0] != "variables" {
			return nil, refuse(http.StatusBadRequest, `the form's part map must give each file one place, such as ["variables.input.file"]`)
		}
		places[name] = steps[1:]
	}
	return places, nil
}

// put sets the value at a place that is null, and says whether there is one.
func (p place) put(variables map[string]any, upload models.Upload) bool {
	var here any = variables
	for i, step := range p {
		last := i == len(p)-1
		switch value := here.(type) {
		case map[string]any:
			next, ok := value[step]
			if last && ok && next == nil {
				value[step] = upload
				return true
			}
			here = next
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(value) || strconv.Itoa(n) != step {
				return false
			}
			if last && value[n] == nil {
				value[n] = upload
				return true
			}
			here = value[n]
		default:
			return false
		}
	}
	return false
}
