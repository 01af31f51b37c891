package integration

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// company is a weir in mode required over TLS, with an issuer of tokens and a CA.
type company struct {
	*harness.Server
	sso  *harness.Issuer
	ca   *harness.CA
	file string // of tenants
}

const people = `
tenants: {team-a: {}, team-b: {}}
credentials:
  - id: people
    tenants: ["{tenant}"]
    scopes: [read]
    jwt: {issuer: %[1]s, claims: {groups: ["/{tenant}"]}}
  - id: jobs
    tenants: [team-a]
    scopes: [write]
    jwt: {issuer: %[1]s, claims: {sub: [job-*]}}
`

const agents = `
  - id: agents
    tenants: ["{tenant}"]
    scopes: [write]
    certificate: {uri: ["spiffe://prod/ns/{tenant}/sa/agent"]}
`

func startCompany(t *testing.T) *company {
	t.Helper()
	c := &company{sso: harness.NewIssuer(t), ca: harness.NewCA(t, "company"), file: filepath.Join(t.TempDir(), "tenants.yml")}
	c.allow(t, people+agents)
	weir := newParty(t, c.ca)
	c.ca.IssueFiles(x509.Certificate{}, weir.cert, weir.key)
	web := weir.webConfig(t, "VerifyClientCertIfGiven")
	c.Server = harness.Start(t, harness.Config{Client: c.with(t, nil), Set: []string{
		"http.web_config_file=" + web, "auth.mode=required", "tenants.file=" + c.file,
		"auth.issuers=[{url: " + c.sso.URL + ", audiences: [weir]}]",
	}})
	return c
}

// allow writes the tenants file.
func (c *company) allow(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(c.file, fmt.Appendf(nil, text, c.sso.URL), 0o600))
}

// with returns a client with a certificate, unless that is nil.
func (c *company) with(t *testing.T, cert *x509.Certificate) *http.Client {
	t.Helper()
	p := newParty(t, c.ca)
	if cert == nil {
		p.cert, p.key = "", ""
	} else {
		c.ca.IssueFiles(*cert, p.cert, p.key)
	}
	return p.client(t)
}

// agent returns the server, spoken to by an agent of a namespace.
func (c *company) agent(t *testing.T, namespace string) *harness.Server {
	u := &url.URL{Scheme: "spiffe", Host: "prod", Path: "/ns/" + namespace + "/sa/agent"}
	return c.Through(c.with(t, &x509.Certificate{URIs: []*url.URL{u}}))
}

// post writes one sample of a series that is named so.
func post(t *testing.T, s *harness.Server, name string, header ...string) harness.Answer {
	t.Helper()
	a, err := s.Post(t.Context(), harness.V1, harness.Encode(t, harness.V1, harness.Series{
		Labels: []string{"__name__", name}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}},
	}), header...)
	require.NoError(t, err)
	return a
}

func requireRefused(t *testing.T, a harness.Answer, status int, id string) {
	t.Helper()
	require.Equal(t, status, a.Status, a.Body)
	require.Contains(t, a.Body, id)
}

// TestCertificatesAndTokens: agents write with certificates, people read with
// tokens, each what is theirs.
func TestCertificatesAndTokens(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own contract")
	}
	c := startCompany(t)
	a, b := c.agent(t, "team-a"), c.agent(t, "team-b")
	require.Equal(t, http.StatusNoContent, post(t, a, "of_a").Status)
	require.Equal(t, http.StatusNoContent, post(t, b, "of_b").Status)
	requireRefused(t, post(t, a, "of_a", "X-Scope-OrgID", "team-b"), http.StatusForbidden, "weir-tenant-forbidden")
	requireRefused(t, post(t, c.agent(t, "team-c"), "x"), http.StatusForbidden, "weir-tenant-unlisted")
	requireRefused(t, post(t, c.Server, "x"), http.StatusUnauthorized, "weir-credential-missing")
	requireRefused(t, post(t, c.Server, "x", "Authorization", "Bearer "+c.sso.Token(nil)), http.StatusForbidden, "weir-credential-unmapped")

	names := func(header ...string) (int, string) {
		t.Helper()
		status, e, err := c.Ask(t.Context(), "/api/v1/series", url.Values{"match[]": {`{__name__=~"of_.*"}`}}, header...)
		require.NoError(t, err)
		if e.Error != "" {
			return status, e.Error
		}
		var series []map[string]string
		require.NoError(t, json.Unmarshal(e.Data, &series))
		var all []string
		for _, labels := range series {
			all = append(all, labels["__name__"])
		}
		return status, strings.Join(all, " ")
	}
	both := c.sso.Token(map[string]any{"groups": []string{"/team-a", "/team-b", "/staff/all"}})
	for _, tc := range []struct {
		name, want string
		header     []string
	}{
		{"one team", "of_a", []string{"Authorization", "Bearer " + c.sso.Token(map[string]any{"groups": []string{"/team-a"}})}},
		{"the other", "of_b", []string{"Authorization", "Bearer " + c.sso.Token(map[string]any{"groups": []string{"/team-b"}})}},
		{"one of two", "of_b", []string{"Authorization", "Bearer " + both, "X-Scope-OrgID", "team-b"}},
		{"which of two", "weir-tenant-ambiguous", []string{"Authorization", "Bearer " + both}},
		{"through Grafana", "of_a", []string{"Authorization", "Bearer opaque", "X-ID-Token", both, "X-Scope-OrgID", "team-a"}},
		{"expired", "weir-credential-expired", []string{"Authorization", "Bearer " + c.sso.Token(map[string]any{"groups": []string{"/team-a"}, "exp": 1})}},
		{"forged", "weir-credential-invalid", []string{"Authorization", "Bearer " + both + "AAAA"}},
	} {
		status, got := names(tc.header...)
		require.Contains(t, got, tc.want, "%s: %d", tc.name, status)
		require.Equal(t, strings.HasPrefix(tc.want, "of_"), status == http.StatusOK, tc.name)
		if status == http.StatusOK {
			require.Equal(t, tc.want, got, tc.name)
		}
	}

	c.allow(t, people)
	require.Eventually(t, func() bool { return post(t, a, "of_a").Status == http.StatusForbidden }, effectiveWithin, 50*time.Millisecond, "on its open connection")
	requireRefused(t, post(t, a, "of_a"), http.StatusForbidden, "weir-credential-unmapped")
	require.NotContains(t, c.Log(), "eyJ", "a token in the log")
}

// TestRotationOfKeys: the issuer of tokens changes its key, which nobody has seen
// before, while a sender writes with the newest token. No write is answered what a
// sender would drop; tokens by a key that is gone are refused.
func TestRotationOfKeys(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own contract")
	}
	c := startCompany(t)
	token := func() string { return "Bearer " + c.sso.Token(map[string]any{"sub": "job-1"}) }
	var (
		stop             atomic.Bool
		written, retried atomic.Int64
		sender           sync.WaitGroup
	)
	require.Eventually(t, func() bool { return post(t, c.Server, "keys", "Authorization", token()).Status == http.StatusNoContent }, 10*time.Second, 10*time.Millisecond)
	start := time.Now().UnixMilli()
	defer sender.Wait()
	defer stop.Store(true)
	sender.Go(func() {
		for n := int64(0); !stop.Load(); n++ {
			body := harness.Encode(t, harness.V1, harness.Series{Labels: []string{"__name__", "rotation", "sender", "job"}, Samples: []harness.Sample{{T: start + n, V: 1}}})
			for {
				a, err := c.Post(context.WithoutCancel(t.Context()), harness.V1, body, "Authorization", token())
				if err == nil && a.Status == http.StatusNoContent {
					break
				}
				if err != nil || a.Status != http.StatusServiceUnavailable {
					t.Errorf("%v %d %s", err, a.Status, a.Body)
				}
				retried.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
			written.Add(1)
		}
	})
	goesOn := func() {
		t.Helper()
		from := written.Load()
		require.Eventually(t, func() bool { return written.Load() > from+20 }, 30*time.Second, 10*time.Millisecond)
	}
	old := "Bearer " + c.sso.Token(map[string]any{"sub": "job-1", "iat": time.Now().Add(-time.Hour).Unix()})
	goesOn()
	for range 2 {
		c.sso.NewKey()
		c.sso.Publish(1)
		goesOn()
		requireRefused(t, post(t, c.Server, "keys", "Authorization", old), http.StatusUnauthorized, "weir-credential-invalid")
	}
	stop.Store(true)
	sender.Wait()
	reader := "Bearer " + c.sso.Token(map[string]any{"groups": []string{"/team-a"}})
	_, e, err := c.Ask(t.Context(), "/api/v1/query", url.Values{
		"query": {"count_over_time(rotation[1h])"}, "time": {harness.Seconds(time.Now().Add(5 * time.Minute).UnixMilli())},
	}, "Authorization", reader)
	require.NoError(t, err)
	require.Contains(t, string(e.Data), fmt.Sprintf(`"%d"`, written.Load()))
	t.Logf("%d writes, %d of them repeated", written.Load(), retried.Load())
}
