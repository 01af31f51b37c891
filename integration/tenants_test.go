package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/tenant"
)

// effectiveWithin is how soon a new version of the tenants file must count.
const effectiveWithin = 5 * time.Second

// TestTenantsFile changes the tenants file under a running process, by its own
// command line and by hand.
func TestTenantsFile(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	file := filepath.Join(t.TempDir(), "tenants.yml")
	weir := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(harness.Binary(t), append([]string{"-tenants.file", file}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	weir("tenant", "create", "team-a")
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=header", "tenants.file=" + file, "tenants.unlisted=refuse", "limits.max_exemplars=77"}})
	a, b := s.As("team-a"), s.As("team-b")
	push := func(to *harness.Server, value string) harness.Answer {
		return to.Push(t, harness.V2, harness.Series{
			Labels: []string{"__name__", "tf_value", "v", value}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}},
		})
	}
	soon := func(check func() bool, what string) {
		t.Helper()
		require.Eventually(t, check, effectiveWithin, 50*time.Millisecond, what)
	}
	long := strings.Repeat("v", 20)

	require.Equal(t, http.StatusNoContent, push(a, long).Status)
	refused := push(b, long)
	require.Equal(t, http.StatusForbidden, refused.Status)
	require.Contains(t, refused.Body, "weir-tenant-unlisted")

	weir("tenant", "create", "team-b")
	soon(func() bool { return push(b, long).Status == http.StatusNoContent }, "a new tenant")
	weir("limits", "set", "team-a", "max_label_value_bytes=10")
	soon(func() bool { return push(a, long).Status == http.StatusBadRequest }, "a lower limit, for a series that was admitted before")
	require.Contains(t, s.Log(), `event=changed action="change tenant" object=team-a changes="[limits.max_label_value_bytes: 4096 -> 10]" count=1`)
	require.Contains(t, push(a, long).Body, "weir-label-value-too-long")
	require.Contains(t, explained(t, s, "team-a", "tf_value"), "limits.max_label_value_bytes is 10 (from: tenant)")
	require.Equal(t, http.StatusNoContent, push(b, long).Status, "of that tenant alone")

	var limits struct {
		Settings struct {
			Limits map[string]any
		}
		Origins map[string]string
	}
	require.NoError(t, json.Unmarshal([]byte(a.Text(t, "/api/v1/user_limits")), &limits))
	require.EqualValues(t, 10, limits.Settings.Limits["max_label_value_bytes"])
	require.Equal(t, "tenant", limits.Origins["limits.max_label_value_bytes"])
	require.EqualValues(t, 77, limits.Settings.Limits["max_exemplars"])
	require.Equal(t, "config", limits.Origins["limits.max_exemplars"])
	require.Equal(t, "default", limits.Origins["limits.max_label_name_bytes"])

	// A bad version, which has a good change in it as well.
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	bad := strings.Replace(string(good), "max_label_value_bytes: 10", "max_label_value_bytes: 4000\n      max_exemplar: 5", 1) + "plan: {}\n"
	require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
	soon(func() bool {
		return strings.Contains(s.Text(t, "/metrics"), "weir_tenants_file_last_reload_successful 0\n")
	}, "who watches is told")
	require.Contains(t, s.Text(t, "/metrics"), "weir_tenants_file_violations 2\n")
	require.Contains(t, s.Log(), "limits.max_exemplar: unknown key")
	require.Contains(t, s.Log(), "plan: unknown key")
	for range 20 {
		require.Equal(t, http.StatusBadRequest, push(a, long).Status, "nothing changes")
		require.Equal(t, http.StatusNoContent, push(b, long).Status, "nothing changes")
		time.Sleep(100 * time.Millisecond)
	}

	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(good), "max_label_value_bytes: 10", "max_label_value_bytes: 4000", 1)), 0o600))
	soon(func() bool { return push(a, long).Status == http.StatusNoContent }, "mended")
	weir("tenant", "delete", "team-b")
	soon(func() bool { return push(b, long).Status == http.StatusForbidden }, "a tenant that was deleted")

	require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
	s.Stop()
	out, err := exec.Command(harness.Binary(t), "-tenants.file", file, "-data.dir", t.TempDir(), "-http.listen=127.0.0.1:0", "-admin.listen=").CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "a bad file at start")
	require.Contains(t, string(out), "limits.max_exemplar: unknown key")
	require.Contains(t, string(out), "plan: unknown key")
}

// TestTokensOfTheFile hands out, rotates and revokes credentials under a running
// process, while senders write.
func TestTokensOfTheFile(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	file := filepath.Join(t.TempDir(), "tenants.yml")
	weir := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(harness.Binary(t), append([]string{"-tenants.file", file}, args...)...).Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	weir("tenant", "create", "team-a")
	first := weir("token", "create", "team-a", "-id=writer")
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=required", "tenants.file=" + file}})
	status := func(secret string) int {
		t.Helper()
		a, err := s.Post(t.Context(), harness.V2, harness.Encode(t, harness.V2, harness.Series{
			Labels: []string{"__name__", "tf_token"}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}},
		}), "Authorization", "Bearer "+secret)
		if err != nil {
			return 0
		}
		return a.Status
	}
	soon := func(secret string, want int) {
		t.Helper()
		require.Eventually(t, func() bool { return status(secret) == want }, effectiveWithin, 500*time.Millisecond) // seldom, or wrong tokens are throttled
	}
	require.Equal(t, http.StatusNoContent, status(first))
	load := &rotating{status: status}
	load.begin(first, 4)

	second := weir("token", "rotate", "writer", "-grace=1h")
	soon(second, http.StatusNoContent)
	require.Equal(t, http.StatusNoContent, status(first), "within the grace")
	load.use(t, second)
	third := weir("token", "rotate", "writer", "-grace=8s")
	soon(third, http.StatusNoContent)
	require.Equal(t, http.StatusNoContent, status(second), "within the grace")
	load.use(t, third)
	load.end(t)
	require.Eventually(t, func() bool { return status(second) == http.StatusUnauthorized }, 15*time.Second, 500*time.Millisecond, "after the grace")
	require.Equal(t, http.StatusUnauthorized, status(first))

	weir("tenant", "suspend", "team-a", "-state=held")
	soon(third, http.StatusServiceUnavailable)
	weir("tenant", "resume", "team-a")
	soon(third, http.StatusNoContent)
	weir("token", "revoke", "writer")
	soon(third, http.StatusUnauthorized)
}

// rotating are senders that write all the time, with a secret that is exchanged.
type rotating struct {
	status  func(secret string) int
	secret  atomic.Pointer[string]
	written atomic.Int64
	refused atomic.Int64 // answered anything but 204
	stop    atomic.Bool
	all     sync.WaitGroup
}

func (r *rotating) begin(secret string, senders int) {
	r.secret.Store(&secret)
	for range senders {
		r.all.Go(func() {
			for !r.stop.Load() {
				if r.status(*r.secret.Load()) == http.StatusNoContent {
					r.written.Add(1)
				} else {
					r.refused.Add(1)
				}
			}
		})
	}
}

// use makes all senders use another secret, and returns when they do.
func (r *rotating) use(t *testing.T, secret string) {
	t.Helper()
	r.secret.Store(&secret)
	from := r.written.Load()
	require.Eventually(t, func() bool { return r.written.Load() > from+100 }, 10*time.Second, time.Millisecond)
}

// end stops the senders, none of which was refused.
func (r *rotating) end(t *testing.T) {
	t.Helper()
	r.stop.Store(true)
	r.all.Wait()
	require.Zero(t, r.refused.Load(), "of %d", r.written.Load())
	progress(t, "%d writes during two rotations, none refused", r.written.Load())
}

// TestReadersOfATeam: a credential reads the series of its team, and those of the
// other by no way, in a process that runs.
func TestReadersOfATeam(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	file := filepath.Join(t.TempDir(), "tenants.yml")
	all, hashOfAll := tenant.NewSecret()
	red, hashOfRed := tenant.NewSecret()
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
tenants: {shop: {}}
credentials:
- {id: all, tenants: [shop], scopes: [write, read], secrets: [{sha256: %x}]}
- {id: red, tenants: [shop], scopes: [read], readable: ['{team="red"}'], secrets: [{sha256: %x}]}
`, hashOfAll[:], hashOfRed[:]), 0o600))
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=required", "tenants.file=" + file, "self_metrics.enabled=false"}})
	whole, part := s.Through(&http.Client{Transport: bearer(all)}), s.Through(&http.Client{Transport: bearer(red)})
	now := time.Now().UnixMilli()
	for _, team := range []string{"red", "blue"} {
		a := whole.Push(t, harness.V2, harness.Series{Labels: []string{"__name__", "up_" + team, "team", team}, Samples: []harness.Sample{{T: now, V: 1}}})
		require.Equal(t, http.StatusNoContent, a.Status, a.Body)
	}
	times := url.Values{"start": {fmt.Sprint(now/1000 - 60)}, "end": {fmt.Sprint(now/1000 + 60)}, "time": {fmt.Sprint(now/1000 + 1)}}
	for path, params := range map[string]url.Values{
		"/api/v1/query":                 {"query": {`count by (team) ({__name__=~"up_.*"})`}},
		"/api/v1/query_range":           {"query": {`{__name__=~"up_.*"}`}, "step": {"15"}},
		"/api/v1/series":                {"match[]": {`{__name__=~".+"}`, `{team="blue"}`}},
		"/api/v1/labels":                {},
		"/api/v1/label/team/values":     {},
		"/api/v1/label/__name__/values": {},
		"/federate":                     {"match[]": {`{__name__=~".+"}`}},
	} {
		maps.Copy(params, times)
		require.NotContains(t, part.Text(t, path+"?"+params.Encode()), "blue", path)
		if path != "/api/v1/labels" {
			require.Contains(t, part.Text(t, path+"?"+params.Encode()), "red", path)
			require.Contains(t, whole.Text(t, path+"?"+params.Encode()), "blue", path)
		}
	}
}
