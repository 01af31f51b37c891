package harness

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// OnDisk returns the samples that a stopped server left in its TSDB, with the
// bits of NaNs, reset hints and start timestamps, which no query shows. Series
// are keyed by their labels as text.
func (s *Server) OnDisk(t testing.TB) map[string][]Sample {
	t.Helper()
	<-s.Process().Exited()
	var dirs []string
	require.NoError(t, filepath.WalkDir(s.DataDir(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "wal" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return err
	}))
	require.Len(t, dirs, 1, "directories with a write-ahead log")
	// On a copy, because opening changes files; with start timestamps, because
	// what replay does not expect it drops.
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(dirs[0])))
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	o.EnableSTStorage = true
	o.FloatChunkEncoding = chunkenc.EncXOR2
	o.EnableHistogramSTEncoding = true
	db, err := tsdb.Open(dir, nil, nil, o, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	defer func() { require.NoError(t, db.Close()) }()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()

	out := map[string][]Sample{}
	all := labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+")
	for set := q.Select(t.Context(), true, nil, all); ; {
		if !set.Next() {
			require.NoError(t, set.Err())
			return out
		}
		out[set.At().Labels().String()] = SamplesOf(t, set.At())
	}
}

// SamplesOf returns all samples of a series.
func SamplesOf(t testing.TB, series storage.Series) []Sample {
	var out []Sample
	it := series.Iterator(nil)
	for {
		x := Sample{}
		switch it.Next() {
		case chunkenc.ValFloat:
			x.T, x.V = it.At()
		case chunkenc.ValHistogram:
			x.T, x.H = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			x.T, x.FH = it.AtFloatHistogram(nil)
		default:
			require.NoError(t, it.Err())
			return out
		}
		x.ST = it.AtST()
		out = append(out, x)
	}
}
