package ingester

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
)

// HeadStats implements api.Storage. The TSDB remembers rankings for half a
// minute.
func (i *Ingester) HeadStats(tenantID string, limit int) (stats *tsdb.Stats, chunks int64, err error) {
	t, err := i.reading(tenantID)
	if err != nil {
		return nil, 0, err
	}
	if t == nil {
		return &tsdb.Stats{IndexPostingStats: &index.PostingsStats{}}, 0, nil
	}
	defer t.leave()
	return t.db.Head().Stats(model.MetricNameLabel, limit), t.logs.headChunks(), nil
}

// Blocks implements api.Storage.
func (i *Ingester) Blocks(tenantID string) ([]tsdb.BlockMeta, error) {
	t, err := i.reading(tenantID)
	if err != nil || t == nil {
		return nil, err
	}
	defer t.leave()
	return t.db.BlockMetas(), nil
}

// Replay implements api.Storage.
func (i *Ingester) Replay() (done, of int) {
	r := i.ReplayProgress()
	return r.TenantsDone, r.Tenants
}
