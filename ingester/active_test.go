package ingester

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// pass makes d go by for the active series of a tenant.
func (n *node) pass(id string, d time.Duration) {
	n.tb.Helper()
	t := n.find(id)
	require.NotNil(n.tb, t)
	t.series.mu.Lock()
	t.series.opened = t.series.opened.Add(-d)
	t.series.mu.Unlock()
	n.active(id)
}

// active is the number of active series.
func (n *node) active(id string) (total int) {
	n.find(id).series.count(time.Now(), func(a *cardinality.Active) { total = a.Total() })
	return total
}

// sets are the active series of each label set.
func (n *node) sets(id string) map[string]int {
	out := map[string]int{}
	n.find(id).series.count(time.Now(), func(a *cardinality.Active) {
		for s, active := range a.Sets {
			out[s.Name] = active
		}
	})
	return out
}

// perMetric are the active series of each metric.
func (n *node) perMetric(id string) map[string]int {
	out := map[string]int{}
	n.find(id).series.count(time.Now(), func(a *cardinality.Active) {
		for m := range a.Metrics {
			if m.Active > 0 {
				out[m.Name] = m.Active
			}
		}
	})
	return out
}

const (
	seriesLimit = "weir-series-limit"
	metricLimit = "weir-metric-series-limit"
	setLimit    = "weir-label-set-series-limit"
)

// A series is active from its first sample until 20 minutes after its last.
func TestActiveSeries(t *testing.T) {
	n := start(t)
	a, b := metric("a"), metric("b", "team", "x")
	n.write(team, new(frame).series(a).float(at(0), 1).series(b).hist(at(0), intHistogram(1)).series(metric("c"))) // c has no sample
	require.Equal(t, 2, n.active(team))
	n.pass(team, 19*time.Minute)
	n.write(team, new(frame).known(a).float(at(0), 1)) // the same again counts as well
	require.Equal(t, 2, n.active(team))
	n.pass(team, 2*time.Minute)
	require.Equal(t, map[string]int{"a": 1}, n.perMetric(team))
	n.write(team, new(frame).known(b).float(at(time.Minute), 1))
	require.Equal(t, map[string]int{"a": 1, "b": 1}, n.perMetric(team))
	n.pass(team, 21*time.Minute)
	require.Zero(t, n.active(team))
}

// At a limit, what is known is stored and what is new is refused, with its reason
// and its counts.
func TestSeriesLimits(t *testing.T) {
	known := func() *frame {
		return new(frame).series(metric("m", "i", "1", "team", "a")).float(at(0), 1).series(metric("m", "i", "2", "team", "b")).float(at(0), 1)
	}
	for _, c := range []struct {
		name   string
		limit  func(*tenant.Limits)
		add    labels.Labels
		reason string
		says   string
	}{
		{"tenant", func(l *tenant.Limits) { l.MaxActiveSeries = 2 }, metric("x"), seriesLimit, "2 active series, the limit max_active_series is 2"},
		{"metric", func(l *tenant.Limits) { l.MaxSeriesPerMetric = 2 }, metric("m", "i", "3"), metricLimit, `"m" has 2 active series, the limit max_series_per_metric is 2`},
		{"another metric", func(l *tenant.Limits) { l.MaxSeriesPerMetric = 2 }, metric("x"), "", ""},
		{"label set", func(l *tenant.Limits) {
			l.LabelSets = []tenant.LabelSet{{Name: "all", Match: `{team=~".*"}`}, {Name: "team a", Match: `{team="a"}`, MaxActiveSeries: 1}}
		}, metric("x", "team", "a"), setLimit, `"team a" has 1 active series, its limit max_active_series is 1`},
		{"another label set", func(l *tenant.Limits) {
			l.LabelSets = []tenant.LabelSet{{Name: "team a", Match: `{team="a"}`, MaxActiveSeries: 1}}
		}, metric("x", "team", "b"), "", ""},
		{"none", func(*tenant.Limits) {}, metric("x"), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, withLimits(c.limit))
			writtenAll(t, known(), n.write(team, known()))
			f := known().series(c.add).float(at(0), 1).hist(at(time.Second), intHistogram(1)).exemplar(at(0), 1).
				known(metric("m", "i", "1", "team", "a")).float(at(time.Second), 1)
			reply := n.send(team, f)
			if c.reason == "" {
				require.Empty(t, rejections(reply))
				return
			}
			require.Equal(t, map[string]int{c.reason: 3}, rejections(reply))
			require.Equal(t, 3, reply.Written.Samples)
			require.Contains(t, reply.Rejected.Examples[0].Detail, c.says)
			require.NotContains(t, n.read(team), c.add.String())
			reply = n.write(team, new(frame).known(c.add).float(at(0), 1))
			require.Equal(t, map[string]int{c.reason: 1}, rejections(reply), "its labels are not asked for")

			n.setLimits(func(l *tenant.Limits) { l.MaxActiveSeries, l.MaxSeriesPerMetric, l.LabelSets = 0, 0, nil })
			f = new(frame).known(c.add).float(at(0), 1)
			require.Empty(t, rejections(n.send(team, f)), "a higher limit takes effect with the next write")
		})
	}
}

// Exemplars of a series that is refused, or not known, are counted once, also for a
// tenant that keeps none.
func TestSeriesLimitWithoutExemplars(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) { l.MaxActiveSeries, l.MaxExemplars = 1, 0 }))
	f := new(frame).series(metric("a")).float(at(0), 1).exemplar(at(0), 1).series(metric("b")).float(at(0), 1).exemplar(at(0), 1)
	require.Equal(t, map[string]int{seriesLimit: 2}, rejections(n.write(team, f)))
	f = new(frame).known(metric("a")).float(at(1), 1).exemplar(at(1), 1).known(metric("c")).exemplar(at(1), 1)
	reply := n.write(team, f)
	require.Equal(t, []uint32{1}, reply.Unknown)
	require.Equal(t, 1, reply.Written.Exemplars)
}

// Of a series that was refused before and has nothing but metadata, nothing is
// refused or postponed.
func TestSeriesLimitWithoutSamples(t *testing.T) {
	for _, on := range []string{"partial-400", "reject-429"} {
		n := start(t, withLimits(func(l *tenant.Limits) { l.MaxActiveSeries, l.OnSeriesLimit = 1, on }))
		n.write(team, new(frame).series(metric("a")).float(at(0), 1))
		n.write(team, new(frame).series(metric("b")).float(at(0), 1))
		reply := n.write(team, new(frame).known(metric("b")).known(metric("a")).float(at(1), 1))
		require.Empty(t, reply.Rejected.Examples)
		require.Nil(t, reply.Cause)
		require.Equal(t, proto.Counts{Samples: 1}, reply.Written)
	}
}

// A sender is told to wait while others are about to make room for all who wait,
// and no longer than that.
func TestSeriesLimitWaits(t *testing.T) {
	fill := func(n *node) {
		f := &frame{}
		for i := range 10 {
			f.series(metric("old", "i", fmt.Sprint(i))).float(at(0), 1)
		}
		n.write(team, f)
	}
	newcomers := func(from, to int) *frame {
		f := &frame{}
		for i := from; i < to; i++ {
			f.series(metric("new", "i", fmt.Sprint(i))).float(at(0), 1)
		}
		return f
	}
	limit := func(on string) func(*node) {
		return withLimits(func(l *tenant.Limits) { l.MaxActiveSeries, l.OnSeriesLimit = 10, on })
	}
	t.Run("while series drain", func(t *testing.T) {
		n := start(t, limit("auto"))
		fill(n)
		require.Equal(t, map[string]int{seriesLimit: 3}, rejections(n.write(team, newcomers(0, 3))), "nobody is about to leave")
		n.pass(team, 19*time.Minute)
		reply := n.write(team, newcomers(0, 3))
		require.Empty(t, rejections(reply))
		require.Equal(t, 3, reply.Postponed.Samples)
		require.Equal(t, proto.KindLimit, reply.Cause.Kind)
		require.Equal(t, seriesLimit, reply.Cause.ID)
		require.GreaterOrEqual(t, reply.Cause.RetrySeconds(), 8)
		require.LessOrEqual(t, reply.Cause.RetrySeconds(), 15)
		n.pass(team, 2*time.Minute)
		writtenAll(t, newcomers(0, 3), n.write(team, newcomers(0, 3)))
	})
	t.Run("not when there are more than will find room", func(t *testing.T) {
		n := start(t, limit("auto"))
		fill(n)
		n.pass(team, 18*time.Minute)
		n.write(team, newcomers(0, 20))
		n.pass(team, time.Minute)
		require.Equal(t, map[string]int{seriesLimit: 3}, rejections(n.write(team, newcomers(0, 3))))
	})
	t.Run("always", func(t *testing.T) {
		n := start(t, limit("reject-429"))
		fill(n)
		require.Equal(t, 20, n.write(team, newcomers(0, 20)).Postponed.Samples)
	})
	t.Run("never", func(t *testing.T) {
		n := start(t, limit("partial-400"))
		fill(n)
		n.pass(team, 19*time.Minute)
		require.Equal(t, map[string]int{seriesLimit: 1}, rejections(n.write(team, newcomers(0, 1))))
	})
}

// After a start, those that were active keep their places, whether the TSDB was
// closed or not; series that had stopped do not have theirs back.
func TestActiveSeriesAfterStart(t *testing.T) {
	for name, again := range map[string]func(*node){"restart": (*node).restart, "crash": (*node).crash, "crash without snapshot": func(n *node) {
		n.cfg.Snapshots = false
		n.crash()
	}} {
		t.Run(name, func(t *testing.T) {
			n := start(t, withLimits(func(l *tenant.Limits) { l.MaxActiveSeries, l.OutOfOrderWindow = 3, time.Hour }))
			first := new(frame).series(metric("stopped")).float(at(0), 1).series(metric("a")).float(at(0), 1)
			n.write(team, first)
			n.pass(team, 30*time.Minute)
			n.write(team, new(frame).series(metric("a")).float(at(40*time.Minute), 1).series(metric("b")).float(at(40*time.Minute), 1).
				series(metric("c")).float(at(30*time.Minute), 1))
			require.Equal(t, 3, n.active(team))
			again(n)
			require.Equal(t, 3, n.active(team))
			f := new(frame).series(metric("new")).float(at(41*time.Minute), 1).series(metric("stopped")).float(at(41*time.Minute), 1).
				series(metric("a")).float(at(41*time.Minute), 1).series(metric("b")).float(at(41*time.Minute), 1).series(metric("c")).float(at(41*time.Minute), 1)
			require.Equal(t, map[string]int{seriesLimit: 2}, rejections(n.write(team, f)))
			require.Equal(t, 3, n.active(team))
			n.pass(team, 10*time.Minute)
			n.write(team, new(frame).known(metric("a")).float(at(42*time.Minute), 1))
			n.pass(team, 11*time.Minute)
			require.Equal(t, 1, n.active(team))
		})
	}
}

// Restored series that never come back are counted out.
func TestRestoredSeriesExpire(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) { l.MaxActiveSeries = 2 }))
	n.write(team, new(frame).series(metric("a")).float(at(0), 1).series(metric("b")).float(at(0), 1))
	n.crash()
	require.Equal(t, 2, n.active(team))
	n.write(team, new(frame).series(metric("a")).float(at(time.Second), 1))
	n.pass(team, 10*time.Minute)
	n.write(team, new(frame).known(metric("a")).float(at(2*time.Second), 1))
	n.pass(team, 12*time.Minute)
	require.Equal(t, map[string]int{"a": 1}, n.perMetric(team))
}

// Trackers are changed while writers write, and no count is lost.
func TestLabelSetsChangeWhileWriting(t *testing.T) {
	n := start(t)
	var g errgroup.Group
	const writers, each = 3, 300
	for w := range writers {
		g.Go(func() error {
			for i := range each {
				f := new(frame).series(metric("m", "team", fmt.Sprint("t", i%2), "i", fmt.Sprint(w, "-", i))).float(at(time.Duration(i)*time.Second), 1)
				if reply, err := n.tryWrite(team, f); err != nil || reply.Written.Samples != 1 {
					return fmt.Errorf("%v %v", err, reply)
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for i := range 50 {
			n.setLimits(func(l *tenant.Limits) {
				l.LabelSets = []tenant.LabelSet{{Name: "all", Match: `{__name__=~".+"}`}, {Name: fmt.Sprint("odd", i), Match: `{team="t1"}`}}
			})
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	require.NoError(t, g.Wait())
	require.NoError(t, n.find(team).follow(n.limits.Load()))
	require.Equal(t, map[string]int{"all": writers * each, "odd49": writers * each / 2}, n.sets(team))
	require.Equal(t, writers*each, n.active(team))
}

// What is counted is what a plain model counts, through everything that happens to
// series: sweeps, other label sets, pauses, limits, crashes.
func TestActiveSeriesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(0, 6).Draw(rt, "limit")
		n := start(rt, withLimits(func(l *tenant.Limits) {
			l.MaxActiveSeries, l.OnSeriesLimit, l.OutOfOrderWindow = limit, "partial-400", 24*time.Hour
		}))
		n.write(team, new(frame).series(metric("first")).float(at(0), 1))
		model := map[string]int{metric("first").String(): 0} // minute of the last sample
		minute, tick, swept := 0, 0, false
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				// One at a time: of a frame, known series are decided about first.
				for _, i := range rapid.SliceOfN(rapid.IntRange(0, 9), 1, 6).Draw(rt, "series") {
					tick++
					ls := metric("m", "i", fmt.Sprint(i), "odd", fmt.Sprint(i%2))
					reply := n.send(team, new(frame).known(ls).float(at(time.Duration(tick)*time.Millisecond), 1))
					_, room := model[ls.String()]
					if room = room || limit == 0 || len(model) < limit; room {
						model[ls.String()] = minute
					}
					if room != (reply.Written.Samples == 1) || room == (reply.Rejected.Total() == 1) {
						rt.Fatalf("%s: written %d, refused %v; the model has room: %t", ls, reply.Written.Samples, rejections(reply), room)
					}
				}
			},
			"pass": func(rt *rapid.T) {
				d := rapid.IntRange(1, 25).Draw(rt, "minutes")
				minute += d
				n.pass(team, time.Duration(d)*time.Minute)
				maps.DeleteFunc(model, func(_ string, last int) bool { return minute-last > idleMinutes })
			},
			"track": func(rt *rapid.T) {
				match := rapid.SampledFrom([]string{`{odd="1"}`, `{odd="0"}`, `{i=~"[0-4]"}`}).Draw(rt, "match")
				n.setLimits(func(l *tenant.Limits) { l.LabelSets = []tenant.LabelSet{{Name: match, Match: match}} })
				require.NoError(rt, n.find(team).follow(n.limits.Load()))
			},
			"sweep": func(rt *rapid.T) {
				swept = true
				n.dropFromHead(team)
				n.find(team).sweep()
			},
			"": func(rt *rapid.T) {
				if got := n.active(team); got != len(model) {
					rt.Fatalf("%d active series, the model has %d: %v", got, len(model), model)
				}
				for _, s := range n.limits.Load().LabelSets {
					m, err := s.Matchers()
					require.NoError(rt, err)
					want := 0
					for name := range model {
						want += matching(rt, name, m)
					}
					// A series that the head dropped while it is active is counted under a new
					// label set when it comes again: only then its labels are known.
					if got := n.sets(team)[s.Name]; got > want || (got < want && !swept) {
						rt.Fatalf("%s: %d, the model has %d", s.Match, got, want)
					}
				}
			},
		})
	})
}

func matching(tb tester, name string, ms []*labels.Matcher) int {
	ls, err := parser.NewParser(parser.Options{}).ParseMetric(name)
	require.NoError(tb, err)
	for _, m := range ms {
		if !m.Matches(ls.Get(m.Name)) {
			return 0
		}
	}
	return 1
}

// Under concurrency the limit is never exceeded, and reached exactly.
func TestSeriesLimitConcurrently(t *testing.T) {
	const limit, writers, each = 500, 6, 200
	n := start(t, withLimits(func(l *tenant.Limits) { l.MaxActiveSeries, l.OnSeriesLimit = limit, "partial-400" }))
	var mu sync.Mutex
	var written, refused int
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for i := range each / 10 {
				f := &frame{}
				for j := range 10 { // half of the series are those of another writer
					f.series(metric("m", "i", fmt.Sprint(w/2, "-", i*10+j))).float(at(time.Duration(w)*time.Millisecond), 1)
				}
				var reply proto.Reply
				if err := n.Write(context.Background(), team, &f.Frame, &reply); err != nil {
					return err
				}
				if total := n.await(team); n.active(team) > limit {
					return fmt.Errorf("%s has more than %d", total.id, limit)
				}
				mu.Lock()
				written += reply.Written.Samples
				refused += reply.Rejected.Total()
				mu.Unlock()
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, limit, n.active(team))
	require.Equal(t, limit, int(n.find(team).db.Head().NumSeries()))
	require.Equal(t, writers*each, written+refused)
	require.Equal(t, 2*limit, written, "both writers of each series that found a place")
}

// A start that counts the series of a head leaves it free to be cut.
func TestCutAfterStartUnderLimit(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) { l.MaxActiveSeries = 10 }))
	n.write(team, new(frame).series(metric("a")).float(at(0), 1))
	n.crash()
	cut := make(chan error, 1)
	go func() { cut <- n.Flush(context.Background(), team) }()
	select {
	case err := <-cut:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		panic("the cut waits for a reader that nobody closes") // and so would the end of the test
	}
	require.Equal(t, 1, n.blocks(team))
}
