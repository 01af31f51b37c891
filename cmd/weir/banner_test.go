package main

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

func TestBanner(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9009}
	everywhere := &net.TCPAddr{IP: net.IPv6unspecified, Port: 80}
	for _, tc := range []struct {
		name      string
		banner    banner
		parts     []string
		forbidden string
	}{
		{
			"alone", banner{loopback, false, tenant.ModeNone, tenant.Anonymous, "./data"},
			[]string{
				"- url: http://127.0.0.1:9009/api/v1/push\n", "    http://127.0.0.1:9009/prometheus\n",
				"curl -s 'http://127.0.0.1:9009/prometheus/api/v1/query?query=up'\n", "./data",
			},
			tenant.Header,
		},
		{
			"behind a proxy", banner{everywhere, false, tenant.ModeHeader, "ops", "./data"},
			[]string{"http://localhost:80/api/v1/push", tenant.Header + ": anonymous  # your tenant", "-H 'X-Scope-OrgID: ops' 'http://localhost:80/"},
			"127.0.0.1",
		},
		{
			"with credentials", banner{everywhere, false, tenant.ModeRequired, "ops", "./data"},
			[]string{
				"    authorization:\n          credentials: weir_...", "http://localhost:80/api/v1/push",
				"curl -s -H 'Authorization: Bearer weir_...' -H 'X-Scope-OrgID: ops' 'http://localhost:80/",
			},
			"your tenant",
		},
		{
			"without own metrics", banner{loopback, false, tenant.ModeNone, "", "./data"},
			[]string{"http://127.0.0.1:9009/api/v1/push"}, "curl",
		},
		{
			"over TLS", banner{everywhere, true, tenant.ModeNone, tenant.Anonymous, "./data"},
			[]string{"- url: https://localhost:80/api/v1/push\n", "'https://localhost:80/prometheus/api/v1/query?query=up'"}, "http://",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			require.NoError(t, tc.banner.print(&out))
			for _, part := range tc.parts {
				require.Contains(t, out.String(), part)
			}
			require.NotContains(t, out.String(), tc.forbidden)

			snippet := tc.banner.remoteWrite(baseURL(tc.banner.addr, tc.banner.tls))
			cfg, err := config.Load(snippet, promslog.NewNopLogger())
			require.NoError(t, err, "Prometheus refuses the snippet")
			require.True(t, cfg.RemoteWriteConfigs[0].QueueConfig.RetryOnRateLimit)
		})
	}
}

// The README shows what a bare start prints.
func TestReadmeShowsTheSnippet(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	b := banner{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9009}, mode: tenant.ModeNone, tenant: tenant.Anonymous}
	require.Contains(t, string(readme), b.remoteWrite(baseURL(b.addr, false)))
	require.Contains(t, string(readme), b.firstQuery(baseURL(b.addr, false)))
}
