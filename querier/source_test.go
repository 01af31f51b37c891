package querier_test

import (
	"context"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/tenant"
)

const tenantID = "team-a"

// as is a reader of everything that a tenant has.
func as(id string) tenant.Identity { return tenant.Identity{Tenant: id} }

// dbSource is a Source of one tenant's TSDB.
type dbSource struct {
	tenant string
	db     *tsdb.DB
	meta   map[string][]metadata.Metadata
}

var _ querier.Source = (*dbSource)(nil)

func (s *dbSource) ChunkQuerier(tenant string, mint, maxt int64) (storage.ChunkQuerier, error) {
	if tenant != s.tenant {
		return storage.NoopChunkedQuerier(), nil
	}
	return s.db.ChunkQuerier(mint, maxt)
}

func (s *dbSource) ExemplarQuerier(ctx context.Context, tenant string) (storage.ExemplarQuerier, error) {
	if tenant != s.tenant {
		return noExemplars{}, nil
	}
	return s.db.ExemplarQuerier(ctx)
}

func (s *dbSource) Metadata(_ context.Context, tenant, metric string) (map[string][]metadata.Metadata, error) {
	if tenant != s.tenant {
		return nil, nil
	}
	found := map[string][]metadata.Metadata{}
	for family, m := range s.meta {
		if metric == "" || metric == family {
			found[family] = m
		}
	}
	return found, nil
}

func (s *dbSource) Extent(tenant string) (mint, maxt int64, ok bool) {
	if tenant != s.tenant {
		return 0, 0, false
	}
	head := s.db.Head()
	mint, maxt = min(head.MinTime(), head.MinOOOTime()), max(head.MaxTime(), head.MaxOOOTime())
	for _, b := range s.db.Blocks() {
		mint, maxt = min(mint, b.MinTime()), max(maxt, b.MaxTime())
	}
	return mint, maxt, mint <= maxt
}

// openDB opens a TSDB in a directory of its own that accepts samples up to a
// day out of order, in blocks of two hours, and that keeps start timestamps if
// starts says so.
func openDB(t testing.TB, starts bool) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = 24 * 3600 * 1000
	opts.EnableOverlappingCompaction = false
	opts.EnableExemplarStorage = true
	opts.MaxExemplars = 1000
	opts.RetentionDuration = math.MaxInt64 / 2
	if starts {
		opts.EnableSTStorage = true
		opts.FloatChunkEncoding = chunkenc.EncXOR2
		opts.EnableHistogramSTEncoding = true
	}
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}
