package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// flooding is what many senders of one tenant send as fast as they can, without
// a thought for Retry-After.
type flooding struct {
	t      *testing.T
	server *harness.Server

	acknowledged, refused, silent atomic.Int64 // requests
	unexpected                    atomic.Pointer[string]
}

// post sends one request and reports whether it was acknowledged. Everything but
// 204 and a 503 that says when to come back is unexpected.
func (f *flooding) post(ctx context.Context, body []byte, tenant string) bool {
	a, err := f.server.Post(ctx, harness.V1, body, "X-Scope-OrgID", tenant)
	switch {
	case err != nil: // cut off while it sent: it has to repeat the request
		f.silent.Add(1)
	case a.Status == http.StatusNoContent:
		f.acknowledged.Add(1)
		return true
	case a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" && strings.HasPrefix(a.Body, "weir-overloaded: "):
		f.refused.Add(1)
	default:
		text := fmt.Sprintf("%d %v %s", a.Status, a.Header, a.Body)
		f.unexpected.Store(&text)
	}
	return false
}

func (f *flooding) requireExpected() {
	f.t.Helper()
	if text := f.unexpected.Load(); text != nil {
		require.Fail(f.t, "unexpected answer", *text)
	}
}

// batch is a request of samples of series that only one sender writes, in
// steps of a millisecond from start.
func batch(t *testing.T, metric string, sender, series, samples int, start int64) []byte {
	all := make([]harness.Series, series)
	for i := range all {
		all[i].Labels = []string{"__name__", metric, "sender", strconv.Itoa(sender), "series", strconv.Itoa(i)}
		for j := range samples {
			all[i].Samples = append(all[i].Samples, harness.Sample{T: start + int64(j), V: float64(j)})
		}
	}
	return harness.Encode(t, harness.V1, all...)
}

// countSamples is the number of samples of each sender that a tenant has.
func countSamples(t *testing.T, s *harness.Server, metric string) map[string]int64 {
	t.Helper()
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	s.Get(t, "/api/v1/query", url.Values{
		"query": {fmt.Sprintf("sum by (sender) (count_over_time(%s[1h]))", metric)},
		"time":  {harness.Seconds(time.Now().Add(5 * time.Minute).UnixMilli())},
	}, &data)
	out := map[string]int64{}
	for _, r := range data.Result {
		n, err := strconv.ParseInt(r.Value[1].(string), 10, 64)
		require.NoError(t, err)
		out[r.Metric["sender"]] = n
	}
	return out
}

// skipUnlessLimited skips tests of what weir does when its memory is limited.
func skipUnlessLimited(t *testing.T) {
	t.Helper()
	if harness.Against() != "weir" {
		t.Skip("weir's own contract")
	}
	if strings.Contains(os.Getenv("WEIR_TEST_BUILD_FLAGS"), "-race") {
		t.Skip("the race detector takes memory of its own, so the harness limits none")
	}
}

// residentBeyond is what a process may have resident beyond GOMEMLIMIT: its
// program, and pages of mapped files, which the kernel takes back when it must.
const residentBeyond = 96 << 20

func requireWithin(t *testing.T, s *harness.Server, limit int64) {
	t.Helper()
	u, err := s.Process().Usage()
	require.NoError(t, err)
	progress(t, "at most %d MiB resident, GOMEMLIMIT %d MiB", u.ResidentMax>>20, limit>>20)
	require.Less(t, u.ResidentMax, limit+residentBeyond)
}

// TestFlood: large requests of one tenant, far more at once than there is memory
// for, keep neither another tenant from being served nor the process alive only
// by luck, and what was acknowledged is there.
func TestFlood(t *testing.T) {
	skipUnlessLimited(t)
	const (
		senders, series, samples = 48, 100, 1000 // 1.8 MB decoded
		limit                    = 192 << 20
		politeRequests           = 30
	)
	s := harness.Start(t, harness.Config{MemoryLimit: limit, Set: []string{
		"auth.mode=header", "self_metrics.enabled=false", "overload.max_inflight_bytes=33554432",
	}})
	f := &flooding{t: t, server: s}
	begin := time.Now().Add(-5 * time.Minute).UnixMilli()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acked, sent [senders]int64 // samples
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			body, start := batch(t, "flood", i, series, samples, begin), begin
			for ctx.Err() == nil {
				sent[i] = (start - begin + samples) * series
				if f.post(t.Context(), body, "flood") {
					start += samples
					acked[i] = (start - begin) * series
					body = batch(t, "flood", i, series, samples, start)
					continue
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	require.Eventually(t, func() bool { return f.refused.Load() > senders }, time.Minute, 10*time.Millisecond, "it is no flood")
	var polite int64
	var slowest time.Duration
	for start := begin; start < begin+politeRequests; start++ {
		sentAt := time.Now()
		a, err := s.Post(t.Context(), harness.V1, batch(t, "polite", 0, 100, 1, start), "X-Scope-OrgID", "polite")
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, a.Status, a.Body)
		polite += 100
		slowest = max(slowest, time.Since(sentAt))
		time.Sleep(50 * time.Millisecond)
	}
	refused := f.refused.Load()
	cancel()
	all.Wait()
	f.requireExpected()
	progress(t, "flood: %d requests stored, %d refused, %d cut off; polite: %d stored, slowest %s",
		f.acknowledged.Load(), f.refused.Load(), f.silent.Load(), polite/100, slowest.Round(time.Millisecond))
	require.Positive(t, f.acknowledged.Load())
	require.Greater(t, refused, int64(2*senders), "it did not go on")
	requireWithin(t, s, limit)

	require.Equal(t, map[string]int64{"0": polite}, countSamples(t, s.As("polite"), "polite"))
	stored := countSamples(t, s.As("flood"), "flood")
	for i := range senders {
		require.GreaterOrEqual(t, stored[strconv.Itoa(i)], acked[i], "sender %d: acknowledged", i)
		require.LessOrEqual(t, stored[strconv.Itoa(i)], sent[i], "sender %d: sent", i)
	}
}

// TestMemoryShort: one tenant brings new series until memory is short. It is
// refused then; the process lives, and has what it acknowledged.
func TestMemoryShort(t *testing.T) {
	skipUnlessLimited(t)
	const limit = 128 << 20
	s := harness.Start(t, harness.Config{MemoryLimit: limit, Set: []string{"self_metrics.enabled=false"}})
	f := &flooding{t: t, server: s}
	now := time.Now().UnixMilli()
	acked := map[int]bool{}
	refusals := 0
	for i := 0; refusals < 20; i++ {
		require.Less(t, i, 1000, "memory was never short")
		if f.post(t.Context(), batch(t, "new", i, 1000, 1, now), "") {
			acked[i] = true
			refusals = 0
		} else {
			refusals++ // in a row: not only for a moment
			time.Sleep(100 * time.Millisecond)
		}
		f.requireExpected()
	}
	require.Zero(t, f.silent.Load())
	progress(t, "%d series stored", len(acked)*1000)
	requireWithin(t, s, limit)
	resp, err := http.Get(s.Process().URL + "/ready?format=json")
	require.NoError(t, err)
	defer resp.Body.Close()
	var health struct {
		Subsystems []struct{ Name, State string }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&health))
	require.Contains(t, health.Subsystems, struct{ Name, State string }{"memory", "degraded"})
	s.Stop()
	stored := map[string]int{}
	for series := range s.OnDisk(t) {
		_, sender, _ := strings.Cut(series, `sender="`)
		sender, _, _ = strings.Cut(sender, `"`)
		stored[sender]++
	}
	for i := range acked {
		require.Equal(t, 1000, stored[strconv.Itoa(i)])
	}
}
