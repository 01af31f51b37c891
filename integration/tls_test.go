package integration

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	config_util "github.com/prometheus/common/config"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// party is who has a certificate in files, and those by whom it trusts others.
type party struct{ cert, key, roots string }

func newParty(t *testing.T, roots ...*harness.CA) party {
	dir := t.TempDir()
	p := party{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "roots.pem")}
	p.trust(t, roots...)
	return p
}

func (p party) trust(t *testing.T, roots ...*harness.CA) {
	t.Helper()
	var all [][]byte
	for _, ca := range roots {
		all = append(all, ca.PEM)
	}
	require.NoError(t, os.WriteFile(p.roots, bytes.Join(all, nil), 0o600))
}

// client is an HTTP client as Prometheus makes it for remote_write: it reads its
// files again when they change.
func (p party) client(t *testing.T) *http.Client {
	t.Helper()
	c, err := config_util.NewClientFromConfig(config_util.HTTPClientConfig{
		TLSConfig: config_util.TLSConfig{CAFile: p.roots, CertFile: p.cert, KeyFile: p.key},
	}, "remote_write")
	require.NoError(t, err)
	c.Timeout = 30 * time.Second
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// webConfig writes a web config file for p that asks clients for certificates.
func (p party) webConfig(t *testing.T, clientAuth string) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(p.cert), "web.yml")
	require.NoError(t, os.WriteFile(file, []byte(`tls_server_config:
  cert_file: cert.pem
  key_file: key.pem
  client_ca_file: roots.pem
  client_auth_type: `+clientAuth+"\n"), 0o600))
	return file
}

// TestRotationOfCertificates: the certificate of the server, those of its clients
// and their CA change while Prometheus' clients write over connections that they
// keep. No write is answered what a sender would drop, nothing is lost, and who
// still has a certificate of the old CA is not served any more.
func TestRotationOfCertificates(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("TLS is weir's")
	}
	servers, before, after := harness.NewCA(t, "servers"), harness.NewCA(t, "before"), harness.NewCA(t, "after")
	weir := newParty(t, before)
	servers.IssueFiles(x509.Certificate{}, weir.cert, weir.key)
	const senders = 4
	var parties [senders]party
	for i := range parties {
		parties[i] = newParty(t, servers)
		before.IssueFiles(x509.Certificate{}, parties[i].cert, parties[i].key)
	}
	late := newParty(t, servers)
	before.IssueFiles(x509.Certificate{}, late.cert, late.key)
	s := harness.Start(t, harness.Config{Set: []string{"http.web_config_file=" + weir.webConfig(t, "RequireAndVerifyClientCert")}, Client: late.client(t)})

	var (
		stop             = make(chan struct{})
		all              sync.WaitGroup
		written, retried atomic.Int64
	)
	start := time.Now().UnixMilli()
	for i, p := range parties {
		through := s.Through(p.client(t))
		all.Go(func() {
			for n := int64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := harness.Encode(t, harness.V1, harness.Series{
					Labels: []string{"__name__", "rotation", "sender", fmt.Sprint(i)}, Samples: []harness.Sample{{T: start + n, V: 1}},
				})
				for !accepted(t, through, body) {
					retried.Add(1)
					time.Sleep(10 * time.Millisecond)
				}
				written.Add(1)
			}
		})
	}
	goesOn := func() {
		t.Helper()
		from := written.Load()
		require.Eventually(t, func() bool { return written.Load() > from+10*senders }, 30*time.Second, 10*time.Millisecond)
	}
	goesOn()
	servers.IssueFiles(x509.Certificate{}, weir.cert, weir.key) // by itself: first the key, then the certificate
	goesOn()
	weir.trust(t, before, after)
	time.Sleep(3 * time.Second) // 5 s are promised; what comes too early is repeated
	for _, p := range parties {
		after.IssueFiles(x509.Certificate{}, p.cert, p.key)
	}
	goesOn()
	require.Zero(t, retried.Load(), "so far nobody had a reason to refuse anything")
	weir.trust(t, after)
	require.Eventually(t, func() bool {
		_, _, err := s.Ask(t.Context(), "/api/v1/labels", nil) // by the late one
		return err != nil
	}, 10*time.Second, 100*time.Millisecond, "the old CA is still trusted")
	goesOn()
	close(stop)
	all.Wait()

	now := s.Through(parties[0].client(t))
	var stored int64
	for _, n := range countSamples(t, now, "rotation") {
		stored += n
	}
	require.Equal(t, written.Load(), stored)
	t.Logf("%d writes, %d of them repeated", written.Load(), retried.Load())
}

// accepted sends a request, and reports whether it has to be repeated: after a 503
// and when there is no answer, as Prometheus does. Any other answer would lose it.
func accepted(t *testing.T, s *harness.Server, body []byte) bool {
	a, err := s.Post(context.WithoutCancel(t.Context()), harness.V1, body)
	if err != nil || a.Status == http.StatusServiceUnavailable {
		return false
	}
	if a.Status != http.StatusNoContent {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	return true
}
