package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// process is a whole weir in this process, with its data in dir.
type process struct {
	stop           context.CancelFunc
	code           chan int
	stdout, stderr buffer
	url            string // of its first query
}

func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &process{stop: cancel, code: make(chan int, 1)}
	args = append([]string{"-data.dir", dir, "-http.listen=127.0.0.1:0", "-admin.listen=127.0.0.1:0"}, args...)
	go func() { p.code <- run(ctx, args, env(nil), &p.stdout, &p.stderr) }()
	firstQuery := regexp.MustCompile(`curl -s .*'(http://\S+)'`)
	require.Eventually(t, func() bool {
		match := firstQuery.FindStringSubmatch(p.stdout.String())
		if match != nil {
			p.url = match[1]
		}
		return match != nil || len(p.code) > 0
	}, time.Minute, 5*time.Millisecond, "%s", &p.stderr)
	require.NotEmpty(t, p.url, "weir ended: %s", &p.stderr)
	return p
}

func (p *process) wait(t *testing.T) {
	t.Helper()
	p.stop()
	require.Zero(t, <-p.code, "%s", &p.stderr)
}

// query returns the values that the printed first query answers with.
func (p *process) query(t *testing.T, tenant string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
	require.NoError(t, err)
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	var values []string
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprintf("%s %s %v", r.Metric["__name__"], r.Metric["job"], r.Value[1]))
	}
	return values
}

func TestBareStartAnswersItsFirstQuery(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	p := start(t, dir)
	require.Equal(t, []string{"up weir 1"}, p.query(t, ""))
	require.Contains(t, p.stderr.String(), "memory is ", "how much we may take")

	var stdout, stderr bytes.Buffer
	second := run(t.Context(), []string{"-data.dir", dir, "-http.listen=127.0.0.1:0", "-admin.listen="}, env(nil), &stdout, &stderr)
	require.Equal(t, 1, second)
	require.Contains(t, stderr.String(), "which another weir may be using", "two processes on one data directory")
	p.wait(t)

	// The sample of the process before is still there: its instance has another port.
	p = start(t, dir)
	require.Equal(t, []string{"up weir 1", "up weir 1"}, p.query(t, ""))
	p.wait(t)
}

func TestHeaderModeSelfMetrics(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := start(t, t.TempDir(), "-set=auth.mode=header", "-set=self_metrics.tenant=ops")
	require.Equal(t, []string{"up weir 1"}, p.query(t, "ops"))
	require.Empty(t, p.query(t, "somebody"))
	p.wait(t)
}

func TestReadinessFollowsTheProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var replaying error = fmt.Errorf("replaying")
	ready := readiness(ctx, func() error { return replaying })
	require.ErrorIs(t, ready(), replaying)
	replaying = nil
	require.NoError(t, ready())
	cancel()
	require.ErrorContains(t, ready(), "weir-shutting-down")
}
