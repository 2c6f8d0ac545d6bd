package server_test

import (
	"context"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

func TestOrigin_IsBelievedOfTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		trusted   []string
		forwarded []string
		want      string
	}{
		"nobody is trusted":          {nil, []string{"203.0.113.9"}, "127.0.0.1"},
		"a proxy":                    {[]string{"127.0.0.0/8"}, []string{"203.0.113.9"}, "203.0.113.9"},
		"two proxies and a lie":      {[]string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"192.0.2.66, 203.0.113.9", "10.1.2.3"}, "203.0.113.9"},
		"a proxy that says nothing":  {[]string{"127.0.0.0/8"}, nil, "127.0.0.1"},
		"a proxy that says nonsense": {[]string{"127.0.0.0/8"}, []string{"203.0.113.9, unknown"}, "127.0.0.1"},
		"IPv6":                       {[]string{"127.0.0.0/8"}, []string{"2001:db8::7"}, "2001:db8::7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var origin models.Origin
			e := open(t, func(cfg *server.Config) {
				for _, text := range test.trusted {
					cfg.TrustedProxies = append(cfg.TrustedProxies, netip.MustParsePrefix(text))
				}
				cfg.Resolvers = answers{viewer: func(ctx context.Context) (*models.User, error) {
					origin = models.OriginFrom(ctx)
					return alice(ctx)
				}}
			})
			headers := []string{"Content-Type", jsonType, "Authorization", "Bearer " + tokenOf(t, ordinary), "X-Request-Id", "abc", "User-Agent", "curl/8"}
			for _, value := range test.forwarded {
				headers = append(headers, "X-Forwarded-For", value)
			}
			require.Equal(t, http.StatusOK, e.ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{email}}"}`, headers...).status)
			require.Equal(t, models.Origin{Address: netip.MustParseAddr(test.want), UserAgent: "curl/8", RequestID: "abc"}, origin)
		})
	}
}
