package embeddings

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/netra-ai/netra/internal/share"
	"github.com/netra-ai/netra/models"
)

// Config says who embeds.
type Config struct {
	URL   string // of the interface, such as https://api.example.com/v1; texts are posted to /embeddings below it
	Model string // which gives 1536 numbers, of itself or on demand
	Key   string // a bearer token; "" sends none

	Timeout       time.Duration // of a batch; 60 s unless set
	QueryDeadline time.Duration // of a text that somebody waits for; 5 s unless set
	Queries       int           // texts of searches that are embedded at a time, others wait; 16 unless set. A user alone may have two thirds, and fewer beside others
	Waiting       int           // texts of searches of one user that wait for that; 64 unless set
	Cache         int           // texts of searches whose embeddings are kept, about 20 KB each; 256 unless set
}

// Endpoint is the other side. It is safe for concurrent use.
type Endpoint struct {
	cfg     Config
	address string
	client  *http.Client
	queries *share.Places
	cache   *lru.Cache[question, string]
	metrics *metrics
	// Models that can be shortened to 1536 numbers give them on demand; others, and older servers, refuse the demand. So it is made only
	// after an answer that was longer.
	demands atomic.Bool
}

// question is a viewer's own: what others have asked must not be told by how quick the answer is.
type question struct {
	userID int
	text   string
}

// New makes an endpoint. It does not connect.
func New(cfg Config) (*Endpoint, error) {
	address, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("the endpoint's URL cannot be read") // it may hold a password
	}
	fallback(&cfg.Timeout, time.Minute)
	fallback(&cfg.QueryDeadline, 5*time.Second)
	fallback(&cfg.Queries, 16)
	fallback(&cfg.Waiting, 64)
	fallback(&cfg.Cache, 256)
	cache, err := lru.New[question, string](cfg.Cache)
	if err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = cfg.Queries
	return &Endpoint{
		cfg: cfg, address: address.JoinPath("embeddings").String(), queries: share.New(cfg.Queries, cfg.Waiting), cache: cache, metrics: newMetrics(),
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // to whom the key and texts do not belong
		},
	}, nil
}

func fallback[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Model is the name of the model.
func (e *Endpoint) Model() string { return e.cfg.Model }

// Close gives the connections back.
func (e *Endpoint) Close() { e.client.CloseIdleConnections() }

// Query embeds a text of the viewer of ctx, as PostgreSQL reads it. It fails with Unauthenticated without a viewer, with RateLimited when the viewer's turn does
// not come in time, with Timeout, and with EmbeddingsUnavailable where the endpoint is away or does not take the text.
func (e *Endpoint) Query(ctx context.Context, text string) (vector string, err error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return "", err
	}
	asked := question{viewer.UserID, text}
	if vector, known := e.cache.Get(asked); known {
		e.metrics.hits.Inc()
		return vector, nil
	}
	waiting, cancel := context.WithTimeout(ctx, e.cfg.QueryDeadline)
	defer cancel()
	leave, err := e.queries.Wait(waiting, viewer.UserID)
	if err == nil {
		defer leave()
		var vectors []string
		if vectors, err = e.embed(waiting, "query", []string{text}); err == nil {
			e.cache.Add(asked, vectors[0])
			return vectors[0], nil
		}
	}
	switch {
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", ctx.Err() // the client has left
	case errors.Is(err, share.ErrTaken):
		return "", models.Errorf(models.RateLimited, "too many texts are being embedded at once: try again in a moment")
	case waiting.Err() != nil:
		return "", models.Wrap(err, models.Timeout, "embedding the text took too long")
	default:
		return "", models.Wrap(err, models.EmbeddingsUnavailable, "the text cannot be embedded now; try again later, or search without it")
	}
}

// sane is a text that every model takes: where it is refused, something else than the text is wrong.
const sane = "netra"

// Check tries the endpoint. Its error is for the log.
func (e *Endpoint) Check(ctx context.Context) error {
	_, err := e.embed(ctx, "check", []string{sane})
	return err
}

// reason is why there are no embeddings. It is kept with references, counted and logged.
type reason string

const (
	refused       reason = "refused"       // the endpoint does not take this input
	malformed     reason = "malformed"     // its answer is none
	failing       reason = "failing"       // it has broken down, over this input or by itself
	limited       reason = "limited"       // too much for it
	unavailable   reason = "unavailable"   // it is away, or in trouble
	misconfigured reason = "misconfigured" // wrong address, key or model
)

// failure is an answer without embeddings. Its text is for the log: it has neither texts nor key.
type failure struct {
	reason reason
	after  time.Duration // which the endpoint wants to be left alone
	cause  error
}

func (f *failure) Error() string { return string(f.reason) + ": " + f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// ofInput says that the input may be what is wrong, and not the endpoint.
func (f *failure) ofInput() bool {
	return f.reason == refused || f.reason == malformed || f.reason == failing
}

// embed gives a vector for each text, as PostgreSQL reads it, or fails with a failure or the error of ctx.
func (e *Endpoint) embed(ctx context.Context, purpose string, texts []string) ([]string, error) {
	began := time.Now()
	demand := e.demands.Load()
	vectors, err := e.post(ctx, texts, demand)
	var tooLong *wrongLength
	if !demand && errors.As(err, &tooLong) && tooLong.length > models.EmbeddingDimensions {
		short, refusal := e.post(ctx, texts, true)
		switch f := new(failure); {
		case refusal == nil:
			e.demands.Store(true)
			vectors, err = short, nil
		case !errors.As(refusal, &f) || !f.ofInput(): // no news of the model
			err = refusal
		}
	}
	e.metrics.observe(ctx, purpose, time.Since(began), err)
	return vectors, err
}

func (e *Endpoint) post(ctx context.Context, texts []string, demand bool) ([]string, error) {
	body := struct {
		Model      string   `json:"model"`
		Input      []string `json:"input"`
		Dimensions int      `json:"dimensions,omitempty"`
	}{Model: e.cfg.Model, Input: texts}
	if demand {
		body.Dimensions = models.EmbeddingDimensions
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	calling, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(calling, http.MethodPost, e.address, bytes.NewReader(raw))
	if err != nil {
		return nil, errors.New("the endpoint's URL cannot be called")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "netra")
	if e.cfg.Key != "" {
		request.Header.Set("Authorization", "Bearer "+e.cfg.Key)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, lost(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response)
	}
	// A number is written in 25 bytes at most; the rest is room for names and spaces.
	limit := int64(1<<20 + len(texts)*models.EmbeddingDimensions*64)
	answer, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, lost(ctx, err)
	case int64(len(answer)) > limit:
		return nil, &failure{reason: malformed, cause: fmt.Errorf("the answer has more than %d bytes", limit)}
	}
	vectors, err := parse(answer, len(texts))
	if err != nil {
		return nil, &failure{reason: malformed, cause: err}
	}
	return vectors, nil
}

// lost is a call that was not answered. The URL is left out of what the client says of it.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var call *url.Error
	if errors.As(err, &call) {
		err = call.Err
	}
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		err = errors.New("no answer in time")
	}
	return &failure{reason: unavailable, cause: err}
}

// refusal reads an answer that is no success. Its message is left aside: some endpoints repeat texts or parts of the key in it.
func refusal(response *http.Response) error {
	f := &failure{cause: fmt.Errorf("status %d", response.StatusCode)}
	switch status := response.StatusCode; {
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		f.reason = refused
	case status == http.StatusTooManyRequests:
		f.reason = limited
	case status == http.StatusInternalServerError: // which some servers answer to a text that is too long for them, or whose numbers they cannot write
		f.reason = failing
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		f.reason = unavailable
	default:
		f.reason = misconfigured
	}
	f.after = retryAfter(response.Header.Get("Retry-After"))
	raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return f
	}
	var said struct {
		Error struct{ Type, Code any }
	}
	if json.Unmarshal(raw, &said) == nil {
		for _, name := range []any{said.Error.Type, said.Error.Code} {
			if text, ok := name.(string); ok && isName(text) {
				f.cause = fmt.Errorf("%w, %s", f.cause, text)
			}
		}
	}
	return f
}

func isName(text string) bool {
	return text != "" && len(text) <= 40 && !strings.ContainsFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' })
}

// retryAfter is a number of seconds or a date.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// wrongLength is a vector that fits no column.
type wrongLength struct{ length int }

func (w *wrongLength) Error() string {
	return fmt.Sprintf("the model gives %d numbers and not %d", w.length, models.EmbeddingDimensions)
}

// parse reads an answer to so many texts.
func parse(answer []byte, texts int) ([]string, error) {
	var list struct {
		Data []struct {
			Index     *int            `json:"index"`
			Embedding json.RawMessage `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, errors.New("the answer is not the JSON of embeddings") // the error's own text may quote the answer
	}
	if len(list.Data) != texts {
		return nil, fmt.Errorf("%d embeddings for %d texts", len(list.Data), texts)
	}
	vectors := make([]string, texts)
	for i, item := range list.Data {
		at := i // some servers leave the index out
		if item.Index != nil {
			at = *item.Index
		}
		if at < 0 || at >= texts || vectors[at] != "" {
			return nil, fmt.Errorf("no embedding for each text: index %d", at)
		}
		var numbers []float64
		// A null would become a 0 silently.
		if slices.Contains(item.Embedding, 'n') || json.Unmarshal(item.Embedding, &numbers) != nil {
			return nil, errors.New("an embedding that is no list of numbers")
		}
		if len(numbers) != models.EmbeddingDimensions {
			return nil, &wrongLength{len(numbers)}
		}
		var err error
		if vectors[at], err = models.FormatVector(numbers); err != nil {
			return nil, err
		}
	}
	return vectors, nil
}
