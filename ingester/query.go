package ingester

import (
	"context"
	"math"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
)

// reading returns a tenant to read from, nil when there is none. It is in use
// until leave is called.
func (i *Ingester) reading(tenantID string) (*tenantDB, error) {
	t, err := i.enter(tenantID, false)
	if t != nil && !t.read.Load() {
		t.read.Store(true)
	}
	return t, err
}

// ChunkQuerier implements querier.Source.
func (i *Ingester) ChunkQuerier(tenantID string, mint, maxt int64) (storage.ChunkQuerier, error) {
	t, err := i.reading(tenantID)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return storage.NoopChunkedQuerier(), nil
	}
	q, err := t.db.ChunkQuerier(mint, maxt)
	if err != nil {
		t.leave()
		return nil, err
	}
	return &chunkQuerier{ChunkQuerier: q, leave: sync.OnceFunc(t.leave)}, nil
}

// chunkQuerier keeps its TSDB open until it is closed.
type chunkQuerier struct {
	storage.ChunkQuerier
	leave func()
}

// Close implements storage.ChunkQuerier.
func (q *chunkQuerier) Close() error {
	defer q.leave()
	return q.ChunkQuerier.Close()
}

// ExemplarQuerier implements querier.Source.
func (i *Ingester) ExemplarQuerier(ctx context.Context, tenantID string) (storage.ExemplarQuerier, error) {
	return exemplarQuerier{ctx, i, tenantID}, i.Ready()
}

// exemplarQuerier uses the TSDB while it selects only: there is no telling when
// the caller is done with it.
type exemplarQuerier struct {
	ctx      context.Context // of the query
	ingester *Ingester
	tenant   string
}

// Select implements storage.ExemplarQuerier.
func (q exemplarQuerier) Select(mint, maxt int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	t, err := q.ingester.reading(q.tenant)
	if err != nil || t == nil {
		return nil, err
	}
	defer t.leave()
	eq, err := t.db.ExemplarQuerier(q.ctx)
	if err != nil {
		return nil, err
	}
	return eq.Select(mint, maxt, matchers...)
}

// Metadata implements querier.Source.
func (i *Ingester) Metadata(_ context.Context, tenantID, family string) (map[string][]metadata.Metadata, error) {
	t, err := i.reading(tenantID)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return map[string][]metadata.Metadata{}, nil
	}
	defer t.leave()
	return t.metadata.get(family), nil
}

// Extent implements querier.Source. Before the tenants on disk are replayed,
// and for one that cannot be opened, it is all of time, so that a reader asks and
// hears why there is no answer.
func (i *Ingester) Extent(tenantID string) (mint, maxt int64, ok bool) {
	if i.Ready() != nil {
		return math.MinInt64, math.MaxInt64, true
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	s := i.slots[tenantID]
	if s == nil {
		return 0, 0, false
	}
	if s.open == nil {
		return s.rest.mint, s.rest.maxt, !s.rest.empty()
	}
	mint, maxt = s.open.extent()
	return mint, maxt, mint <= maxt
}

// extent is the time from the oldest sample to the newest, ms.
func (t *tenantDB) extent() (mint, maxt int64) {
	head := t.db.Head()
	blocks := t.span()
	return min(head.MinTime(), head.MinOOOTime(), blocks.mint), max(head.MaxTime(), head.MaxOOOTime(), blocks.maxt)
}
