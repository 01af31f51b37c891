package ingester

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// valuesIndex has one series for each value of every label, from a number on.
type valuesIndex struct {
	tsdb.IndexReader
	from, values int
}

func (v valuesIndex) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, error) {
	var out []string
	for i := range v.values {
		out = append(out, fmt.Sprint(v.from+i))
	}
	return out, nil
}

func (v valuesIndex) Postings(context.Context, string, ...string) (index.Postings, error) {
	return index.NewListPostings([]storage.SeriesRef{1}), nil
}

// TestTooManyValues: what is remembered of a label that has other values in each
// block is bounded; values of the last index are not remembered.
func TestTooManyValues(t *testing.T) {
	of := func(from, values int) source {
		s := source{index: valuesIndex{from: from, values: values}}
		s.active.set(1)
		return s
	}
	count := func(sources ...source) (n int, err error) {
		err = eachValue(t.Context(), sources, "id", 10, func(_ string, sum tally) { n += sum.active })
		return n, err
	}
	n, err := count(of(0, 1000))
	require.NoError(t, err)
	require.Equal(t, 1000, n)
	n, err = count(of(0, 5), of(3, 7), of(100, 1000))
	require.NoError(t, err)
	require.Equal(t, 1012, n)
	_, err = count(of(0, 5), of(5, 6), of(100, 1000))
	require.Equal(t, proto.KindTooLarge, proto.KindOf(err))
	require.ErrorContains(t, err, `weir-too-many-label-values: the label "id" had more than 10 values`)
}
