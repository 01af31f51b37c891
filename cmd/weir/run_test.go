package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/tenant"
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

// TestSubsystems: what /ready says in JSON of a process in each of its phases.
func TestSubsystems(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reg := prometheus.NewRegistry()
	logger := slog.New(slog.DiscardHandler)
	guard := overload.New(overload.DefaultConfig(), logger, reg)
	lim := tenant.DefaultLimits()
	ing := ingester.New(ingester.DefaultConfig(), ingester.Deps{
		Dir: t.TempDir(), Limits: func(string) *tenant.Limits { return &lim }, Logger: logger, Registry: reg,
	})
	states := func() (states []api.State) {
		for _, s := range subsystems(ctx, ing, guard)() {
			states = append(states, s.State)
			require.Equal(t, s.State == api.StateOK, s.Reason == "", s.Name)
		}
		return states
	}
	require.Equal(t, []api.State{api.StateOK, api.StateStarting, api.StateOK}, states())
	ingCtx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ing.Run(ingCtx) }()
	require.Eventually(t, func() bool { return ing.Ready() == nil }, 10*time.Second, time.Millisecond)
	require.Equal(t, []api.State{api.StateOK, api.StateOK, api.StateOK}, states())
	cancel()
	stop()
	require.NoError(t, <-done)
	require.Equal(t, []api.State{api.StateStopping, api.StateStopping, api.StateOK}, states())
}
