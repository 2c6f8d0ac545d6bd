package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"

	"github.com/netra-ai/netra/models"
)

// refusal is a request that never became a GraphQL operation: its status does not depend on the media type of the answer.
type refusal struct {
	status int
	allow  string // the Allow header that goes with 405
	err    error
}

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, err: models.Errorf(models.BadUserInput, format, args...)}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled keeps one large request from holding its memory for ever.
const maxPooled = 64 << 10

// readBody reads the parameters of a POST.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (*graphql.RawParams, *refusal) {
	if refused := checkContentType(r.Header); refused != nil {
		return nil, refused
	}
	tooLarge := func() *refusal {
		return &refusal{
			status: http.StatusRequestEntityTooLarge,
			err:    models.Errorf(models.TooComplex, "the request's body has more than %d bytes", limit),
		}
	}
	if r.ContentLength > limit {
		return nil, tooLarge()
	}
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer putBuffer(buffer)
	body := r.Body
	if r.ContentLength < 0 { // of what said how long it is, net/http reads no more
		body = http.MaxBytesReader(w, body, limit)
	}
	if _, err := io.Copy(buffer, body); err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return nil, tooLarge()
		}
		return nil, refuse(http.StatusBadRequest, "the request's body could not be read")
	}
	return parseParams(buffer.Bytes())
}

func checkContentType(h http.Header) *refusal {
	const want = "the Content-Type of a POST must be application/json, in UTF-8"
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return refuse(http.StatusUnsupportedMediaType, want)
	}
	mediaType, parameters, err := parseMediaType(values[0])
	if err != nil || mediaType != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, want)
	}
	if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return refuse(http.StatusUnsupportedMediaType, want)
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refuse(http.StatusUnsupportedMediaType, "the body of a POST must not be compressed")
	}
	return nil
}

// parseParams reads a request's body. Keys that GraphQL over HTTP does not define are left alone.
func parseParams(body []byte) (*graphql.RawParams, *refusal) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, refuse(http.StatusBadRequest, "the request has no body: send a JSON object with a query")
	}
	value, err := decodeJSON(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the request's body is not acceptable JSON: %s", err)
	}
	object, ok := value.(map[string]any)
	if _, batched := value.([]any); batched {
		return nil, refuse(http.StatusBadRequest, "batches are not supported: send one operation in each request")
	}
	if !ok {
		return nil, refuse(http.StatusBadRequest, "the request's body must be a JSON object")
	}
	return paramsFrom(object)
}

func paramsFrom(object map[string]any) (*graphql.RawParams, *refusal) {
	params := &graphql.RawParams{}
	query, ok := object["query"].(string)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "the parameter query must be a string")
	}
	params.Query = query
	if name := object["operationName"]; name != nil {
		if params.OperationName, ok = name.(string); !ok {
			return nil, refuse(http.StatusBadRequest, "the parameter operationName must be a string")
		}
	}
	if variables := object["variables"]; variables != nil {
		if params.Variables, ok = variables.(map[string]any); !ok {
			return nil, refuse(http.StatusBadRequest, "the parameter variables must be an object")
		}
	}
	if extensions := object["extensions"]; extensions != nil {
		if params.Extensions, ok = extensions.(map[string]any); !ok {
			return nil, refuse(http.StatusBadRequest, "the parameter extensions must be an object")
		}
	}
	return params, nil
}

// readURL reads the parameters of a GET.
func readURL(u *url.URL) (*graphql.RawParams, *refusal) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the URL's query string is malformed")
	}
	object := map[string]any{}
	for _, name := range []string{"query", "operationName", "variables", "extensions"} {
		given := values[name]
		switch {
		case len(given) > 1:
			return nil, refuse(http.StatusBadRequest, "the parameter %s is given twice", name)
		case len(given) == 0 || given[0] == "":
			continue
		case !utf8.ValidString(given[0]):
			return nil, refuse(http.StatusBadRequest, "the parameter %s is not UTF-8", name)
		}
		object[name] = given[0]
		if name == "variables" || name == "extensions" {
			if object[name], err = decodeJSON([]byte(given[0])); err != nil {
				return nil, refuse(http.StatusBadRequest, "the parameter %s is not acceptable JSON: %s", name, err)
			}
		}
	}
	return paramsFrom(object)
}
