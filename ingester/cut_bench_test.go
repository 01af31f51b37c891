package ingester

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// BenchmarkWriteDuringCut writes 2,000 samples every 20 ms to a tenant of 100,000
// series, and reports how long that takes: with nothing else going on, and while
// its head and those of other tenants are cut into blocks.
func BenchmarkWriteDuringCut(b *testing.B) {
	const (
		every  = 20 * time.Millisecond
		others = 4
		ofEach = 10_000 // series of the others
	)
	for _, cut := range []bool{false, true} {
		b.Run(fmt.Sprintf("cut=%t", cut), func(b *testing.B) {
			n := start(b)
			frames := make([]*frame, benchSeries/perFrame)
			fill := func(id string, i, series int) {
				f := &frame{}
				for j := range series {
					f.series(benchLabels(i*perFrame+j)).float(at(0), 1)
				}
				n.write(id, f)
				f.Labels = nil
				for k := range 12 {
					for j := range f.Floats {
						f.Floats[j].T, f.Floats[j].V = at(time.Duration(k+1)*20*time.Minute), float64(k*j%97)
					}
					n.write(id, f)
				}
				if id == team {
					frames[i] = f
				}
			}
			for i := range frames {
				fill(team, i, perFrame)
			}
			for o := range others {
				for i := range ofEach / perFrame {
					fill(fmt.Sprint("other-", o), i, perFrame)
				}
			}
			var cutting atomic.Bool
			done := make(chan error, 1)
			cutting.Store(true)
			go func() {
				defer cutting.Store(false)
				if !cut {
					time.Sleep(5 * time.Second)
					done <- nil
					return
				}
				for _, s := range n.all() {
					if t := n.openOf(s); t != nil {
						if err := t.maintain(context.Background(), time.Now(), 0); err != nil {
							done <- err
							return
						}
					}
				}
				done <- nil
			}()
			var took []time.Duration
			var reply proto.Reply
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := 0; cutting.Load(); i++ {
				<-tick.C
				f := frames[i%len(frames)]
				ts := at(4*time.Hour + time.Duration(1+i/len(frames))*15*time.Second)
				for j := range f.Floats {
					f.Floats[j].T = ts
				}
				reply.Reset()
				begin := time.Now()
				require.NoError(b, n.Write(context.Background(), team, &f.Frame, &reply))
				took = append(took, time.Since(begin))
				require.Equal(b, perFrame, reply.Written.Samples)
			}
			require.NoError(b, <-done)
			if cut {
				require.NotZero(b, n.blocks(team))
			}
			slices.Sort(took)
			for _, q := range []struct {
				name string
				at   int
			}{{"p50-ms", len(took) / 2}, {"p99-ms", len(took) * 99 / 100}, {"max-ms", len(took) - 1}} {
				b.ReportMetric(float64(took[q.at].Microseconds())/1000, q.name)
			}
			b.ReportMetric(float64(len(took)), "writes")
			b.ReportMetric(0, "ns/op")
		})
	}
}
