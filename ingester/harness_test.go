package ingester

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("rapid.nofailfile", "true") // a failure prints its seed
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	for name, v := range map[string]string{"rapid.checks": "30", "rapid.shrinktime": "5s"} {
		if !set[name] {
			_ = flag.Set(name, v)
		}
	}
	if os.Getenv(leaking) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// leaking is set in the environment of a test process that may leave goroutines
// behind.
const leaking = "WEIR_TEST_LEAKING"

// tester is what *testing.T, *testing.B and *rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
	Cleanup(func())
	Logf(string, ...any)
}

const (
	team = "team-a"

	// t0 is a block border, ms.
	t0 = int64(1_699_999_200_000)
)

// at is the timestamp d after t0.
func at(d time.Duration) int64 { return t0 + d.Milliseconds() }

var staleNaN = math.Float64frombits(value.StaleNaN)

// node is an ingester that runs, and can be stopped and started again on the
// same directory.
type node struct {
	*Ingester
	tb     tester
	cfg    Config
	dir    string
	dirs   []string                                   // to be removed
	space  func(string) (size, free int64, err error) // of the disk; nil: as it is
	wire   func(*Deps)                                // changes it; nil: nobody
	limits atomic.Pointer[tenant.Limits]
	log    bytes.Buffer // of warnings; to be read when the node is stopped
	cancel context.CancelFunc
	done   chan error
}

// start runs an ingester until the test ends. Options change its config, limits
// or directory.
func start(tb tester, options ...func(*node)) *node {
	tb.Helper()
	n := &node{tb: tb, cfg: DefaultConfig()}
	n.cfg.MaintenanceInterval = time.Hour // tests call maintain themselves
	n.cfg.Disk.ReserveBytes = 0           // crashes copy the directory
	n.setLimits(func(*tenant.Limits) {})
	for _, o := range options {
		o(n)
	}
	tb.Cleanup(func() {
		n.stop()
		for _, dir := range n.dirs {
			require.NoError(tb, os.RemoveAll(dir))
		}
	})
	if n.dir == "" {
		n.dir = n.tempDir()
	}
	n.run()
	return n
}

// tempDir makes a directory that goes when the node is done with it.
func (n *node) tempDir() string {
	n.tb.Helper()
	dir, err := os.MkdirTemp("", "weir-ingester-")
	require.NoError(n.tb, err)
	n.dirs = append(n.dirs, dir)
	return dir
}

// setLimits publishes a new version of the limits.
func (n *node) setLimits(change func(*tenant.Limits)) {
	lim := tenant.DefaultLimits()
	if old := n.limits.Load(); old != nil {
		lim = *old
	}
	change(&lim)
	n.limits.Store(&lim)
}

func withLimits(change func(*tenant.Limits)) func(*node) {
	return func(n *node) { n.setLimits(change) }
}

func withWindow(d time.Duration) func(*node) {
	return withLimits(func(l *tenant.Limits) { l.OutOfOrderWindow = d })
}

func withConfig(change func(*Config)) func(*node) {
	return func(n *node) { change(&n.cfg) }
}

func (n *node) run() {
	n.tb.Helper()
	deps := Deps{
		Dir:      n.dir,
		Limits:   func(string) *tenant.Limits { return n.limits.Load() },
		Logger:   slog.New(slog.NewTextHandler(&n.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Registry: prometheus.NewRegistry(),
	}
	if n.wire != nil {
		n.wire(&deps)
	}
	n.Ingester = New(n.cfg, deps)
	if n.space != nil {
		n.Ingester.disk.space = n.space
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	go func(i *Ingester, done chan<- error) { done <- i.Run(ctx) }(n.Ingester, n.done)
	n.awaitReady()
}

func (n *node) awaitReady() {
	n.tb.Helper()
	require.Eventually(n.tb, func() bool {
		select {
		case err := <-n.done:
			n.done <- err
			return true
		default:
			return n.Ready() == nil
		}
	}, time.Minute, time.Millisecond)
	require.NoError(n.tb, n.Ready())
}

// stop ends the ingester and waits for it.
func (n *node) stop() {
	n.tb.Helper()
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	require.NoError(n.tb, <-n.done)
}

func (n *node) restart() {
	n.tb.Helper()
	n.stop()
	n.run()
}

// crash copies the directory as it is now, which is what a process that dies
// leaves behind, and goes on with the copy.
func (n *node) crash() {
	n.tb.Helper()
	to := n.tempDir()
	require.NoError(n.tb, os.CopyFS(to, os.DirFS(n.dir)))
	n.stop()
	n.dir = to
	n.run()
}

// frame builds a proto.Frame. It remembers the labels of series that it sends
// without them.
type frame struct {
	proto.Frame
	names []labels.Labels
}

func identity(ls labels.Labels) proto.Hash {
	return proto.Hash{Hi: ls.Hash(), Lo: ls.Hash() * 0x9e3779b97f4a7c15}
}

// series begins a series, with its labels.
func (f *frame) series(ls labels.Labels) *frame {
	f.Labels = append(f.Labels, proto.SeriesLabels{Series: uint32(len(f.Series)), Labels: ls})
	return f.known(ls)
}

// known begins a series that the ingester must know.
func (f *frame) known(ls labels.Labels) *frame {
	f.Series = append(f.Series, proto.FrameSeries{ID: identity(ls), Handle: proto.NoHandle})
	f.names = append(f.names, ls)
	return f
}

func (f *frame) last() *proto.FrameSeries { return &f.Series[len(f.Series)-1] }

func (f *frame) float(t int64, v float64) *frame { return f.floatST(t, 0, v) }

func (f *frame) floatST(t, st int64, v float64) *frame {
	f.Floats = append(f.Floats, proto.Float{T: t, ST: st, V: v})
	f.last().Floats++
	return f
}

func (f *frame) hist(t int64, h *histogram.Histogram) *frame {
	f.Histograms = append(f.Histograms, proto.Histogram{T: t, H: h.Copy()})
	f.last().Histograms++
	return f
}

func (f *frame) fhist(t int64, h *histogram.FloatHistogram) *frame {
	f.Histograms = append(f.Histograms, proto.Histogram{T: t, FH: h.Copy()})
	f.last().Histograms++
	return f
}

func (f *frame) exemplar(t int64, v float64, ls ...string) *frame {
	f.Exemplars = append(f.Exemplars, exemplar.Exemplar{Ts: t, HasTs: true, Value: v, Labels: labels.FromStrings(ls...)})
	f.last().Exemplars++
	return f
}

// counts of everything in f.
func (f *frame) counts() proto.Counts {
	return proto.Counts{Samples: len(f.Floats), Histograms: len(f.Histograms), Exemplars: len(f.Exemplars), Metadata: len(f.Metadata)}
}

// without returns f with none of its labels.
func (f *frame) without() *frame {
	c := f.only(nil)
	c.Labels = nil
	return c
}

// only returns the series of f with these indexes, nil meaning all, with labels.
// Histograms are copied, because the store writes to them.
func (f *frame) only(which []uint32) *frame {
	out := &frame{}
	var fl, hi, ex uint32
	for i, s := range f.Series {
		if which == nil || slices.Contains(which, uint32(i)) {
			out.series(f.names[i])
			last := out.last()
			*last = s
			out.Floats = append(out.Floats, f.Floats[fl:fl+s.Floats]...)
			for _, h := range f.Histograms[hi : hi+s.Histograms] {
				if h.H != nil {
					h.H = h.H.Copy()
				} else {
					h.FH = h.FH.Copy()
				}
				out.Histograms = append(out.Histograms, h)
			}
			out.Exemplars = append(out.Exemplars, f.Exemplars[ex:ex+s.Exemplars]...)
		}
		fl, hi, ex = fl+s.Floats, hi+s.Histograms, ex+s.Exemplars
	}
	if which == nil {
		out.Metadata = slices.Clone(f.Metadata)
	}
	return out
}

// write writes f and checks that the reply accounts for all of it.
func (n *node) write(id string, f *frame) *proto.Reply {
	n.tb.Helper()
	var reply proto.Reply
	require.NoError(n.tb, n.Write(context.Background(), id, &f.Frame, &reply))
	require.NoError(n.tb, accounts(f, &reply))
	return &reply
}

// accounts checks that every sample of f is in exactly one place of the reply.
func accounts(f *frame, reply *proto.Reply) error {
	if !slices.IsSorted(reply.Unknown) || len(slices.Compact(slices.Clone(reply.Unknown))) != len(reply.Unknown) {
		return fmt.Errorf("unknown series must be ascending and named once: %v", reply.Unknown)
	}
	var rest proto.Counts
	for _, i := range reply.Unknown {
		s := f.Series[i]
		rest.Add(proto.Counts{Samples: int(s.Floats), Histograms: int(s.Histograms), Exemplars: int(s.Exemplars)})
	}
	sum := reply.Written
	sum.Add(rest)
	sum.Add(reply.Postponed)
	for _, c := range reply.Rejected.Counts {
		sum.Add(c)
	}
	sum.Metadata += len(reply.Families)
	if sum != f.counts() {
		return fmt.Errorf("sent %+v; written %+v, rejected %v, of unknown series %+v",
			f.counts(), reply.Written, rejections(reply), rest)
	}
	return nil
}

// send writes f as a receiver does: without the labels of known series, and once
// more with labels for what the ingester does not know. It returns what became
// of everything.
func (n *node) send(id string, f *frame) *proto.Reply {
	n.tb.Helper()
	reply := n.write(id, f)
	if len(reply.Unknown) == 0 {
		return reply
	}
	taught := f.only(reply.Unknown)
	again := n.write(id, taught)
	require.Empty(n.tb, again.Unknown, "series whose labels were sent")
	reply.Written.Add(again.Written)
	reply.Rejected.Merge(&again.Rejected, func(i uint32) uint32 { return reply.Unknown[i] })
	return reply
}

// rejections are the counts of a reply by the reason's id.
func rejections(reply *proto.Reply) map[string]int {
	out := map[string]int{}
	for r, c := range reply.Rejected.Counts {
		if c.Total() > 0 {
			out[proto.Reason(r).ID()] = c.Total()
		}
	}
	return out
}

// writtenAll checks that all of f was written.
func writtenAll(tb tester, f *frame, reply *proto.Reply) {
	tb.Helper()
	require.Empty(tb, rejections(reply))
	require.Empty(tb, reply.Unknown)
	require.Equal(tb, f.counts(), reply.Written)
}

// point is a sample as it was read, with its value spelled out bit by bit.
type point struct {
	T, ST int64
	V     string
}

func floatKey(v float64) string { return fmt.Sprintf("%016x", math.Float64bits(v)) }

// histKey spells a histogram whatever the layout of its spans. Of the counter
// reset hint it keeps whether it is a gauge, the rest is the store's to say.
func histKey(h *histogram.Histogram) string {
	c := h.Copy().Compact(0)
	return fmt.Sprintf("int gauge=%t schema=%d zero=%x/%d count=%d sum=%x +%v%v -%v%v %x", h.CounterResetHint == histogram.GaugeType,
		c.Schema, math.Float64bits(c.ZeroThreshold), c.ZeroCount, c.Count, math.Float64bits(c.Sum),
		c.PositiveSpans, c.PositiveBuckets, c.NegativeSpans, c.NegativeBuckets, c.CustomValues)
}

func fhistKey(h *histogram.FloatHistogram) string {
	c := h.Copy().Compact(0)
	return fmt.Sprintf("float gauge=%t schema=%d zero=%x/%x count=%x sum=%x +%v%x -%v%x %x", h.CounterResetHint == histogram.GaugeType,
		c.Schema, math.Float64bits(c.ZeroThreshold), math.Float64bits(c.ZeroCount), math.Float64bits(c.Count), math.Float64bits(c.Sum),
		c.PositiveSpans, c.PositiveBuckets, c.NegativeSpans, c.NegativeBuckets, c.CustomValues)
}

// read returns all samples of a tenant by series, from untrimmed chunks.
func (n *node) read(id string) map[string][]point {
	n.tb.Helper()
	return n.readRange(id, math.MinInt64/4, math.MaxInt64/4)
}

func (n *node) readRange(id string, mint, maxt int64) map[string][]point {
	n.tb.Helper()
	out, err := readChunks(n.Ingester, id, mint, maxt)
	require.NoError(n.tb, err)
	return out
}

func readChunks(i *Ingester, id string, mint, maxt int64) (map[string][]point, error) {
	q, err := i.ChunkQuerier(id, mint, maxt)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	out := map[string][]point{}
	set := q.Select(context.Background(), true, &storage.SelectHints{Start: mint, End: maxt, DisableTrimming: true},
		labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".*"))
	for set.Next() {
		points := map[int64]point{}
		chunks := set.At().Iterator(nil)
		for chunks.Next() {
			last := int64(math.MinInt64)
			it := chunks.At().Chunk.Iterator(nil)
			for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
				p := decode(it, vt)
				if p.T <= last {
					return nil, fmt.Errorf("%s: a chunk has the timestamp %d after %d", set.At().Labels(), p.T, last)
				}
				last = p.T
				if p.T < mint || p.T > maxt {
					continue
				}
				// Chunks may overlap, but not contradict.
				if q, ok := points[p.T]; ok && q != p {
					return nil, fmt.Errorf("%s: two values at one timestamp: %v and %v", set.At().Labels(), p, q)
				}
				points[p.T] = p
			}
			if err := it.Err(); err != nil {
				return nil, err
			}
		}
		if err := chunks.Err(); err != nil {
			return nil, err
		}
		if len(points) == 0 {
			continue
		}
		name := set.At().Labels().String()
		if _, ok := out[name]; ok {
			return nil, fmt.Errorf("series %s comes twice", name)
		}
		out[name] = slices.SortedFunc(maps.Values(points), func(a, b point) int { return int(a.T - b.T) })
	}
	return out, set.Err()
}

func decode(it chunkenc.Iterator, vt chunkenc.ValueType) point {
	p := point{T: it.AtT(), ST: it.AtST()}
	switch vt {
	case chunkenc.ValFloat:
		_, v := it.At()
		p.V = floatKey(v)
	case chunkenc.ValHistogram:
		_, h := it.AtHistogram(nil)
		p.V = histKey(h)
	default:
		_, h := it.AtFloatHistogram(nil)
		p.V = fhistKey(h)
	}
	return p
}

// blocks is the number of blocks on disk of a tenant.
func (n *node) blocks(id string) int {
	n.tb.Helper()
	t := n.find(id)
	require.NotNil(n.tb, t)
	return len(t.db.Blocks())
}

func (n *node) flush(id string) {
	n.tb.Helper()
	require.NoError(n.tb, n.Flush(context.Background(), id))
}

// metric makes labels of a name and pairs.
func metric(name string, pairs ...string) labels.Labels {
	return labels.FromStrings(append([]string{model.MetricNameLabel, name}, pairs...)...)
}

// find returns an open tenant, or nil. The caller does not count as its user.
func (i *Ingester) find(id string) *tenantDB {
	_, t := i.look(id)
	return t
}
