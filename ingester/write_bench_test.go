package ingester

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

const (
	benchSeries = 100_000
	perFrame    = 2000
)

// benchLabels are the twelve labels of series i.
func benchLabels(i int) labels.Labels {
	return labels.FromStrings(model.MetricNameLabel, fmt.Sprintf("bench_metric_%d_total", i%100), "cluster", "eu-west-1", "container", "server",
		"endpoint", "http", "instance", fmt.Sprintf("10.0.%d.%d:8080", i/256%256, i%256), "job", "bench", "method", "GET",
		"namespace", "production", "pod", fmt.Sprintf("server-%08d", i), "route", "/api/v1/things", "service", "server", "status", "200")
}

// perSample reports what one of the samples that each iteration writes costs.
func perSample(b *testing.B, loop func(i int)) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	i := 0
	for b.Loop() {
		loop(i)
		i++
	}
	runtime.ReadMemStats(&after)
	samples := float64(b.N) * perFrame
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/samples, "ns/sample")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/samples, "allocs/sample")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/samples, "B/sample")
}

// BenchmarkWrite measures frames of 2,000 series with one sample each, of
// 100,000 known series that come round and round.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name   string
		handle bool
		sample func(f *frame, t int64)
		step   int64 // from one round to the next, ms
	}{
		{"floats by handle", true, func(f *frame, t int64) { f.float(t, 1) }, 15_000},
		{"floats by identity", false, func(f *frame, t int64) { f.float(t, 1) }, 15_000},
		{"histograms by handle", true, func(f *frame, t int64) { f.hist(t, intHistogram(7)) }, 15_000},
		{"floats again", true, func(f *frame, t int64) { f.float(t, 1) }, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := start(b)
			frames := make([]*frame, benchSeries/perFrame)
			for i := range frames {
				f := &frame{}
				for j := range perFrame {
					f.series(benchLabels(i*perFrame + j))
					c.sample(f, t0)
				}
				reply := n.write(team, f)
				require.Equal(b, perFrame, reply.Written.Total())
				f.Labels = nil
				if c.handle {
					for _, h := range reply.Handles {
						f.Series[h.Series].Handle = h.Handle
					}
				}
				frames[i] = f
			}
			var reply proto.Reply
			perSample(b, func(i int) {
				f := frames[i%len(frames)]
				ts := t0 + int64(1+i/len(frames))*c.step
				for j := range f.Floats {
					f.Floats[j].T = ts
				}
				for j := range f.Histograms {
					f.Histograms[j].T = ts
				}
				reply.Reset()
				if err := n.Write(context.Background(), team, &f.Frame, &reply); err != nil || reply.Written.Total() != perFrame {
					b.Fatal(err, reply.Written, rejections(&reply))
				}
			})
		})
	}
}

// BenchmarkNewSeries measures frames of 2,000 series that are new, with their
// labels and one sample each.
func BenchmarkNewSeries(b *testing.B) {
	n := start(b)
	frames := make([]*frame, 64)
	for i := range frames {
		frames[i] = &frame{}
		for j := range perFrame {
			frames[i].series(benchLabels(i*perFrame+j)).float(t0, 1)
		}
	}
	perSample(b, func(i int) {
		// A tenant for each round, so that memory stays bounded.
		var reply proto.Reply
		id := fmt.Sprint("tenant-", i/len(frames))
		if err := n.Write(context.Background(), id, &frames[i%len(frames)].Frame, &reply); err != nil || reply.Written.Samples != perFrame {
			b.Fatal(err, reply.Written)
		}
	})
}

// BenchmarkRecount measures what happens to all series of a tenant at once: those
// that have stopped are looked for once a minute, and all are counted anew under
// other label sets.
func BenchmarkRecount(b *testing.B) {
	n := start(b)
	for i := range benchSeries / perFrame {
		f := &frame{}
		for j := range perFrame {
			f.series(benchLabels(i*perFrame+j)).float(t0, 1)
		}
		n.write(team, f)
	}
	t := n.find(team)
	b.Run("expire", func(b *testing.B) {
		for b.Loop() {
			t.series.expired--
			t.series.count(time.Now(), func(*cardinality.Active) {})
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/series")
	})
	b.Run("label sets", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			n.setLimits(func(l *tenant.Limits) {
				l.LabelSets = []tenant.LabelSet{{Name: fmt.Sprint(i), Match: `{route=~"/api/.*"}`}}
			})
			require.NoError(b, t.follow(n.limits.Load()))
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/series")
	})
}
