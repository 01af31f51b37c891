package ingester

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
)

// reading returns a tenant to read from, nil when there is none.
func (i *Ingester) reading(tenantID string) (*tenantDB, error) {
	if err := i.Ready(); err != nil {
		return nil, err
	}
	return i.find(tenantID), nil
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
	return t.db.ChunkQuerier(mint, maxt)
}

// ExemplarQuerier implements querier.Source.
func (i *Ingester) ExemplarQuerier(ctx context.Context, tenantID string) (storage.ExemplarQuerier, error) {
	t, err := i.reading(tenantID)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return noExemplars{}, nil
	}
	return t.db.ExemplarQuerier(ctx)
}

type noExemplars struct{}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return nil, nil
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
	return t.metadata.get(family), nil
}

// Extent implements querier.Source. Before the tenants on disk are replayed it
// is all of time, so that a reader asks and hears why there is no answer.
func (i *Ingester) Extent(tenantID string) (mint, maxt int64, ok bool) {
	if i.Ready() != nil {
		return math.MinInt64, math.MaxInt64, true
	}
	t := i.find(tenantID)
	if t == nil {
		return 0, 0, false
	}
	mint, maxt = t.db.Head().MinTime(), t.db.Head().MaxTime()
	mint = min(mint, t.db.Head().MinOOOTime())
	maxt = max(maxt, t.db.Head().MaxOOOTime())
	for _, b := range t.db.Blocks() {
		mint, maxt = min(mint, b.MinTime()), max(maxt, b.MaxTime())
	}
	return mint, maxt, mint <= maxt
}
