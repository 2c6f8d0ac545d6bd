package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// origins are the pages that may talk to the server: those that it serves itself, and what the configuration adds ("*" is all). Tokens travel
// in a header that no page can make a browser send, so this keeps answers from pages; it does not keep requests from the server.
type origins []string

// allow says whether a websocket may be opened for the request. Programs send no Origin.
func (o origins) allow(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || o.listed(origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func (o origins) listed(origin string) bool {
	return slices.Contains(o, "*") || slices.ContainsFunc(o, func(allowed string) bool { return strings.EqualFold(allowed, origin) })
}

// share answers preflights and lets the listed origins read answers (CORS), which depend on these headers of requests, the origin among them.
func (o origins) share(methods, headers string, next http.HandlerFunc) http.Handler {
	vary := []string{headers}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Vary"] = vary
		if origin := r.Header.Get("Origin"); origin != "" && o.listed(origin) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "Content-Disposition, Content-Range, ETag, Location, "+requestIDHeader)
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", methods)
				h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Range, Repr-Digest, "+requestIDHeader)
				h.Set("Access-Control-Max-Age", "600")
			}
		}
		if r.Method == http.MethodOptions {
			h.Set("Allow", methods+", OPTIONS")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
