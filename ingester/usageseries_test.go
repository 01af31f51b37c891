package ingester

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// export writes what a tenant uses into it, at the time of its newest sample.
func (n *node) export(id string) {
	n.tb.Helper()
	if t := n.find(id); t != nil {
		for range 2 { // what was the newest of the first is written by the second
			n.exportUsage(context.Background(), t, time.UnixMilli(t.db.Head().MaxTime()))
		}
	}
}

// exported are the newest values of what was written.
func (n *node) exported(id string) map[string]float64 {
	out := map[string]float64{}
	for series, points := range n.read(id) {
		if strings.Contains(series, `job="weir"`) {
			bits, err := strconv.ParseUint(points[len(points)-1].V, 16, 64)
			require.NoError(n.tb, err)
			out[series] = math.Float64frombits(bits)
		}
	}
	return out
}

// counter counts as a process does: from 0 at each start.
type counter struct{ tenant.Activity }

func (c *counter) wire(d *Deps) {
	c.Activity = tenant.Activity{}
	d.Activity = func(string) tenant.Activity { return c.Activity }
}

// What was done with a tenant is counted once and in full, through restarts and
// closing; a kill loses what was done since maintenance looked last.
func TestActivity(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var c counter
		n := start(rt, func(n *node) { n.wire = c.wire })
		var want, saved tenant.Activity
		now := time.Now()
		write := func(*rapid.T) {
			now = now.Add(time.Second)
			opened := n.find(team) == nil
			n.write(team, new(frame).series(metric("a")).float(now.UnixMilli(), 1))
			if opened {
				saved = want // with what was done while it was closed
			}
			c.Received++ // which is known of what is in the log
			want.Received++
			saved.Received++
		}
		maintain := func(*rapid.T) {
			s, _ := n.look(team)
			require.NoError(rt, n.keep(context.Background(), s, time.Now()))
			saved = want
		}
		write(rt)
		maintain(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"write": write,
			"read": func(*rapid.T) {
				c.Queries, want.Queries = c.Queries+1, want.Queries+1
				c.Read, want.Read = c.Read+100, want.Read+100
			},
			"maintain": maintain,
			"restart":  func(*rapid.T) { n.restart(); saved = want },
			"close": func(*rapid.T) {
				s, open := n.look(team)
				if open == nil {
					return
				}
				n.flush(team)
				require.NoError(rt, n.retire(s))
				saved = want
			},
			"crash": func(*rapid.T) { n.crash(); want = saved },
			"": func(*rapid.T) {
				if got := n.UsageOf(team).Activity; got != want {
					rt.Fatalf("%+v is told of %+v", got, want)
				}
			},
		})
	})
}

// What a tenant uses is written into it: past its limits, and without being used
// by that.
func TestUsageSeries(t *testing.T) {
	c := counter{}
	n := start(t, func(n *node) {
		n.wire = func(d *Deps) {
			c.wire(d)
			d.RateUse = func(string) []proto.Quota { return []proto.Quota{{Limit: "request_rate", Current: 5, Maximum: 10}} }
		}
	}, withLimits(func(l *tenant.Limits) {
		l.MaxActiveSeries, l.OutOfOrderWindow = 4, 0
		l.LabelSets = []tenant.LabelSet{{Name: "even", Match: `{i=~"0|2"}`, MaxActiveSeries: 8}}
	}))
	write := func(d time.Duration) {
		t.Helper()
		f := new(frame)
		for i := range 4 {
			f.series(metric("a", "i", fmt.Sprint(i))).float(at(d), 1)
		}
		writtenAll(t, f, n.write(team, f))
	}
	full := func(d time.Duration) {
		t.Helper()
		reply := n.write(team, new(frame).series(metric("new")).float(at(d), 1))
		require.Equal(t, map[string]int{proto.SeriesLimit.ID(): 1}, rejections(reply))
		require.Equal(t, []proto.Quota{{Limit: "max_active_series", Current: 4, Maximum: 4}}, reply.Near)
		require.Equal(t, 4, n.active(team))
		require.Equal(t, map[string]int{"even": 2}, n.sets(team))
	}
	check := func(stored float64) {
		t.Helper()
		got := n.exported(team)
		require.Positive(t, got[`{__name__="weir_tenant_stored_bytes", job="weir"}`])
		delete(got, `{__name__="weir_tenant_stored_bytes", job="weir"}`)
		require.Equal(t, map[string]float64{
			`{__name__="weir_tenant_received_samples_total", job="weir"}`:                      stored,
			`{__name__="weir_tenant_stored_samples_total", job="weir"}`:                        stored,
			`{__name__="weir_tenant_active_series", job="weir"}`:                               4,
			`{__name__="weir_tenant_queries_total", job="weir"}`:                               7,
			`{__name__="weir_tenant_read_samples_total", job="weir"}`:                          700,
			`{__name__="weir_tenant_limit_used_ratio", job="weir", limit="max_active_series"}`: 1,
			`{__name__="weir_tenant_limit_used_ratio", job="weir", limit="label_sets.even"}`:   0.25,
			`{__name__="weir_tenant_limit_used_ratio", job="weir", limit="request_rate"}`:      0.5,
		}, got)
	}
	write(0)
	c.Activity = tenant.Activity{Received: 4, Queries: 7, Read: 700}
	n.export(team)
	n.export(team) // there is nothing new to say
	check(4)
	full(0)
	require.NoError(t, n.find(team).saveUsage(false))
	write(time.Minute)
	n.export(team)

	n.crash()
	full(time.Minute) // though nobody who has a place has been heard of
	require.EqualValues(t, 8, n.storedBy(team))
	n.export(team) // what it wrote last is as new
	write(2 * time.Minute)
	c.Received = 4
	n.export(team)
	check(12)
	require.Zero(t, testutil.ToFloat64(n.metrics.usageFailures))

	n.flush(team)
	n.restart()
	require.EqualValues(t, 12, n.storedBy(team))
}

// Usage is stamped with the tenant's time, so that late samples are as late as
// before, and none is written into a tenant that gets samples of other times only.
func TestUsageTime(t *testing.T) {
	const now, minute = int64(1e9), int64(60_000)
	for _, c := range []struct {
		newest, last, at int64
		ok               bool
	}{
		{newest: now, at: now, ok: true},
		{newest: now - minute, at: now - minute, ok: true},
		{newest: now + minute, at: now, ok: true},
		{newest: now - 5*minute, at: now - 5*minute, ok: true},
		{newest: now - 5*minute - 1},
		{newest: math.MinInt64}, // there is none
		{newest: now - minute, last: now - minute},
		{newest: now, last: now - minute, at: now, ok: true},
	} {
		at, ok := usageTime(now, c.newest, c.last)
		require.Equal(t, c.ok, ok, c)
		if ok {
			require.Equal(t, c.at, at)
		}
	}
	n := start(t, withWindow(time.Minute))
	past := time.Now().Add(-3 * time.Hour)
	for i := range 3 {
		n.write(team, new(frame).series(metric("a")).float(past.Add(time.Duration(i)*time.Minute).UnixMilli(), 1))
		n.exportUsage(t.Context(), n.find(team), time.Now())
	}
	require.Empty(t, n.exported(team))
	require.EqualValues(t, 1, n.find(team).db.Head().NumSeries())
}

// A tenant that is used no more is closed whether usage is written or not.
func TestUsageKeepsNobodyOpen(t *testing.T) {
	n := start(t)
	now := time.Now()
	n.write(team, new(frame).series(metric("a")).float(now.UnixMilli(), 1))
	n.keepAll(now)
	n.keepAll(now)
	require.NotEmpty(t, n.exported(team))
	for range 240 {
		now = now.Add(time.Minute)
		n.keepAll(now)
	}
	require.Nil(t, n.find(team))
}

// Labels are known in a record of the log as they are outside of it.
func TestUsageRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		set := map[string]string{}
		for name, values := range map[string][]string{
			model.MetricNameLabel: append([]string{"up", "weir_tenant_", usageRatio}, usageNames[:]...), "job": {"weir", "other"}, "limit": {"request_rate"}, "A": {"b"}, "z": {"", "y"},
		} {
			if rapid.Bool().Draw(rt, name) {
				set[name] = rapid.SampledFrom(values).Draw(rt, name+" value")
			}
		}
		ls := labels.FromMap(maps.Clone(set))
		var enc record.Encoder
		rec := enc.Series([]record.RefSeries{{Ref: chunks.HeadSeriesRef(7), Labels: ls}}, nil)
		require.NoError(rt, eachSeries(rec, func(ref uint64, encoded []byte) {
			require.EqualValues(rt, 7, ref)
			if got := isUsageRecord(encoded); got != isUsageSeries(ls) {
				rt.Fatalf("%s: %t", ls, got)
			}
		}))
	})
	for _, s := range (&TenantUsage{Limits: []LimitUse{{Limit: "label_sets.ü"}}}).samples() {
		require.True(t, isUsageSeries(s.labels()), s)
	}
}
