package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-metrics/weir/tenant"
)

// secretFile is a runtime file with credentials, and the secrets to it.
type secretFile struct {
	path    string
	entries []string
	secrets []string
}

// add gives somebody a new secret.
func (f *secretFile) add(id, tenants, scopes string, others ...string) (secret, entry string) {
	secret, hash := tenant.NewSecret()
	f.secrets = append(f.secrets, secret)
	entry = fmt.Sprintf("{sha256: %s}", hash)
	f.set(id, tenants, scopes, append(others, entry)...)
	return secret, entry
}

// set says what is in the file about a credential.
func (f *secretFile) set(id, tenants, scopes string, entries ...string) {
	line := fmt.Sprintf("  - {id: %s, tenants: [%s], scopes: [%s], secrets: [%s]}\n", id, tenants, scopes, strings.Join(entries, ", "))
	for i, e := range f.entries {
		if strings.Contains(e, "{id: "+id+",") {
			f.entries[i] = line
			return
		}
	}
	f.entries = append(f.entries, line)
}

func (f *secretFile) write(t *testing.T, more string) {
	t.Helper()
	text := "tenants: {a: {}, b: {}, ops: {}, anonymous: {}}\ncredentials:\n" + strings.Join(f.entries, "") + more
	require.NoError(t, os.WriteFile(f.path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(f.path+".new", f.path))
}

// guarded is a process in mode required.
type guarded struct {
	*process
	base   string
	client *http.Client
}

// ask returns the status and the body of an answer.
func (g *guarded) ask(t *testing.T, method, target, secret, body string) (int, string) {
	hr, err := http.NewRequest(method, target, strings.NewReader(body))
	require.NoError(t, err)
	if secret != "" {
		hr.Header.Set("Authorization", "Bearer "+secret)
	}
	if body != "" {
		hr.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.client.Do(hr)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(answer)
}

func (g *guarded) push(t *testing.T, secret string) (int, string) {
	return g.ask(t, http.MethodPost, g.base+"/otlp/v1/metrics", secret, fmt.Sprintf(
		`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"pushed","gauge":{"dataPoints":[{"timeUnixNano":"%d","asDouble":1}]}}]}]}]}`,
		time.Now().UnixNano()))
}

func startGuarded(t *testing.T, f *secretFile, args ...string) *guarded {
	g := &guarded{
		process: start(t, t.TempDir(), append([]string{
			"-set=auth.mode=required", "-set=self_metrics.tenant=ops", "-log.level=debug", "-set=tenants.file=" + f.path,
		}, args...)...),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	u, err := url.Parse(g.url)
	require.NoError(t, err)
	g.base = "http://" + u.Host
	return g
}

// TestRequired runs a process that asks for credentials, rotates one while a
// sender writes, and looks for secrets in all that it printed and stored.
func TestRequired(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := &secretFile{path: filepath.Join(t.TempDir(), "tenants.yml")}
	writer, writerEntry := f.add("writer", "a", "write")
	reader, _ := f.add("reader", "a", "read")
	foreign, _ := f.add("foreign", "b", "'read', 'write'")
	ops, _ := f.add("ops", "ops", "read")
	operator, _ := f.add("operator", "", "admin")
	unknown, _ := tenant.NewSecret()
	f.secrets = append(f.secrets, unknown)
	f.write(t, "")
	auditFile := filepath.Join(t.TempDir(), "audit.json")
	g := startGuarded(t, f, "-set=log.audit_file="+auditFile)

	// Our own metrics are written past the door, and read through it.
	status, body := g.ask(t, "GET", g.url, ops, "")
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"job":"weir"`)

	query := g.base + "/prometheus/api/v1/query?query=pushed"
	for _, tc := range []struct {
		secret, target string
		status         int
	}{
		{"", query, 401}, {unknown, query, 401}, {writer, query, 403}, {reader, query, 200}, {foreign, query, 200},
		{"", g.base + "/metrics", 401}, {reader, g.base + "/metrics", 403}, {operator, g.base + "/metrics", 200},
		{reader, g.base + "/api/v1/status/config", 403}, {operator, g.base + "/api/v1/status/config", 200},
		{operator, g.base + "/api/v1/status/flags", 200}, {"", g.base + "/ready", 200},
	} {
		status, body := g.ask(t, "GET", tc.target, tc.secret, "")
		require.Equal(t, tc.status, status, "%s: %s", tc.target, body)
		for _, s := range f.secrets {
			require.NotContains(t, body, s)
		}
	}
	status, _ = g.push(t, reader)
	require.Equal(t, 403, status)

	// Rotation.
	var current atomic.Pointer[string]
	current.Store(&writer)
	var refused, sent atomic.Int64
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for range 2 {
		senders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body := g.push(t, *current.Load()); status != 200 {
					refused.Add(1)
					t.Log(body)
				}
				sent.Add(1)
			}
		})
	}
	more := func(n int64) { // requests of each sender, the one in flight included
		t.Helper()
		before := sent.Load()
		require.Eventually(t, func() bool { return sent.Load() >= before+2*n }, 10*time.Second, 10*time.Millisecond)
	}
	fresh, freshEntry := f.add("writer", "a", "write", writerEntry)
	f.write(t, "")
	require.Eventually(t, func() bool { status, _ := g.push(t, fresh); return status == 200 }, 5*time.Second, 20*time.Millisecond, "a new secret counts within 5 s")
	current.Store(&fresh)
	more(3) // what was sent with the old one has arrived
	f.set("writer", "a", "write", freshEntry)
	f.write(t, "")
	require.Eventually(t, func() bool { status, _ := g.push(t, writer); return status == 401 }, 5*time.Second, 20*time.Millisecond, "an old secret is refused within 5 s")
	more(3)

	// A secret in place of its hash: the file is refused, nothing changes, and the
	// log does not repeat it.
	pasted, _ := tenant.NewSecret()
	f.secrets = append(f.secrets, pasted)
	f.write(t, "  - {id: pasted, tenants: [a], scopes: [read], secrets: [{sha256: "+pasted+"}]}\n")
	require.Eventually(t, func() bool { return strings.Contains(g.stderr.String(), "not the secret") }, 5*time.Second, 20*time.Millisecond)
	close(stop)
	senders.Wait()
	require.Zero(t, refused.Load(), "of %d", sent.Load())
	require.Positive(t, sent.Load())
	_, body = g.ask(t, "GET", query, reader, "")
	require.Contains(t, body, `"__name__":"pushed"`)
	_, body = g.ask(t, "GET", query, foreign, "")
	require.NotContains(t, body, `"pushed"`, "another tenant")
	g.wait(t)

	records, err := os.ReadFile(auditFile)
	require.NoError(t, err)
	for _, what := range []string{`"event":"used","credential":"writer","tenant":"a"`, `"reason":"weir-scope-missing"`, `"reason":"weir-credential-missing"`} {
		require.Contains(t, string(records), what)
	}
	printed := map[string]string{"stdout": g.stdout.String(), "stderr": g.stderr.String(), "audit": string(records)}
	requireNoSecret(t, f.secrets, printed)
}

// TestFromOneTenantToSeveral: what was stored before there were credentials is that
// of the tenant anonymous.
func TestFromOneTenantToSeveral(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	require.Len(t, p.query(t, ""), 1)
	p.wait(t)
	f := &secretFile{path: filepath.Join(t.TempDir(), "tenants.yml")}
	reader, _ := f.add("reader", tenant.Anonymous, "read")
	f.write(t, "")
	g := startGuarded(t, f, "-data.dir", dir)
	status, body := g.ask(t, "GET", g.base+"/api/v1/query?query=count(up)", reader, "")
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"1"]`)
	g.wait(t)
}

// requireNoSecret looks for secrets, also for a part of one.
func requireNoSecret(t *testing.T, secrets []string, in map[string]string) {
	t.Helper()
	for where, text := range in {
		for _, s := range secrets {
			require.NotContains(t, text, s[5:25], where)
		}
		require.NotRegexp(t, regexp.MustCompile(tenant.SecretPattern), text, where)
	}
}

// TestNoSecretOnDisk: nothing that a client shows gets into the data directory.
func TestNoSecretOnDisk(t *testing.T) {
	f := &secretFile{path: filepath.Join(t.TempDir(), "tenants.yml")}
	writer, _ := f.add("writer", "a", "write")
	f.add("ops", "ops", "read")
	f.write(t, "")
	dir := t.TempDir()
	g := startGuarded(t, f, "-data.dir", dir)
	status, body := g.push(t, writer)
	require.Equal(t, 200, status, body)
	g.wait(t)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		require.False(t, bytes.Contains(content, []byte(writer)), path)
		return err
	}))
}
