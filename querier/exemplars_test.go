package querier_test

import (
	"context"
	"math"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
)

type noExemplars struct{}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return nil, nil
}

func TestExemplars(t *testing.T) {
	a, b := labels.FromStrings("s", "a"), labels.FromStrings("s", "b")
	ex := func(ts int64, v float64) exemplar.Exemplar {
		return exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "x"), Ts: ts, Value: v, HasTs: true}
	}
	first := &fakeSource{exemplars: []exemplar.QueryResult{{SeriesLabels: b, Exemplars: []exemplar.Exemplar{ex(1, 1), ex(3, math.NaN())}}}}
	second := &fakeSource{exemplars: []exemplar.QueryResult{
		{SeriesLabels: a, Exemplars: []exemplar.Exemplar{ex(9, 9)}},
		{SeriesLabels: b, Exemplars: []exemplar.Exemplar{ex(2, 2), ex(3, math.NaN()), ex(3, 4)}},
	}}
	sel := func(sources ...querier.Source) ([]exemplar.QueryResult, error) {
		q, err := querier.New(sources...).For(as("t")).ExemplarQueryable().ExemplarQuerier(context.Background())
		if err != nil {
			return nil, err
		}
		return q.Select(0, 10, nil)
	}
	got, err := sel(first, second)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, a, got[0].SeriesLabels)
	require.Equal(t, b, got[1].SeriesLabels)
	var times []int64
	for _, e := range got[1].Exemplars {
		times = append(times, e.Ts)
	}
	require.Equal(t, []int64{1, 2, 3, 3}, times, "the NaN at 3 once, and 4")
	require.Len(t, first.exemplars[0].Exemplars, 2, "the sources' slices are not touched")

	got, err = sel()
	require.NoError(t, err)
	require.NotNil(t, got, "an empty list is a list")

	_, err = sel(first, &fakeSource{failOpen: true})
	require.ErrorIs(t, err, errBroken)
	_, err = sel(first, &fakeSource{failExemplars: true})
	require.ErrorIs(t, err, errBroken)
}

func TestMetadata(t *testing.T) {
	counter := metadata.Metadata{Type: model.MetricTypeCounter, Help: "help"}
	gauge := metadata.Metadata{Type: model.MetricTypeGauge, Help: "help"}
	first := &fakeSource{metadata: map[string][]metadata.Metadata{"x": {counter}}}
	second := &fakeSource{metadata: map[string][]metadata.Metadata{"x": {gauge, counter}, "y": {gauge}}}
	got, err := querier.New(first, second).For(as("t")).Metadata(context.Background(), "")
	require.NoError(t, err)
	require.Equal(t, map[string][]metadata.Metadata{"x": {counter, gauge}, "y": {gauge}}, got)
	require.Len(t, first.metadata["x"], 1, "the sources' maps are not touched")

	_, err = querier.New(first, &fakeSource{failStrings: true}).For(as("t")).Metadata(context.Background(), "")
	require.ErrorIs(t, err, errBroken)
}
