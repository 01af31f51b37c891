package ingester

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// A new version of the limits takes effect with the next write.
func TestWindowChanges(t *testing.T) {
	a := metric("a")
	n := start(t)
	n.write(team, new(frame).series(a).float(at(10*time.Hour), 1))
	tried := at(10 * time.Hour)
	for i, c := range []struct {
		window, late time.Duration
		stored       bool
	}{
		{10 * time.Minute, 10 * time.Minute, true},
		{10 * time.Minute, 20 * time.Minute, false},
		{time.Hour, 20 * time.Minute, true},
		{time.Hour, 61 * time.Minute, false},
		{5 * time.Hour, 61 * time.Minute, true},
		{time.Minute, 30 * time.Minute, false},
		{0, time.Minute, false},
		{0, time.Millisecond, true}, // the TSDB's smallest window
		{0, 2 * time.Millisecond, false},
		{time.Minute, 2 * time.Millisecond, true},
	} {
		n.setLimits(func(l *tenant.Limits) { l.OutOfOrderWindow = c.window })
		f := new(frame).known(a).float(tried-c.late.Milliseconds(), float64(i))
		reply := n.write(team, f)
		if c.stored {
			writtenAll(t, f, reply)
		} else {
			require.Equal(t, map[string]int{outOfOrder: 1}, rejections(reply), "window %s, late by %s", c.window, c.late)
			require.Contains(t, reply.Rejected.Examples[0].Detail, c.window.String())
		}
		require.Same(t, n.limits.Load(), n.find(team).limits())
	}
	want := n.read(team)
	n.crash()
	require.Equal(t, want, n.read(team))
}

// Limits change while writers write.
func TestLimitsChangeWhileWriting(t *testing.T) {
	n := start(t)
	var g errgroup.Group
	for w := range 3 {
		g.Go(func() error {
			for i := range 200 {
				ts := at(time.Duration(i) * time.Second)
				f := new(frame).series(metric("m", "w", fmt.Sprint(w))).float(ts, 1).exemplar(ts, 1).series(metric("late", "w", fmt.Sprint(w))).float(ts-30_000, 1)
				f.Metadata = []proto.Metadata{{Family: "m"}}
				reply, err := n.tryWrite(team, f)
				if err != nil {
					return err
				}
				if reply.Written != f.counts() {
					return fmt.Errorf("%v", rejections(reply))
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for i := range 100 {
			n.setLimits(func(l *tenant.Limits) {
				l.OutOfOrderWindow = time.Duration(1+i%10) * time.Minute
				l.MaxExemplars = 10_000 + i
			})
			if err := n.await(team).maintain(context.Background(), time.Now(), 0); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, g.Wait())
	for name, ps := range n.read(team) {
		require.Len(t, ps, 200, name)
	}
	for name, xs := range n.exemplars(team) {
		require.Len(t, xs, 200, name)
	}
}

// await waits for a tenant that others are creating.
func (n *node) await(id string) *tenantDB {
	for {
		if t := n.find(id); t != nil {
			return t
		}
		runtime.Gosched()
	}
}
