package querier_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/tenant"
)

// labelValues are those of the series in the tests of policies; a series may
// lack each label, and has a metric name.
var labelValues = map[string][]string{
	"__name__": {"disk", "load", "load_total"},
	"team":     {"a", "b"},
	"env":      {"dev", "prod"},
	"region":   {"eu-1", "eu-2", "us-1"},
}

// drawSeries returns some of all series that there can be.
func drawSeries(t *rapid.T) []labels.Labels {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) labels.Labels {
		b := labels.NewScratchBuilder(4)
		b.Add("__name__", rapid.SampledFrom(labelValues["__name__"]).Draw(t, "metric"))
		for _, name := range []string{"env", "region", "team"} {
			if v := rapid.SampledFrom(append([]string{""}, labelValues[name]...)).Draw(t, name); v != "" {
				b.Add(name, v)
			}
		}
		return b.Labels()
	}), 1, 40, labels.Labels.String).Draw(t, "series")
}

// drawSelector returns matchers of every kind: that match what a series lacks,
// nothing, everything, and labels that no series has.
func drawSelector(t *rapid.T, least int) []*labels.Matcher {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *labels.Matcher {
		name := rapid.SampledFrom([]string{"__name__", "team", "env", "region", "lacking"}).Draw(t, "name")
		typ := rapid.SampledFrom([]labels.MatchType{labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchNotRegexp}).Draw(t, "type")
		values := append([]string{"", "nobody's"}, labelValues[name]...)
		if typ == labels.MatchRegexp || typ == labels.MatchNotRegexp {
			values = append(values, ".*", ".+", "a|b", "|dev", "eu-.*", "load.*", "(?i)PROD")
		}
		return labels.MustNewMatcher(typ, name, rapid.SampledFrom(values).Draw(t, "value"))
	}), least, 3).Draw(t, "selector")
}

// policyOf returns a policy of some selectors.
func policyOf(t require.TestingT, selectors ...[]*labels.Matcher) *tenant.LabelPolicy {
	var texts []string
	for _, matchers := range selectors {
		var parts []string
		for _, m := range matchers {
			parts = append(parts, m.String())
		}
		texts = append(texts, "{"+strings.Join(parts, ",")+"}")
	}
	p, err := tenant.ParseLabelPolicy(texts)
	require.NoError(t, err)
	return p
}

func selects(matchers []*labels.Matcher, series labels.Labels) bool {
	for _, m := range matchers {
		if !m.Matches(series.Get(m.Name)) {
			return false
		}
	}
	return true
}

// sourcesWith returns sources that hold each series in one of two TSDBs or in
// both, one of which has written a block, until cleanup. Every series has the same
// timestamps.
func sourcesWith(t *testing.T, cleanup func(func()), all []labels.Labels) []querier.Source {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 1000
	opts.StripeSize = 512 // most of the memory
	sources := make([]querier.Source, 2)
	for i := range sources {
		db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
		require.NoError(t, err)
		db.DisableCompactions()
		cleanup(func() { require.NoError(t, db.Close()) })
		app := db.AppenderV2(context.Background())
		for _, series := range all {
			if h := series.Hash() % 3; h == uint64(i) {
				continue
			}
			for ts := range int64(5) {
				e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", series.String()), Ts: ts * hour, Value: 1, HasTs: true}
				_, err := app.Append(0, series, 0, ts*hour, float64(series.Hash()%1000), nil, nil, storage.AppendV2Options{Exemplars: []exemplar.Exemplar{e}})
				require.NoError(t, err)
			}
		}
		require.NoError(t, app.Commit())
		if i == 0 {
			require.NoError(t, db.CompactHead(tsdb.NewRangeHead(db.Head(), 0, 2*hour-1)))
		}
		sources[i] = &dbSource{tenant: tenantID, db: db}
	}
	return sources
}

// TestPolicy compares what may be read by a policy with what is read of a tenant
// that has nothing else.
func TestPolicy(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var readable []labels.Labels
		all := drawSeries(rt)
		selectors := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []*labels.Matcher { return drawSelector(t, 1) }), 1, 4).Draw(rt, "policy")
		for _, series := range all {
			if slices.ContainsFunc(selectors, func(m []*labels.Matcher) bool { return selects(m, series) }) {
				readable = append(readable, series)
			}
		}
		some := querier.New(sourcesWith(t, rt.Cleanup, all)...).For(tenant.Identity{Tenant: tenantID, Readable: policyOf(rt, selectors...)})
		only := querier.New(sourcesWith(t, rt.Cleanup, readable)...).For(as(tenantID))
		for range 5 {
			ms := drawSelector(rt, 0)
			hints := &storage.SelectHints{Start: 0, End: 5 * hour}
			if rapid.Bool().Draw(rt, "limited") {
				hints.Limit = rapid.IntRange(1, 10).Draw(rt, "limit")
			}
			requireSame(t, readAll(t, only.Queryable(), 0, 5*hour, hints, ms...), readAll(t, some.Queryable(), 0, 5*hour, hints, ms...))
			requireSame(t, readAll(t, chunked(t, only.ChunkQueryable()), 0, 5*hour, hints, ms...), readAll(t, chunked(t, some.ChunkQueryable()), 0, 5*hour, hints, ms...))
			requireSameStrings(t, only, some, ms)
			requireSameExemplars(t, only, some, ms, drawSelector(rt, 0))
		}
	})
}

// requireSameStrings compares names and values of labels. Which ones are left
// out beyond a limit is up to the TSDB.
func requireSameStrings(t *testing.T, want, got *querier.View, ms []*labels.Matcher) {
	t.Helper()
	ctx := context.Background()
	w, err := want.Queryable().Querier(0, 5*hour)
	require.NoError(t, err)
	defer w.Close()
	g, err := got.Queryable().Querier(0, 5*hour)
	require.NoError(t, err)
	defer g.Close()
	for _, name := range []string{"", "__name__", "team", "env", "region", "lacking"} {
		ask := func(q storage.LabelQuerier, hints *storage.LabelHints) []string {
			list, _, err := q.LabelNames(ctx, hints, slices.Clone(ms)...)
			if name != "" {
				list, _, err = q.LabelValues(ctx, name, hints, slices.Clone(ms)...)
			}
			require.NoError(t, err)
			return append([]string{}, list...)
		}
		all := ask(w, nil)
		require.Equal(t, all, ask(g, nil), "%s of %v", name, ms)
		for limit := 1; limit <= 3; limit++ {
			cut := ask(g, &storage.LabelHints{Limit: limit})
			require.Len(t, cut, min(limit, len(all)), "%s of %v", name, ms)
			require.Subset(t, all, cut)
		}
	}
}

func requireSameExemplars(t *testing.T, want, got *querier.View, selectors ...[]*labels.Matcher) {
	t.Helper()
	ask := func(v *querier.View) []exemplar.QueryResult {
		q, err := v.ExemplarQueryable().ExemplarQuerier(context.Background())
		require.NoError(t, err)
		found, err := q.Select(0, 5*hour, selectors...)
		require.NoError(t, err)
		return found
	}
	require.Equal(t, ask(want), ask(got))
}

// TestPolicyOfACarelessSource reads from a source that does not look at matchers:
// what may not be read is dropped, and counts for no limit.
func TestPolicyOfACarelessSource(t *testing.T) {
	list := []fakeSeries{}
	for _, team := range []string{"a", "b", "c"} {
		list = append(list, fakeSeries{labels.FromStrings("team", team), []chunks.Meta{floats(t, 1, 10)}})
	}
	read := func(limits querier.Limits, selectors ...[]*labels.Matcher) (teams []string, err error) {
		src := &fakeSource{series: list}
		view := querier.New(src, &fakeSource{series: list}).WithLimits(limits).For(tenant.Identity{Tenant: "t", Readable: policyOf(t, selectors...)})
		q, err := view.Queryable().Querier(0, 100)
		require.NoError(t, err)
		defer q.Close()
		set := q.Select(context.Background(), true, nil, allSeries)
		for set.Next() {
			teams = append(teams, set.At().Labels().Get("team"))
			for it := set.At().Iterator(nil); it.Next() != 0; {
			}
		}
		require.True(t, src.sorted)
		return teams, set.Err()
	}
	team := func(value string) []*labels.Matcher {
		return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "team", value)}
	}
	for _, c := range []struct {
		selectors [][]*labels.Matcher
		want      []string
	}{
		{[][]*labels.Matcher{team("b")}, []string{"b"}},
		{[][]*labels.Matcher{team("c"), team("a")}, []string{"a", "c"}},
		{[][]*labels.Matcher{team("a|b"), team("b|c"), team("b")}, []string{"a", "b", "c"}},
		{[][]*labels.Matcher{team("d")}, nil},
	} {
		// Each chunk is read from both sources, once.
		bytes := len(list[0].chunks[0].Chunk.Bytes())
		got, err := read(querier.Limits{Series: max(1, len(c.want)), ChunkBytes: max(1, int64(2*len(c.want)*bytes))}, c.selectors...)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := read(querier.Limits{Series: 1}, team("a|b"))
	var e *proto.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "weir-query-too-many-series", e.ID)
}

func TestPolicyNarrowsMatchers(t *testing.T) {
	mine := labels.MustNewMatcher(labels.MatchEqual, "job", "a")
	ask := func(selectors ...[]*labels.Matcher) *fakeSource {
		src := &fakeSource{}
		q, err := querier.New(src).For(tenant.Identity{Tenant: "t", Readable: policyOf(t, selectors...)}).Queryable().Querier(0, 1)
		require.NoError(t, err)
		defer q.Close()
		require.False(t, q.Select(context.Background(), false, &storage.SelectHints{Limit: 7}, mine).Next())
		require.Len(t, src.matchers, 2)
		require.Contains(t, src.matchers, mine)
		require.Equal(t, "__name__", src.matchers[0].Name, "reversed by the source, which has a copy")
		return src
	}
	policy := []*labels.Matcher{allSeries}
	for _, src := range []*fakeSource{ask(policy), ask(policy, policy)} {
		require.False(t, src.sorted, "there is nothing to merge")
		require.Zero(t, src.limit, "some may be dropped")
	}
}

func TestPolicyOnMetadata(t *testing.T) {
	saying := func(typ model.MetricType, help string) metadata.Metadata {
		return metadata.Metadata{Type: typ, Help: help}
	}
	var all []labels.Labels
	for _, name := range []string{"up", "requests_total", "latency_bucket", "size_gcount", "build_info", "native", "wait_sum"} {
		all = append(all, labels.FromStrings("__name__", name, "team", "a"))
	}
	for _, name := range []string{"up", "secret", "secret_bucket", "up_total"} {
		all = append(all, labels.FromStrings("__name__", name, "team", "b"))
	}
	sources := sourcesWith(t, t.Cleanup, all)
	sources[0].(*dbSource).meta = map[string][]metadata.Metadata{
		"up":             {saying("gauge", "of both"), saying("gauge", "of somebody")},
		"requests":       {saying("counter", ""), saying("histogram", "another's")},
		"requests_total": {saying("counter", "")},
		"latency":        {saying("histogram", "")},
		"size":           {saying("gaugehistogram", "")},
		"build":          {saying("info", "")},
		"native":         {saying("histogram", "")},
		"wait":           {saying("summary", "")},
		"secret":         {saying("histogram", "secret")},
		"unwritten":      {saying("unknown", "")},
		"latency_bucket": {saying("", "as it is named")},
		"lat":            {saying("gauge", "a prefix")},
	}
	v := querier.New(sources...).For(tenant.Identity{Tenant: tenantID, Readable: policyOf(t, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "team", "a")})})
	got, err := v.Metadata(t.Context(), "")
	require.NoError(t, err)
	want := map[string]int{"up": 2, "requests": 1, "requests_total": 1, "latency": 1, "size": 1, "build": 1, "native": 1, "wait": 1, "latency_bucket": 1}
	require.Len(t, got, len(want), fmt.Sprint(got))
	for family, n := range want {
		require.Len(t, got[family], n, family)
		one, err := v.Metadata(t.Context(), family)
		require.NoError(t, err)
		require.Equal(t, map[string][]metadata.Metadata{family: got[family]}, one)
	}
	for _, family := range []string{"secret", "lat", "unwritten", "nothing", "(", ".*"} {
		one, err := v.Metadata(t.Context(), family)
		require.NoError(t, err)
		require.Empty(t, one)
	}
	failing := &fakeSource{metadata: map[string][]metadata.Metadata{"up": {saying("gauge", "")}}}
	v = querier.New(failing, &unreadable{}).For(tenant.Identity{Tenant: tenantID, Readable: policyOf(t, []*labels.Matcher{allSeries})})
	got, err = v.Metadata(t.Context(), "")
	require.ErrorIs(t, err, errBroken)
	require.Empty(t, got, "nothing is told that could not be held against the policy")
}

// unreadable has metadata and no labels that could be read.
type unreadable struct{ fakeSource }

func (u *unreadable) ChunkQuerier(string, int64, int64) (storage.ChunkQuerier, error) {
	return nil, errBroken
}

func TestWhole(t *testing.T) {
	require.NoError(t, querier.New().For(as("t")).Whole())
	err := querier.New().For(tenant.Identity{Tenant: "t", Readable: policyOf(t, []*labels.Matcher{allSeries})}).Whole()
	var e *proto.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, proto.KindForbidden, e.Kind)
}

// BenchmarkPolicy lists a metric of 100,000 series of ten teams, and the values of
// a label that each has its own of.
//
// Milliseconds, the least of six, go1.26 on two busy cores (EPYC):
//
//	                  select  values
//	none                  58      10   values come from the index
//	one team              13     170   a tenth of the series
//	three teams           44     373
//	all teams             66     175   each series is held against the policy
//	all teams, thrice    132     451   each is selected three times, and dropped twice
func BenchmarkPolicy(b *testing.B) {
	const series, teams = 100_000, 10
	db := openDB(b, false)
	app := db.AppenderV2(context.Background())
	for i := range series {
		lset := labels.FromStrings("__name__", "m", "series", fmt.Sprint(i), "team", fmt.Sprint("team-", i%teams))
		_, err := app.Append(0, lset, 0, 0, 1, nil, nil, storage.AppendV2Options{})
		require.NoError(b, err)
	}
	require.NoError(b, app.Commit())
	team := func(value string) []*labels.Matcher {
		return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "team", value)}
	}
	for _, bc := range []struct {
		name      string
		selectors [][]*labels.Matcher
		want      int
	}{
		{"none", nil, series},
		{"one team", [][]*labels.Matcher{team("team-3")}, series / teams},
		{"three teams", [][]*labels.Matcher{team("team-3"), team("team-4"), team("team-5")}, 3 * series / teams},
		{"all teams", [][]*labels.Matcher{team("team-.*")}, series},
		{"all teams, thrice", [][]*labels.Matcher{team("team-.*"), team("team-.+"), team(".*-.*")}, series},
	} {
		who := tenant.Identity{Tenant: tenantID}
		if bc.selectors != nil {
			who.Readable = policyOf(b, bc.selectors...)
		}
		q, err := querier.New(&dbSource{tenant: tenantID, db: db}).For(who).Queryable().Querier(0, 1)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, q.Close()) })
		b.Run("select/"+bc.name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				set := q.Select(context.Background(), false, &storage.SelectHints{Start: 0, End: 1, Func: "series"}, allSeries)
				for set.Next() {
					n++
				}
				require.NoError(b, set.Err())
				require.Equal(b, bc.want, n)
			}
		})
		b.Run("values/"+bc.name, func(b *testing.B) {
			for b.Loop() {
				values, _, err := q.LabelValues(context.Background(), "series", nil)
				require.NoError(b, err)
				require.Len(b, values, bc.want)
			}
		})
	}
}
