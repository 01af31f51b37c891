// Package querier answers selections over every source that may hold a
// tenant's samples, and hands them to the PromQL engine.
//
//	For(identity) ── View: of one tenant, within the reader's label policy
//	                  │
//	engine ── Queryable ── select: sources by extent, merge ──┬─ ingester (recent)
//	              │                                           └─ store gateway (blocks)
//	              ├─ iterate: the chunks of one series -> its samples
//	              └─ rechunk: the chunks of one series -> chunks that do not overlap
//
// A View is the only way to a sample, a label, an exemplar or a help text, and it
// takes an identity to get one.
//
// Chunks come untrimmed and encoded from the sources; they are deduplicated as
// bytes, decoded once, and cut to the time range while they are iterated.
package querier

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/tenant"
)

// Source is one place that holds samples: the recent data of an ingester, or
// the blocks behind a store gateway. All methods may run concurrently. A tenant
// that the source does not know is empty, not an error.
type Source interface {
	// ChunkQuerier reads the tenant's chunks between mint and maxt (milliseconds,
	// inclusive). Chunks may start before mint and end after maxt and may overlap
	// each other; the caller closes the querier, and its chunks live until then.
	ChunkQuerier(tenant string, mint, maxt int64) (storage.ChunkQuerier, error)

	// ExemplarQuerier reads the tenant's exemplars.
	ExemplarQuerier(ctx context.Context, tenant string) (storage.ExemplarQuerier, error)

	// Metadata returns what senders said of each metric family, newest first; an
	// empty metric asks for all. The caller owns the map.
	Metadata(ctx context.Context, tenant, metric string) (map[string][]metadata.Metadata, error)

	// Extent is the time range (milliseconds, inclusive) the source may have
	// samples of; ok is false when it has none.
	Extent(tenant string) (mint, maxt int64, ok bool)
}

// SourceError is an error of a source, and not of the query put to it: the
// engine passes both on alike. Every error of a Querier, and of what it returns,
// has one in its chain.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }

func (e *SourceError) Unwrap() error { return e.Err }

func sourceErrorf(format string, args ...any) error {
	return &SourceError{Err: fmt.Errorf(format, args...)}
}

// Querier reads the tenants of all its sources. It holds no state of its own
// and may be used concurrently.
type Querier struct {
	sources []Source
	limits  Limits
}

// New returns a Querier over sources. Where two of them have a sample of one
// series with the same timestamp, the earlier source's is taken.
func New(sources ...Source) *Querier {
	return &Querier{sources: sources}
}

// WithLimits returns a Querier over the same sources whose queries are bounded.
func (q *Querier) WithLimits(limits Limits) *Querier {
	return &Querier{sources: q.sources, limits: limits}
}

// For returns what an identity may read.
func (q *Querier) For(who tenant.Identity) *View {
	return &View{sources: q.sources, limits: q.limits, tenant: who.Tenant, policy: who.Readable}
}
