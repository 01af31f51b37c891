package ingester

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/proto"
)

// tryWrite is write for goroutines other than the test's.
func (n *node) tryWrite(id string, f *frame) (*proto.Reply, error) {
	var reply proto.Reply
	if err := n.Write(context.Background(), id, &f.Frame, &reply); err != nil {
		return nil, err
	}
	return &reply, accounts(f, &reply)
}

// Several writers give different values to the same timestamps of the same
// series, in and out of order: one of them wins each, and knows it.
func TestOneWriterWins(t *testing.T) {
	const (
		writers = 4
		series  = 3
		rounds  = 400
	)
	for _, window := range []time.Duration{10 * time.Minute, 5 * time.Second} {
		t.Run(fmt.Sprintf("window=%s", window), func(t *testing.T) {
			n := start(t, withWindow(window))
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			type at struct {
				series int
				t      int64
			}
			var (
				mu   sync.Mutex
				won  = map[at]int{} // the writer that was told its value is stored
				now  atomic.Int64   // the timestamp that writers are at
				g    errgroup.Group
				late atomic.Int64
			)
			for w := range writers {
				g.Go(func() error {
					rnd := rand.New(rand.NewPCG(seed, uint64(w)))
					for r := range rounds {
						// All are about the same time; some look back, some ahead.
						ts := now.Load() - int64(rnd.IntN(3))*1000
						if r%writers == w {
							ts = now.Add(1000)
						}
						x := at{rnd.IntN(series), t0 + ts}
						f := new(frame).series(metric("m", "i", fmt.Sprint(x.series))).float(x.t, float64(w))
						reply, err := n.tryWrite(team, f)
						if err != nil {
							return err
						}
						switch {
						case reply.Written.Samples == 1:
							mu.Lock()
							if other, ok := won[x]; ok && other != w {
								mu.Unlock()
								return fmt.Errorf("%v: both %d and %d were told that their value is stored", x, other, w)
							}
							won[x] = w
							mu.Unlock()
						case reply.Rejected.Counts[proto.SampleDuplicate].Samples == 1:
						case reply.Rejected.Counts[proto.SampleOutOfOrder].Samples == 1 && window < time.Minute:
							late.Add(1)
						default:
							return fmt.Errorf("%v of %d: %v", x, w, rejections(reply))
						}
					}
					return nil
				})
			}
			require.NoError(t, g.Wait())
			want := map[string][]point{}
			for x, w := range won {
				name := metric("m", "i", fmt.Sprint(x.series)).String()
				want[name] = append(want[name], point{T: x.t, V: floatKey(float64(w))})
			}
			for _, ps := range want {
				slices.SortFunc(ps, func(a, b point) int { return int(a.T - b.T) })
			}
			require.Equal(t, want, n.read(team))
			n.crash()
			require.Equal(t, want, n.read(team))
			t.Logf("%d stored, %d too late", len(won), late.Load())
		})
	}
}

// Whole frames of one set of series, written by several at once: the sums are
// exact and what is stored is one whole answer per timestamp.
func TestConcurrentFrames(t *testing.T) {
	const writers, series, rounds = 4, 50, 40
	n := start(t)
	var (
		written, duplicates atomic.Int64
		g                   errgroup.Group
	)
	for w := range writers {
		g.Go(func() error {
			for r := range rounds {
				f := &frame{}
				for s := range series {
					ls := metric("m", "i", fmt.Sprint(s))
					// Two entries of one series, and three samples that other frames have, too.
					f.series(ls).float(at(time.Duration(r)*time.Second), float64(w)).float(at(time.Duration(r+1)*time.Second), float64(w))
					f.series(ls).float(at(time.Duration(r)*time.Second)-500, float64(w))
				}
				reply, err := n.tryWrite(team, f)
				if err != nil {
					return err
				}
				written.Add(int64(reply.Written.Samples))
				duplicates.Add(int64(reply.Rejected.Counts[proto.SampleDuplicate].Samples))
				if reply.Rejected.Total() > reply.Rejected.Counts[proto.SampleDuplicate].Samples {
					return fmt.Errorf("writer %d, round %d: %v %v", w, r, rejections(reply), reply.Rejected.Examples)
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.EqualValues(t, writers*rounds*series*3, written.Load()+duplicates.Load())
	stored := n.read(team)
	require.Len(t, stored, series)
	total := 0
	for _, ps := range stored {
		require.Len(t, ps, 2*rounds+1)
		total += len(ps)
	}
	// A writer repeats its own value of the timestamp between two rounds; where that
	// is stored, it counts twice.
	repeated := 0
	for w := range writers {
		for _, ps := range stored {
			for _, p := range ps {
				if p.V == floatKey(float64(w)) && (p.T-t0)%1000 == 0 && p.T > t0 && p.T < at(rounds*time.Second) {
					repeated++
				}
			}
		}
	}
	require.EqualValues(t, total+repeated, written.Load())
}

// The same frames sent by several at once, as a sender does that gave up waiting:
// all are told that everything is written, and it is stored once.
func TestConcurrentRetries(t *testing.T) {
	const writers, series, rounds = 4, 40, 40
	n := start(t)
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for r := range rounds {
				f := &frame{}
				for s := range series {
					ls := metric("m", "i", fmt.Sprint(s))
					f.series(ls)
					switch ts := at(time.Duration(r) * time.Second); {
					case s%4 == 0:
						f.hist(ts, intHistogram(uint64(r)))
					case s%4 == 1 && r%10 == 9:
						f.float(ts, staleNaN)
					default:
						f.float(ts, float64(r))
					}
				}
				reply, err := n.tryWrite(team, f)
				if err != nil {
					return err
				}
				if len(rejections(reply)) > 0 {
					return fmt.Errorf("writer %d, round %d: %v", w, r, rejections(reply))
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	for name, ps := range n.read(team) {
		require.Len(t, ps, rounds, name)
	}
}

// New series, learned by several writers at once, are one series each.
func TestConcurrentNewSeries(t *testing.T) {
	const writers, series = 4, 500
	n := start(t)
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for s := range series {
				ls := metric("m", "i", fmt.Sprint(s))
				f := new(frame).series(ls).float(at(time.Duration(w)*time.Second), float64(w))
				if rnd.IntN(2) == 0 {
					f.exemplar(at(0), 1, "trace", fmt.Sprint(s))
				}
				if _, err := n.tryWrite(team, f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	tdb := n.find(team)
	require.EqualValues(t, series, tdb.db.Head().NumSeries())
	require.Equal(t, series, tdb.series.len())
	for name, ps := range n.read(team) {
		require.Len(t, ps, writers, name)
	}
}

// A request takes long; another one with a newer sample of the same series
// overtakes it. What the first one was told must hold: stored, or refused.
func TestOvertaken(t *testing.T) {
	a, b := metric("a"), metric("b")
	for _, window := range []time.Duration{0, 10 * time.Minute} {
		for _, lag := range []time.Duration{0, 20 * time.Minute} { // of the series, behind the tenant's newest sample
			t.Run(fmt.Sprintf("window=%s lag=%s", window, lag), func(t *testing.T) {
				n := start(t, withWindow(window))
				n.write(team, new(frame).series(a).float(at(0), 0).series(b).float(at(lag), 0))
				tdb := n.find(team)
				long := new(frame).known(a).float(at(time.Second), 1)
				for i := range 30_000 {
					long.series(metric("filler", "i", fmt.Sprint(i))).float(at(lag), 1)
				}
				var first proto.Reply
				done := make(chan error, 1)
				go func() { done <- n.Write(context.Background(), team, &long.Frame, &first) }()
				for tdb.db.Head().NumSeries() < 3 {
					runtime.Gosched()
				}
				second := n.write(team, new(frame).known(a).float(at(2*time.Second), 2))
				require.NoError(t, <-done)
				require.NoError(t, accounts(long, &first))
				stored := n.read(team)[a.String()]
				told := 1 + first.Written.Samples - 30_000 + second.Written.Samples
				require.Len(t, stored, told, "first: %v, second: %v", rejections(&first), rejections(second))
			})
		}
	}
}

// Reads see each frame's series consistent while writers, flushes and reads run.
func TestReadWhileWriting(t *testing.T) {
	n := start(t, withConfig(func(c *Config) { c.BlockDuration = time.Hour }))
	name := func(i int) labels.Labels { return metric("m", "i", fmt.Sprint(i)) }
	const series, rounds = 20, 40
	var g errgroup.Group
	done := make(chan struct{})
	var newest atomic.Int64
	newest.Store(math.MinInt64)
	g.Go(func() error {
		defer close(done)
		for r := range rounds {
			f := &frame{}
			ts := at(time.Duration(r) * 5 * time.Minute)
			for i := range series {
				f.series(name(i)).float(ts, float64(r))
			}
			if reply, err := n.tryWrite(team, f); err != nil || len(rejections(reply)) > 0 {
				return fmt.Errorf("%w, %v", err, reply)
			}
			newest.Store(ts)
			if err := n.find(team).maintain(context.Background(), time.Now(), 0); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		g.Go(func() error {
			for {
				select {
				case <-done:
					return nil
				default:
				}
				upTo := newest.Load()
				if upTo == math.MinInt64 {
					continue
				}
				got, err := readChunks(n.Ingester, team, t0, upTo)
				if err != nil {
					return err
				}
				if mint, maxt, ok := n.Extent(team); !ok || mint > t0 || maxt < upTo {
					return fmt.Errorf("extent %d to %d, %t; samples from %d to %d", mint, maxt, ok, t0, upTo)
				}
				for i := range series {
					if ps := got[name(i).String()]; int64(len(ps)) != (upTo-t0)/300_000+1 {
						return fmt.Errorf("series %d has %d samples up to %d", i, len(ps), (upTo-t0)/300_000)
					}
				}
			}
		})
	}
	require.NoError(t, g.Wait())
	require.GreaterOrEqual(t, n.blocks(team), 2)
}
