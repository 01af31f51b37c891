package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// webFiles are a web config file and what it names.
type webFiles struct {
	ca                       *harness.CA
	config, cert, key, roots string
}

const mutual = "\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: roots.pem"

// newWebFiles writes a web config with more lines in tls_server_config.
func newWebFiles(t *testing.T, more string) *webFiles {
	t.Helper()
	dir := t.TempDir()
	f := &webFiles{
		harness.NewCA(t, "servers"),
		filepath.Join(dir, "web.yml"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "roots.pem"),
	}
	f.ca.IssueFiles(x509.Certificate{}, f.cert, f.key)
	f.write(t, f.roots, f.ca.PEM)
	f.write(t, f.config, []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem"+more+"\n"))
	return f
}

func (f *webFiles) write(t *testing.T, file string, content ...[]byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, bytes.Join(content, nil), 0o600))
}

func (f *webFiles) open(t *testing.T) *webConfig {
	t.Helper()
	w, err := openWebConfig("http.web_config_file", f.config, slog.New(slog.DiscardHandler), newWebMetrics("http", prometheus.NewRegistry()))
	require.NoError(t, err)
	return w
}

// settle lets w see the files as they are.
func settle(w *webConfig) {
	w.poll()
	w.poll()
}

// client speaks to servers of the CA, with a certificate or without.
func (f *webFiles) client(t *testing.T, pair ...tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.ca.Pool(), Certificates: pair}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func fetch(c *http.Client, addr string) (*http.Response, string, error) {
	resp, err := c.Get("https://" + addr)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// whoIsThere answers with the address of the connection, and the name of a
// verified client.
var whoIsThere = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, r.RemoteAddr)
	if len(r.TLS.VerifiedChains) > 0 {
		_, _ = io.WriteString(w, " "+r.TLS.PeerCertificates[0].DNSNames[0])
	}
})

func TestTLS(t *testing.T) {
	for _, tc := range []struct {
		name, more string
		proto      int
		version    uint16
	}{
		{"as it comes", "", 2, tls.VersionTLS13},
		{"without HTTP/2", "\nhttp_server_config: {http2: false}", 1, tls.VersionTLS13},
		{"older", "\n  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]", 2, tls.VersionTLS12},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newWebFiles(t, tc.more)
			addr, _ := serveWeb(t, 10, f.open(t), whoIsThere)
			resp, _, err := fetch(f.client(t), addr)
			require.NoError(t, err)
			require.Equal(t, tc.proto, resp.ProtoMajor)
			require.Equal(t, tc.version, resp.TLS.Version)
			resp, err = http.Get("http://" + addr)
			require.NoError(t, err)
			require.Equal(t, 400, resp.StatusCode, "no TLS")
		})
	}
}

// TestTLSReloadUnderLoad replaces certificate and key one after the other, as
// most programs that renew certificates do.
func TestTLSReloadUnderLoad(t *testing.T) {
	f := newWebFiles(t, "")
	w := f.open(t)
	addr, _ := serveWeb(t, 100, w, whoIsThere)
	var (
		stop     atomic.Bool
		requests atomic.Int64
		load     sync.WaitGroup
	)
	for i := range 8 {
		load.Go(func() {
			c := f.client(t)
			for !stop.Load() {
				_, _, err := fetch(c, addr)
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				if requests.Add(1); i%2 == 0 {
					c.CloseIdleConnections() // so that the next one has to shake hands
				}
			}
		})
	}
	for range 10 {
		before := w.inForce.Load()
		certPEM, keyPEM := f.ca.Issue(x509.Certificate{NotAfter: time.Now().Add(2 * time.Hour)})
		f.write(t, f.key, keyPEM)
		settle(w)
		require.Same(t, before, w.inForce.Load(), "half of a pair")
		require.Zero(t, testutil.ToFloat64(w.metrics.successful))
		f.write(t, f.cert, certPEM)
		settle(w)
		require.NotSame(t, before, w.inForce.Load())
		require.Equal(t, 1.0, testutil.ToFloat64(w.metrics.successful))
		served := requests.Load()
		require.Eventually(t, func() bool { return requests.Load() > served+20 }, 20*time.Second, time.Millisecond)
	}
	stop.Store(true)
	load.Wait()
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: f.ca.Pool()})
	require.NoError(t, err)
	defer conn.Close()
	require.Equal(t, w.inForce.Load().tls.Certificates[0].Leaf.SerialNumber, conn.ConnectionState().PeerCertificates[0].SerialNumber)
	require.Zero(t, testutil.ToFloat64(w.metrics.failures))
}

// TestRunReloads: by itself, within the 5 s that are promised.
func TestRunReloads(t *testing.T) {
	f := newWebFiles(t, "")
	w := f.open(t)
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- w.run(ctx) }()
	before := w.inForce.Load()
	f.ca.IssueFiles(x509.Certificate{}, f.cert, f.key)
	require.Eventually(t, func() bool { return w.inForce.Load() != before }, 5*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-done)
}

func TestBadVersionChangesNothing(t *testing.T) {
	f := newWebFiles(t, mutual)
	w := f.open(t)
	before := w.inForce.Load()
	for _, tc := range []struct {
		name   string
		change func()
	}{
		{"no certificate", func() { f.write(t, f.cert, nil) }},
		{"no file", func() { require.NoError(t, os.Remove(f.key)) }},
		{"no CA", func() { f.write(t, f.roots, []byte("none")) }},
		{"not YAML", func() { f.write(t, f.config, []byte("{")) }},
		{"no TLS any more", func() { f.write(t, f.config, nil) }},
		{"too long", func() { f.write(t, f.config, bytes.Repeat([]byte("#"), maxWebFileBytes+1)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := map[string][]byte{}
			for _, name := range []string{f.config, f.cert, f.key, f.roots} {
				content, err := os.ReadFile(name)
				require.NoError(t, err)
				files[name] = content
			}
			tc.change()
			settle(w)
			require.Same(t, before, w.inForce.Load())
			require.Zero(t, testutil.ToFloat64(w.metrics.successful))
			_, err := openWebConfig("http.web_config_file", f.config, slog.New(slog.DiscardHandler), newWebMetrics("http", nil))
			require.ErrorContains(t, err, "http.web_config_file: "+f.config+": ")
			for name, content := range files {
				f.write(t, name, content)
			}
			settle(w)
			require.Equal(t, 1.0, testutil.ToFloat64(w.metrics.successful))
			before = w.inForce.Load()
		})
	}
}

func TestWebConfigRefusals(t *testing.T) {
	for _, tc := range []struct{ more, want string }{
		{"\nbasic_auth_users: {a: b}", "basic_auth_users: is not for weir"},
		{"\nrate_limit: {burst: 1, interval: 1s}", "rate_limit: is not for weir"},
		{"\nhttp_server_config: {headers: {X-Frame-Options: deny}}", "http_server_config.headers: is not for weir"},
		{"\n  client_auth_type: VerifyClientCertIfGiven", "client_ca_file: must be set"},
		{"\n  client_auth_type: Perhaps", "invalid ClientAuth: Perhaps"},
		{"\n  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: roots.pem\n  client_allowed_sans: [a]", "client_allowed_sans: needs"},
		{"\n  client_ca_file: missing.pem", "tls_server_config.client_ca_file: open "},
		{"\n  min_version: TLS13\n  max_version: TLS12", "min_version: must not be above max_version"},
		{"\n  min_version: TLS9", "unknown TLS version: TLS9"},
		{"\n  colour: red", "field colour not found"},
	} {
		f := newWebFiles(t, tc.more)
		_, err := openWebConfig("http.web_config_file", f.config, slog.New(slog.DiscardHandler), newWebMetrics("http", nil))
		require.ErrorContains(t, err, tc.want)
	}
}

func TestClientCertificates(t *testing.T) {
	f := newWebFiles(t, mutual+"\n  client_allowed_sans: [agent.team-a]")
	w := f.open(t)
	addr, _ := serveWeb(t, 10, w, whoIsThere)
	other := harness.NewCA(t, "servers") // of the same name
	named := x509.Certificate{DNSNames: []string{"agent.team-a"}}
	expired := named
	expired.NotAfter = time.Now().Add(-time.Minute)
	for _, tc := range []struct {
		name string
		pair []tls.Certificate
		ok   bool
	}{
		{"good", []tls.Certificate{f.ca.Pair(named)}, true},
		{"none", nil, false},
		{"of a name that is not allowed", []tls.Certificate{f.ca.Pair(x509.Certificate{DNSNames: []string{"agent.team-b"}})}, false},
		{"of another CA", []tls.Certificate{other.Pair(named)}, false},
		{"expired", []tls.Certificate{f.ca.Pair(expired)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			failures := testutil.ToFloat64(w.metrics.failures)
			_, body, err := fetch(f.client(t, tc.pair...), addr)
			if tc.ok {
				require.NoError(t, err)
				require.Contains(t, body, " agent.team-a")
				return
			}
			require.Error(t, err)
			require.Eventually(t, func() bool { return testutil.ToFloat64(w.metrics.failures) > failures }, 10*time.Second, time.Millisecond)
		})
	}
}

// TestClientCARemoved: who is vouched for by another CA goes on as before, on the
// same connection; who is not has to connect again, and cannot.
func TestClientCARemoved(t *testing.T) {
	for _, http2 := range []string{"true", "false"} {
		t.Run("http2: "+http2, func(t *testing.T) {
			f := newWebFiles(t, mutual+"\nhttp_server_config: {http2: "+http2+"}")
			leaving := harness.NewCA(t, "leaving")
			f.write(t, f.roots, f.ca.PEM, leaving.PEM)
			w := f.open(t)
			addr, _ := serveWeb(t, 10, w, whoIsThere)
			stays := f.client(t, f.ca.Pair(x509.Certificate{DNSNames: []string{"stays"}}))
			goes := f.client(t, leaving.Pair(x509.Certificate{DNSNames: []string{"goes"}}))
			_, of, err := fetch(stays, addr)
			require.NoError(t, err)
			_, body, err := fetch(goes, addr)
			require.NoError(t, err)
			require.Contains(t, body, " goes")

			f.write(t, f.roots, f.ca.PEM)
			settle(w)
			_, body, err = fetch(stays, addr)
			require.NoError(t, err)
			require.Equal(t, of, body, "the same connection")
			resp, body, err := fetch(goes, addr)
			require.NoError(t, err)
			require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
			require.Contains(t, body, "weir-certificate-stale")
			require.Equal(t, "1", resp.Header.Get("Retry-After"))
			require.Eventually(t, func() bool { // over HTTP/2, the end of the connection is on the way when the answer comes
				_, _, err := fetch(goes, addr)
				return err != nil
			}, 10*time.Second, time.Millisecond, "the handshake")
		})
	}
}

// TestShortLivedCertificates: a connection ends before the certificate of its
// client does, so that the client shows the next one.
func TestShortLivedCertificates(t *testing.T) {
	for _, http2 := range []string{"true", "false"} {
		t.Run("http2: "+http2, func(t *testing.T) {
			f := newWebFiles(t, mutual+"\nhttp_server_config: {http2: "+http2+"}")
			addr, _ := serveWeb(t, 10, f.open(t), whoIsThere)
			long := f.client(t, f.ca.Pair(x509.Certificate{DNSNames: []string{"a"}, NotAfter: time.Now().Add(10 * renewBefore)}))
			short := f.client(t, f.ca.Pair(x509.Certificate{DNSNames: []string{"a"}, NotAfter: time.Now().Add(renewBefore - time.Second)}))
			connection := func(c *http.Client) string {
				resp, body, err := fetch(c, addr)
				require.NoError(t, err)
				require.Equal(t, 200, resp.StatusCode)
				return body
			}
			stays, last := connection(long), ""
			for range 4 {
				require.Eventually(t, func() bool { // over HTTP/2, its end is on the way when the answer comes
					now := connection(short)
					other := now != last
					last = now
					return other
				}, 10*time.Second, time.Millisecond)
				require.Equal(t, stays, connection(long))
			}
		})
	}
}

func TestCheckAgain(t *testing.T) {
	ca := harness.NewCA(t, "ca")
	now := time.Now()
	pair := ca.Pair(x509.Certificate{NotAfter: now.Add(time.Hour)})
	verified := &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{pair.Leaf}, VerifiedChains: [][]*x509.Certificate{{pair.Leaf}},
	}
	shown := &tls.ConnectionState{PeerCertificates: verified.PeerCertificates}
	version := func(clients byte, auth tls.ClientAuthType, roots *x509.CertPool) *webVersion {
		return &webVersion{tls: &tls.Config{ClientAuth: auth, ClientCAs: roots}, clients: [32]byte{clients}}
	}
	old := version(1, tls.VerifyClientCertIfGiven, ca.Pool())
	for _, tc := range []struct {
		name          string
		state         *tls.ConnectionState
		now           *webVersion
		after         time.Duration
		ending, stale bool
	}{
		{"no TLS", nil, version(2, tls.RequireAndVerifyClientCert, nil), 0, false, false},
		{"nothing changed", verified, old, 0, false, false},
		{"soon over", verified, old, 59*time.Minute + 30*time.Second, true, false},
		{"over", verified, old, 61 * time.Minute, true, true},
		{"other version, same clients", verified, version(1, tls.RequireAndVerifyClientCert, nil), 0, false, false},
		{"same CA", verified, version(2, tls.RequireAndVerifyClientCert, ca.Pool()), 0, false, false},
		{"other CA", verified, version(2, tls.RequireAndVerifyClientCert, harness.NewCA(t, "b").Pool()), 0, true, true},
		{"not asked for any more", verified, version(2, tls.NoClientCert, nil), 0, true, true},
		{"none and none needed", &tls.ConnectionState{}, version(2, tls.VerifyClientCertIfGiven, ca.Pool()), 0, false, false},
		{"none and one needed", &tls.ConnectionState{}, version(2, tls.RequireAndVerifyClientCert, ca.Pool()), 0, true, true},
		{"none and any needed", &tls.ConnectionState{}, version(2, tls.RequireAnyClientCert, nil), 0, true, true},
		{"not verified, and still not", shown, version(2, tls.RequireAnyClientCert, nil), 0, false, false},
		{"not verified, and now it is", shown, version(2, tls.VerifyClientCertIfGiven, ca.Pool()), 0, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := new(webConfig)
			w.inForce.Store(tc.now)
			c := new(connection)
			c.vouched.Store(old)
			for range 2 { // the second time it is remembered
				ending, err := w.check(c, tc.state, now.Add(tc.after))
				require.Equal(t, tc.ending, ending)
				require.Equal(t, tc.stale, err != nil)
			}
		})
	}
}

// TestTLSConnectionsAreBounded: those that wait make room, whether they are idle
// or never shook hands.
func TestTLSConnectionsAreBounded(t *testing.T) {
	f := newWebFiles(t, "")
	addr, conns := serveWeb(t, 2, f.open(t), whoIsThere)
	first := f.client(t)
	_, was, err := fetch(first, addr)
	require.NoError(t, err)
	for range 6 {
		dial(t, addr)
	}
	_, _, err = fetch(f.client(t), addr)
	require.NoError(t, err, "a newcomer")
	require.LessOrEqual(t, conns.count(), 2)
	_, is, err := fetch(first, addr)
	require.NoError(t, err)
	require.NotEqual(t, was, is, "its connection was idle longest")
}

func TestCertificateMetrics(t *testing.T) {
	f := newWebFiles(t, mutual)
	reg := prometheus.NewRegistry()
	_, err := openWebConfig("http.web_config_file", f.config, slog.New(slog.DiscardHandler), newWebMetrics("http", reg))
	require.NoError(t, err)
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	require.InDelta(t, 3600, got["weir_tls_certificate_expires_seconds server http"], 60)
	require.InDelta(t, 24*3600, got["weir_tls_certificate_expires_seconds client_ca http"], 60)
	require.Equal(t, 1.0, got["weir_tls_last_reload_successful http"])
}
