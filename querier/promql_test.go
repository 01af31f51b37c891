package querier_test

import (
	"context"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
)

// TestPromQLScripts runs Prometheus' own scripts over our read path.
func TestPromQLScripts(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(t testing.TB) storage.Storage {
		ts := teststorage.New(t, func(o *tsdb.Options) {
			o.EnableSTStorage = true
			o.FloatChunkEncoding = chunkenc.EncXOR2
			o.EnableHistogramSTEncoding = true
		})
		return &readBy{TestStorage: ts, queryable: querier.New(&dbSource{tenant: tenantID, db: ts.DB}).For(as(tenantID)).Queryable()}
	})
}

// readBy writes to the storage and reads through queryable.
type readBy struct {
	*teststorage.TestStorage
	queryable storage.Queryable
}

func (r *readBy) Querier(mint, maxt int64) (storage.Querier, error) {
	return r.queryable.Querier(mint, maxt)
}

// TestQueriesOverReplicas asks the engine over one TSDB, and over the same
// samples spread over three.
func TestQueriesOverReplicas(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 5))
	inOrder, late := generate(rnd)
	one := openDB(t, false)
	fill(t, rnd, one, inOrder, late)
	var sources []querier.Source
	copies, lateCopies := spread(rnd, inOrder, 3), spread(rnd, late, 3)
	for i := range copies {
		db := openDB(t, false)
		fill(t, rnd, db, copies[i], lateCopies[i])
		sources = append(sources, &dbSource{tenant: tenantID, db: db})
	}
	ours := querier.New(sources...)

	engine := promqltest.NewTestEngine(t, false, 0, 50_000_000)
	for _, query := range []string{
		`m`,
		`m offset 20m`,
		`rate(m[5m])`,
		`increase(m{kind=~"int|float|custom"}[1h])`,
		`irate(m{kind="counter"}[2m])`,
		`resets(m[2h])`,
		`changes(m[30m])`,
		`count_over_time(m[17m])`,
		`last_over_time(m{kind="stale"}[3m])`,
		`max_over_time(rate(m{kind="counter"}[2m])[30m:1m])`,
		`histogram_quantile(0.9, rate(m{kind=~"int|float"}[5m]))`,
		`histogram_count(m)`,
		`sum by (kind) (m @ 7200)`,
		`absent(m{kind="counter"})`,
		`timestamp(m)`,
	} {
		t.Run(query, func(t *testing.T) {
			want := eval(t, engine, one, query)
			got := eval(t, engine, ours.For(as(tenantID)).Queryable(), query)
			require.Equal(t, want, got)
			if !strings.HasPrefix(query, "absent") {
				require.NotEqual(t, eval(t, engine, ours.For(as("team-b")).Queryable(), query), got, "another tenant has nothing")
			}
		})
	}
}

// eval returns the result of a range query, histograms in their shortest form.
func eval(t *testing.T, engine promql.QueryEngine, q storage.Queryable, query string) string {
	t.Helper()
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	qry, err := engine.NewRangeQuery(context.Background(), q, nil, query, at(0), at(6*hour), 97*time.Second)
	require.NoError(t, err)
	defer qry.Close()
	res := qry.Exec(context.Background())
	require.NoError(t, res.Err)
	matrix, err := res.Matrix()
	require.NoError(t, err)
	sort.Sort(matrix)
	for _, s := range matrix {
		for i := range s.Histograms {
			s.Histograms[i].H.Compact(0).CounterResetHint = 0
		}
	}
	return matrix.String()
}
