package main

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// TestRulesOfTheTenantsFile: rules take effect in a running process, bad ones
// change nothing, and what is redacted is in no file and in no line of the log.
func TestRulesOfTheTenantsFile(t *testing.T) {
	const secret = "planted.person@secret.example"
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "tenants.yaml")
	rules := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	rules(`
plans:
  default:
    relabel:
      metric_relabel_configs: [{source_labels: [__name__], regex: 'go_(.*)', action: drop}]
      redact: [{detector: email, action: hash}]
      tests: [{series: 'up{a="x@example.com"}', expect: 'up{a="[email:eopeaaknfaldlcmf]"}'}]
`)
	p := start(t, dir, "-set", "tenants.file="+file, "-set", "auth.mode=header", "-set", "self_metrics.tenant=self", "-log.level=debug")
	base := p.url[:strings.Index(p.url, "/prometheus/")]
	push := func(labels ...string) *http.Response {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}}
		for i := 0; i < len(labels); i += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
		}
		message, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}).Marshal()
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/push", bytes.NewReader(s2.EncodeSnappy(nil, message)))
		require.NoError(t, err)
		req.Header.Set("X-Scope-OrgID", "team-a")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.NotContains(t, string(body), "planted")
		return resp
	}
	require.Equal(t, http.StatusNoContent, push("__name__", "up", "user", secret).StatusCode)
	require.Equal(t, "1", push("__name__", "go_x", "user", secret).Header.Get("X-Weir-Relabel-Dropped"))
	require.Equal(t, http.StatusBadRequest, push("user", secret).StatusCode)
	require.Equal(t, http.StatusBadRequest, push("__name__", "up", "user", secret, "user", "x").StatusCode)

	report := func() string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/status/relabel", nil)
		require.NoError(t, err)
		req.Header.Set("X-Scope-OrgID", "team-a")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var answer struct {
			Data struct{ Relabel json.RawMessage }
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		return string(answer.Data.Relabel)
	}
	require.Contains(t, report(), `"redactions":[{"name":"email","action":"hash","series":2}]`)

	// A version whose tests fail is not taken; the next good one is.
	rules("plans:\n  default: {relabel: {drop_labels: [user], tests: [{series: up, expect: dropped}]}}\n")
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), "must become dropped") }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, "1", push("__name__", "go_y").Header.Get("X-Weir-Relabel-Dropped"), "the old version stays")
	rules("plans:\n  default: {relabel: {redact: [{detector: email, action: reject}]}}\n")
	require.Eventually(t, func() bool { return push("__name__", "up", "user", secret).StatusCode == http.StatusBadRequest }, 10*time.Second, 100*time.Millisecond)
	p.wait(t)

	require.NotContains(t, p.stderr.String(), "planted")
	require.Contains(t, p.stderr.String(), "refused a part of a write request")
	files, hashed := 0, 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(content), "planted", path)
		files++
		hashed += strings.Count(string(content), "[email:")
		return nil
	}))
	require.Greater(t, files, 3)
	require.Greater(t, hashed, 0, "the search must find what is there instead")
}
