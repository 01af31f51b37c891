package ingester

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/tenant"
)

const (
	exemplarInvalid       = "weir-exemplar-invalid"
	exemplarOutOfOrder    = "weir-exemplar-out-of-order"
	exemplarWithoutSeries = "weir-exemplar-without-series"
)

// exemplars reads all exemplars of a tenant by series, each as "labels value
// seconds after t0".
func (n *node) exemplars(id string) map[string][]string {
	n.tb.Helper()
	q, err := n.ExemplarQuerier(context.Background(), id)
	require.NoError(n.tb, err)
	results, err := q.Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".*")})
	require.NoError(n.tb, err)
	out := map[string][]string{}
	for _, r := range results {
		for _, x := range r.Exemplars {
			out[r.SeriesLabels.String()] = append(out[r.SeriesLabels.String()], fmt.Sprintf("%s %v %v", x.Labels, x.Value, time.Duration(x.Ts-t0)*time.Millisecond))
		}
	}
	return out
}

func withMaxExemplars(max int) func(*node) {
	return withLimits(func(l *tenant.Limits) { l.MaxExemplars = max })
}

func TestExemplars(t *testing.T) {
	a, b, c := metric("a"), metric("b"), metric("c")
	sec := func(n int) int64 { return at(time.Duration(n) * time.Second) }
	long := strings.Repeat("é", 64)
	for _, tc := range []struct {
		name  string
		steps []step
		want  map[string][]string
	}{
		{"with samples", []step{
			{frame: new(frame).series(a).float(sec(0), 1).exemplar(sec(0), 0.5, "trace_id", "x").series(b).hist(sec(0), intHistogram(1)).
				exemplar(sec(0), 1, "trace_id", "y").exemplar(sec(1), math.Inf(1)), written: 5},
			{frame: new(frame).known(a).float(sec(1), 1).exemplar(sec(1), 0.6, "trace_id", "z", "span", "s"), written: 2},
		}, map[string][]string{
			a.String(): {`{trace_id="x"} 0.5 0s`, `{span="s", trace_id="z"} 0.6 1s`},
			b.String(): {`{trace_id="y"} 1 0s`, `{} +Inf 1s`},
		}},
		{"without samples, of a known series", []step{
			{frame: new(frame).series(a).float(sec(0), 1), written: 1},
			{frame: new(frame).known(a).exemplar(sec(0), 1, "trace_id", "x"), written: 1},
		}, map[string][]string{a.String(): {`{trace_id="x"} 1 0s`}}},
		{"of a series that has no sample yet", []step{
			{frame: new(frame).series(a).float(sec(0), 1), written: 1},
			{frame: new(frame).series(b).exemplar(sec(0), 1, "trace_id", "x").series(c).exemplar(sec(0), 2), written: 2},
			{frame: new(frame).known(b).float(sec(0), 1).exemplar(sec(1), 2), written: 2},
		}, map[string][]string{b.String(): {`{trace_id="x"} 1 0s`, `{} 2 1s`}, c.String(): {`{} 2 0s`}}},
		{"of the tenant's very first series, without a sample", []step{
			{frame: new(frame).series(a).exemplar(sec(0), 1).exemplar(sec(1), 1), rejected: map[string]int{exemplarWithoutSeries: 2}},
			{frame: new(frame).series(a).float(sec(0), 1).exemplar(sec(0), 1), written: 2},
		}, map[string][]string{a.String(): {`{} 1 0s`}}},
		{"in a frame with the tenant's very first sample", []step{
			{frame: new(frame).series(a).exemplar(sec(0), 1).series(b).float(sec(0), 1), written: 2},
		}, map[string][]string{a.String(): {`{} 1 0s`}}},
		{"after a flush", []step{
			{frame: new(frame).series(a).float(sec(0), 1), written: 1},
			{event: flushed},
			{frame: new(frame).series(a).exemplar(sec(1), 1).series(b).exemplar(sec(1), 2), written: 2},
		}, map[string][]string{a.String(): {`{} 1 1s`}, b.String(): {`{} 2 1s`}}},
		{"of refused samples", []step{
			{frame: new(frame).series(a).float(sec(0), 1).exemplar(sec(0), 1), written: 2},
			{frame: new(frame).series(a).float(sec(0), 2).exemplar(sec(1), 2), written: 1, rejected: map[string]int{duplicate: 1}},
		}, map[string][]string{a.String(): {`{} 1 0s`, `{} 2 1s`}}},
		{"again", []step{
			{frame: new(frame).series(a).float(sec(0), 1).exemplar(sec(0), 1, "trace_id", "x"), written: 2},
			{frame: new(frame).series(a).float(sec(0), 1).exemplar(sec(0), 1, "trace_id", "x"), written: 2},
			{frame: new(frame).series(a).exemplar(sec(0), 1, "trace_id", "x").exemplar(sec(0), 1, "trace_id", "x"), written: 2},
		}, map[string][]string{a.String(): {`{trace_id="x"} 1 0s`}}},
		{"out of order", []step{
			{frame: new(frame).series(a).float(sec(3600), 1).exemplar(sec(3600), 1), written: 2},
			{frame: new(frame).series(a).exemplar(sec(3600-599), 2), written: 1},
			{frame: new(frame).series(a).exemplar(sec(3600-600), 3).exemplar(sec(0), 4), rejected: map[string]int{exemplarOutOfOrder: 2}},
		}, map[string][]string{a.String(): {`{} 2 50m1s`, `{} 1 1h0m0s`}}},
		{"labels up to 128 characters", []step{
			{frame: new(frame).series(a).float(sec(0), 1).exemplar(sec(0), 1, long[:2], long+long[:126]), written: 2},
			{frame: new(frame).series(a).exemplar(sec(1), 1, long[:2], long+long).exemplar(sec(2), 1, "é", "x"), written: 1, rejected: map[string]int{exemplarInvalid: 1}},
		}, map[string][]string{a.String(): {fmt.Sprintf(`{"é"=%q} 1 0s`, long+long[:126]), `{"é"="x"} 1 2s`}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := start(t)
			for i, s := range tc.steps {
				if s.event != nil {
					s.event(n)
					continue
				}
				if s.rejected == nil {
					s.rejected = map[string]int{}
				}
				reply := n.send(team, s.frame)
				require.Equal(t, s.rejected, rejections(reply), "step %d", i)
				require.Equal(t, s.written, reply.Written.Total(), "step %d", i)
			}
			require.Equal(t, tc.want, n.exemplars(team))
			n.crash()
			require.Equal(t, tc.want, n.exemplars(team), "after replay")
		})
	}
}

// An exemplar that cannot be stored must not move the time of a new tenant.
func TestFirstExemplarLeavesTheHead(t *testing.T) {
	n := start(t)
	a := metric("a")
	reply := n.write(team, new(frame).series(a).exemplar(at(1000*time.Hour), 1))
	require.Equal(t, map[string]int{exemplarWithoutSeries: 1}, rejections(reply))
	_, _, ok := n.Extent(team)
	require.False(t, ok, "nothing is stored")
	f := new(frame).series(a).float(at(0), 1)
	writtenAll(t, f, n.send(team, f))
}

// The buffer is made with the first exemplar, and then at each start.
func TestExemplarBuffer(t *testing.T) {
	n := start(t, withMaxExemplars(100))
	a := metric("a")
	marker := func() string { return filepath.Join(n.dir, team, exemplarsFile) }
	f := new(frame).series(a).float(at(0), 1)
	n.write(team, f)
	require.NoFileExists(t, marker())

	write := func(from, to int) {
		t.Helper()
		f := new(frame).series(a)
		for i := from; i < to; i++ {
			f.exemplar(at(time.Duration(i)*time.Second), float64(i))
		}
		writtenAll(t, f, n.write(team, f))
	}
	kept := func() int { return len(n.exemplars(team)[a.String()]) }
	write(0, 60)
	require.FileExists(t, marker())
	require.Equal(t, 60, kept())
	write(60, 130)
	require.Equal(t, 100, kept())
	require.Equal(t, "{} 30 30s", n.exemplars(team)[a.String()][0], "the oldest go first")
	n.crash()
	require.Equal(t, 100, kept())

	// The limit may change at any time.
	set := func(max int) {
		n.setLimits(func(l *tenant.Limits) { l.MaxExemplars = max })
		f := new(frame).series(a).float(at(0), 1) // a write takes limits over
		writtenAll(t, f, n.write(team, f))
	}
	set(40)
	require.Equal(t, 40, kept())
	set(200)
	require.Equal(t, 40, kept())
	write(130, 230)
	require.Equal(t, 140, kept())
	set(0)
	require.Zero(t, kept())
	write(230, 240) // counts as written: the operator does not want them
	require.Zero(t, kept())
	n.crash()
	require.Zero(t, kept())
	set(10)
	write(240, 260)
	require.Equal(t, 10, kept())
	n.crash()
	require.Equal(t, 10, kept())
}

// The first exemplars of a tenant may come with several requests at once: none of
// them may find the buffer still small.
func TestFirstExemplarsAtOnce(t *testing.T) {
	const tenants, writers, each = 25, 4, 20
	n := start(t)
	for i := range tenants {
		id := fmt.Sprint("tenant-", i)
		for w := range writers {
			n.write(id, new(frame).series(metric("m", "w", fmt.Sprint(w))).float(at(0), 1))
		}
		var g errgroup.Group
		begin := make(chan struct{})
		for w := range writers {
			f := new(frame).known(metric("m", "w", fmt.Sprint(w)))
			for j := range each {
				f.exemplar(at(time.Duration(j)*time.Second), 1)
			}
			g.Go(func() error {
				<-begin
				_, err := n.tryWrite(id, f)
				return err
			})
		}
		close(begin)
		require.NoError(t, g.Wait())
		kept := 0
		for _, xs := range n.exemplars(id) {
			kept += len(xs)
		}
		require.Equal(t, writers*each, kept, "tenant %d", i)
	}
}

// A marker that cannot be written must not let exemplars be lost at the next
// start.
func TestExemplarMarkerFails(t *testing.T) {
	n := start(t)
	a := metric("a")
	n.write(team, new(frame).series(a).float(at(0), 1))
	// A file system that is full is hard to come by; a link to nowhere is not.
	marker := filepath.Join(n.dir, team, exemplarsFile)
	require.NoError(t, os.Symlink(filepath.Join(n.dir, "nowhere", "x"), marker))
	_, err := n.tryWrite(team, new(frame).known(a).float(at(time.Second), 1).exemplar(at(0), 1))
	require.ErrorContains(t, err, "weir-store-unavailable")
	require.NoError(t, os.Remove(marker))
	f := new(frame).known(a).float(at(time.Second), 1).exemplar(at(0), 1).exemplar(at(1000), 2)
	writtenAll(t, f, n.write(team, f))
	n.restart()
	require.Len(t, n.exemplars(team)[a.String()], 2)
}
