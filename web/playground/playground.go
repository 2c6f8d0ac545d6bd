// Package playground serves GraphiQL, built from npm into dist and embedded here, together with the example operations that
// it opens in its tabs. Nothing in the page asks another host for anything.
package playground

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed all:dist
var embedded embed.FS

// Options is what a Handler needs to know.
type Options struct {
	// Files is the built page: index.html and assets. Nil is the one embedded in the binary.
	Files fs.FS
	// Config answers for each loading of the page. Nil offers no users.
	Config func(context.Context) (Config, error)
	// Log receives what the page is not told. Nil is slog's default.
	Log *slog.Logger
}

// Config is what the page asks its server on loading.
type Config struct {
	Users []User `json:"users"` // whom the page offers to sign in as; only ever in development
	Dev   bool   `json:"dev"`   // false: the page asks for a bearer token instead
}

// User is a demo user with a bearer token of theirs.
type User struct {
	Email     string `json:"email"`
	Name      string `json:"name"`
	Superuser bool   `json:"superuser"`
	Token     string `json:"token"`
}

const notBuilt = "The playground is not part of this binary. Run `make run`, or `npm ci && npm run build` in web/playground, then build again.\n"

// Handler serves the page at /, its assets, and /playground/config.json. Everything else is 404.
func Handler(opts Options) http.Handler {
	if opts.Files == nil {
		opts.Files, _ = fs.Sub(embedded, "dist") // fails only for an invalid path
	}
	if opts.Config == nil {
		opts.Config = func(context.Context) (Config, error) { return Config{}, nil }
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	page := &page{files: opts.Files, config: opts.Config, log: opts.Log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page.serveIndex)
	mux.HandleFunc("GET /assets/{name}", page.serveAsset)
	mux.HandleFunc("GET /playground/config.json", page.serveConfig)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header(), r.Host)
		mux.ServeHTTP(w, r)
	})
}

type page struct {
	files  fs.FS
	config func(context.Context) (Config, error)
	log    *slog.Logger
}

// serveIndex sends the one file whose name does not change with its content, so it is revalidated each time.
func (p *page) serveIndex(w http.ResponseWriter, r *http.Request) {
	index, err := fs.ReadFile(p.files, "index.html")
	if errors.Is(err, fs.ErrNotExist) {
		http.Error(w, notBuilt, http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		p.fail(w, r, fmt.Errorf("read playground page: %w", err))
		return
	}
	sum := sha256.Sum256(index)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(index))
}

// serveAsset sends a file whose name holds a hash of its content, in the smallest form that was built and that the client takes.
func (p *page) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	contentType := contentTypeOf(name)
	if contentType == "" {
		http.NotFound(w, r)
		return
	}
	file, encoding, err := p.open("assets/"+name, r.Header.Get("Accept-Encoding"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		p.fail(w, r, fmt.Errorf("open playground asset: %w", err))
		return
	}
	defer file.Close()
	content, err := seekable(file)
	if err != nil {
		p.fail(w, r, fmt.Errorf("read playground asset: %w", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	http.ServeContent(w, r, name, time.Time{}, content)
}

func (p *page) serveConfig(w http.ResponseWriter, r *http.Request) {
	config, err := p.config(r.Context())
	if err != nil {
		p.fail(w, r, fmt.Errorf("playground configuration: %w", err))
		return
	}
	if config.Users == nil {
		config.Users = []User{}
	}
	body, err := json.Marshal(config)
	if err != nil {
		p.fail(w, r, fmt.Errorf("encode playground configuration: %w", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store") // it holds tokens
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func (p *page) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.log.ErrorContext(r.Context(), "playground", "error", err)
	http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
}

// open opens the form of a file that suits the client best, and says how it is encoded.
func (p *page) open(name, accept string) (fs.File, string, error) {
	for _, form := range []struct{ encoding, suffix string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(accept, form.encoding) {
			continue
		}
		file, err := p.files.Open(name + form.suffix)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, form.encoding, err
		}
	}
	file, err := p.files.Open(name)
	return file, "", err
}

// accepts reads an Accept-Encoding header for one coding. A wildcard does not count: whoever sends only that takes the plain file too.
func accepts(header, coding string) bool {
	for _, item := range strings.Split(header, ",") {
		name, parameter, _ := strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			weight, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameter)), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !found || err == nil && q > 0
		}
	}
	return false
}

func seekable(file fs.File) (io.ReadSeeker, error) {
	if s, ok := file.(io.ReadSeeker); ok {
		return s, nil
	}
	content, err := io.ReadAll(file)
	return bytes.NewReader(content), err
}

// contentTypeOf does not ask the machine's own tables, which differ. It is empty for what the build never emits.
func contentTypeOf(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".ttf":
		return "font/ttf"
	case ".woff2":
		return "font/woff2"
	default:
		return ""
	}
}

var plainHost = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// secure lets the page load from, and talk to, its own origin only. Monaco needs inline styles and blob workers, GraphiQL's
// style sheet holds its fonts as data. Older browsers do not take 'self' for websockets too, so those are named.
func secure(h http.Header, host string) {
	connect := "'self'"
	if plainHost.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'self'",
		"script-src 'self'",
		"worker-src 'self' blob:",
		"style-src 'self' 'unsafe-inline'",
		"font-src 'self' data:",
		"img-src 'self' data:",
		"connect-src " + connect,
		"object-src 'none'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; "))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
