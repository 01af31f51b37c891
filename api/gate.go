package api

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/prometheus/promql"

	"github.com/weir-metrics/weir/proto"
)

// waitingPerPlace is how many queries may wait for each that is evaluated. Were
// there more, the last of them would mostly wait in vain.
const waitingPerPlace = 10

// gate lets as many queries pass at once as it has places. Others wait, within
// their time, unless too many do.
type gate struct {
	places  chan struct{}
	waiting atomic.Int64
}

var _ promql.QueryTracker = (*gate)(nil)

func newGate(places int) *gate { return &gate{places: make(chan struct{}, places)} }

// GetMaxConcurrent implements promql.QueryTracker.
func (g *gate) GetMaxConcurrent() int { return cap(g.places) }

// Insert implements promql.QueryTracker: it waits for a place.
func (g *gate) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case g.places <- struct{}{}: // before ctx is looked at, so that who finds a place always takes it
		return 0, nil
	default:
	}
	defer g.waiting.Add(-1)
	if limit := int64(waitingPerPlace * cap(g.places)); g.waiting.Add(1) > limit {
		return 0, proto.Errorf(proto.KindUnavailable, "weir-query-queue-full",
			"%d queries are being evaluated and %d wait; repeat the request later", cap(g.places), limit)
	}
	select {
	case g.places <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return 0, proto.Errorf(proto.KindUnavailable, "weir-query-queue-timeout",
				"the time of the query was over before one of %d places was free for it", cap(g.places))
		}
		return 0, ctx.Err()
	}
}

// Delete implements promql.QueryTracker: it gives the place back.
func (g *gate) Delete(int) { <-g.places }

// Close implements promql.QueryTracker.
func (g *gate) Close() error { return nil }
