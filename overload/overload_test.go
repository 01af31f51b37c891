package overload

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	cfg := DefaultConfig()
	require.Empty(t, cfg.Validate("overload"))
	cfg = Config{MaxInflightBytes: 1000, MaxConcurrentWrites: 1}
	var got []string
	for _, err := range cfg.Validate("overload") {
		got = append(got, err.Error())
	}
	require.Equal(t, []string{
		"overload.max_inflight_bytes: 1000: must be 0, or at least 1048576",
		"overload.max_concurrent_writes: 1: must be at least 2, because one tenant gets half of them",
		"overload.max_concurrent_reads: 0: must be at least 2, because one tenant gets half of them",
	}, got)
}

func TestInflightBytes(t *testing.T) {
	for _, tc := range []struct {
		name       string
		configured int
		limit      int64
		want       int64
	}{
		{"configured", 5 << 20, 100 << 20, 5 << 20},
		{"a quarter of the limit", 0, 400 << 20, 100 << 20},
		{"no limit", 0, math.MaxInt64, 1 << 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, inflightBytes(Config{MaxInflightBytes: tc.configured}, tc.limit))
		})
	}
}

func TestObserve(t *testing.T) {
	var logged bytes.Buffer
	reg := prometheus.NewRegistry()
	g := New(DefaultConfig(), slog.New(slog.NewTextHandler(&logged, nil)), reg)
	admitted := func() bool {
		h, err := g.Reads.Enter("one")
		defer h.Leave()
		w, werr := g.Writes.Enter("one")
		defer w.Leave()
		require.Equal(t, err == nil, werr == nil)
		return err == nil
	}
	headroom := func(want string) {
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP weir_overload_memory_headroom_bytes Memory until requests are refused because GOMEMLIMIT is near; +Inf without one.
# TYPE weir_overload_memory_headroom_bytes gauge
weir_overload_memory_headroom_bytes `+want+"\n"), "weir_overload_memory_headroom_bytes"))
	}
	require.True(t, admitted(), "before anybody looked")
	headroom("+Inf")
	for _, m := range []memory{{inUse: 800, limit: 1000}, {inUse: 900, limit: 1000}, {inUse: 950, limit: 1000}, {inUse: 899, limit: 1000}} {
		g.observe(m)
		require.Equal(t, m.inUse < 900, admitted())
		require.Equal(t, m.inUse >= 900, g.Short())
	}
	headroom("1")
	require.Equal(t, 1, strings.Count(logged.String(), "memory is short"), logged.String())
	require.Equal(t, 1, strings.Count(logged.String(), "memory suffices again"), logged.String())
	g.observe(memory{inUse: math.MaxInt64 / 4, limit: math.MaxInt64})
	require.True(t, admitted())
}

// TestRun holds more than the memory limit allows, and lets it go again. Garbage
// alone must not count.
func TestRun(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	g := New(DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()

	const size = 64 << 20
	ballast := make([]byte, size)
	runtime.GC()
	debug.SetMemoryLimit(size + size/16)
	require.Eventually(t, g.Short, 10*time.Second, 10*time.Millisecond)
	runtime.KeepAlive(ballast)
	ballast = nil
	runtime.GC()
	require.Eventually(t, func() bool { return !g.Short() }, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
