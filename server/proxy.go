package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/netra-ai/netra/models"
)

// originOf is where a request came from. Behind proxies that are trusted it is the last address before theirs in X-Forwarded-For; from anybody else
// that header says nothing.
func (s *Server) originOf(r *http.Request, id string) models.Origin {
	origin := models.Origin{UserAgent: r.UserAgent(), RequestID: id}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return origin // a test's, or a socket's
	}
	if origin.Address = peer.Addr().Unmap(); len(s.proxies) == 0 {
		return origin
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !s.trusts(origin.Address) {
			break
		}
		before, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		origin.Address = before.Unmap()
	}
	return origin
}

func (s *Server) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}
