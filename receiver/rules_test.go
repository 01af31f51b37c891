package receiver_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

func compileRules(tb testing.TB, text string) *relabel.Rules {
	c, errs := relabel.Read(strings.NewReader(text))
	require.Empty(tb, errs)
	rules, errs := relabel.Compile(c, "rules")
	require.Empty(tb, errs)
	return rules
}

func withRules(tb testing.TB, text string) func(*setup) {
	return func(s *setup) { s.rules = compileRules(tb, text) }
}

const headerDropped = "X-Weir-Relabel-Dropped"

// TestRules sends one series with one sample, twice: the second time the verdict
// is remembered.
func TestRules(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		name, rules string
		limits      func(*tenant.Limits)
		labels      []labels.Label
		want        string // labels that are stored, or the id of the answer
	}{
		{"none", ``, nil, pairs("__name__", "up", "a", "b"), `{__name__="up", a="b"}`},
		{"relabelled", `metric_relabel_configs: [{source_labels: [a], target_label: c, replacement: 'x$1'}]`, nil, pairs("__name__", "up", "a", "b"), `{__name__="up", a="b", c="xb"}`},
		{"unsorted", `metric_relabel_configs: [{source_labels: [a, z], target_label: c}]`, nil, pairs("z", "1", "__name__", "up", "a", "b"), `{__name__="up", a="b", c="b;1", z="1"}`},
		{"dropped", `metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]`, nil, pairs("__name__", "go_x"), "dropped"},
		{"a name by rules", `metric_relabel_configs: [{source_labels: [metric], target_label: __name__}, {regex: metric, action: labeldrop}]`, nil, pairs("metric", "up"), `{__name__="up"}`},
		{"the name is gone", `metric_relabel_configs: [{regex: __name__, action: labeldrop}]`, nil, pairs("__name__", "up", "a", "b"), "weir-metric-name-missing"},
		{"no valid name any more", `metric_relabel_configs: [{regex: '(a)|(b)', replacement: '$2', action: labelmap}]`, nil, pairs("__name__", "up", "a", "b"), "weir-label-name-invalid"},
		{"legacy names by rules", `metric_relabel_configs: [{source_labels: [http.method], target_label: method}, {regex: 'http.*', action: labeldrop}]`,
			func(l *tenant.Limits) { l.LegacyNamesOnly = true }, pairs("__name__", "up", "http.method", "GET"), `{__name__="up", method="GET"}`},
		{"few labels by rules", `drop_labels: [c, d]`, func(l *tenant.Limits) { l.MaxLabelsPerSeries = 2 }, pairs("__name__", "up", "a", "b", "c", "d", "d", "e"), `{__name__="up", a="b"}`},
		{"many labels by rules", `metric_relabel_configs: [{target_label: x, replacement: y}]`, func(l *tenant.Limits) { l.MaxLabelsPerSeries = 2 }, pairs("__name__", "up", "a", "b"), "weir-labels-too-many"},
		{"long by rules", `metric_relabel_configs: [{source_labels: [a], target_label: a, replacement: '$1$1'}]`, func(l *tenant.Limits) { l.MaxLabelValueBytes = 3 }, pairs("__name__", "up", "a", "bb"), "weir-label-value-too-long"},
		{"shortened", `long_values: hash`, func(l *tenant.Limits) { l.MaxLabelValueBytes = 33 }, pairs("__name__", "up", "a", strings.Repeat("x", 100)),
			`{__name__="up", a="~09ecb6ebc8bcefc733f6f2ec44f791ab"}`},
		{"too long for rules", `long_values: hash`, nil, pairs("__name__", "up", "a", strings.Repeat("x", relabel.MaxSeriesBytes)), "weir-label-value-too-long"},
		{"masked", `redact: [{detector: email, action: mask}]`, nil, pairs("__name__", "up", "a", "x@example.com"), `{__name__="up", a="[email]"}`},
		{"rejected", `redact: [{detector: email, action: reject}]`, nil, pairs("__name__", "up", "a", "x@example.com"), "weir-value-rejected"},
		{"twice before rules", `drop_labels: [a]`, nil, pairs("__name__", "up", "a", "b", "a", "c"), "weir-label-name-duplicate"},
		{"not UTF-8 before rules", `drop_labels: [a]`, nil, pairs("__name__", "up", "a", "\xff"), "weir-label-value-invalid"},
		{"no name of a label before rules", `drop_labels: [a]`, nil, pairs("__name__", "up", "", "b"), "weir-label-name-invalid"},
		{"what is empty is no label", `metric_relabel_configs: [{source_labels: [a], regex: '', action: drop}]`, nil, pairs("__name__", "up", "a", ""), "dropped"},
	} {
		for _, v := range versions {
			t.Run(c.name+"/version="+v.String(), func(t *testing.T) {
				lim := tenant.DefaultLimits()
				if c.limits != nil {
					c.limits(&lim)
				}
				s := newSetup(t, withRules(t, c.rules), func(s *setup) { s.limits = func(string) *tenant.Limits { return &lim } })
				for range 2 {
					hr, rec := record(newRequest(v, marshal(v, series{labels: c.labels, floats: []proto.Float{{T: now, V: 1}}})))
					w := s.serve(hr)
					switch {
					case strings.HasPrefix(c.want, "weir-"):
						require.Equal(t, http.StatusBadRequest, w.Code)
						require.True(t, strings.HasPrefix(w.Body.String(), c.want+": "), w.Body)
						require.Empty(t, rec.series)
					case c.want == "dropped":
						require.Equal(t, http.StatusNoContent, w.Code, w.Body)
						require.Equal(t, "1", w.Header().Get(headerDropped))
						if v == proto.V2 {
							counts, _ := written(t, w.Header())
							require.Equal(t, proto.Counts{Samples: 1}, counts, "or its sender warns of lost samples")
						}
						require.Empty(t, rec.series)
					default:
						require.Equal(t, http.StatusNoContent, w.Code, w.Body)
						require.Empty(t, w.Header().Get(headerDropped))
						require.Len(t, rec.series, 1)
						require.Equal(t, c.want, rec.series[0].labels.String())
					}
				}
			})
		}
	}
}

// TestRulesAreCounted: everything received is written or discarded, by reason.
func TestRulesAreCounted(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t, withRules(t, `
metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]
redact: [{detector: email, action: mask}, {detector: jwt, action: reject}]`))
			now := time.Now().UnixMilli()
			message := marshal(v,
				series{labels: pairs("__name__", "go_x"), floats: []proto.Float{{T: now}, {T: now + 1}}, histograms: []proto.Histogram{{T: now, H: oneBucket()}},
					exemplars: []exemplarToSend{{labels: pairs("a", "b"), t: now}}},
				series{labels: pairs("a", "x@example.com", "__name__", "up"), floats: []proto.Float{{T: now}}},
				series{labels: pairs("__name__", "up", "a", "eyJhbGciOiJub25lIn0.e30."), floats: []proto.Float{{T: now}}},
				series{labels: pairs("__name__", "up", "a", "b"), floats: []proto.Float{{T: now}}, exemplars: []exemplarToSend{
					{labels: pairs("user", "x@example.com"), t: now}, {labels: pairs("token", "eyJhbGciOiJub25lIn0.e30."), t: now}}},
			)
			for range 2 {
				w := s.send(v, message)
				require.Equal(t, http.StatusBadRequest, w.Code)
				require.Equal(t, "4", w.Header().Get(headerDropped))
				counts, ok := written(t, w.Header())
				require.True(t, ok)
				require.Equal(t, proto.Counts{Samples: 4, Histograms: 1, Exemplars: 2}, counts)
			}
			require.Equal(t, map[string]int{
				"weir-relabel-dropped float": 4, "weir-relabel-dropped histogram": 2, "weir-relabel-dropped exemplar": 2,
				"weir-value-rejected float": 2, "weir-value-rejected exemplar": 2,
			}, s.counters(t, "weir_receiver_discarded_samples_total"))
			require.Equal(t, map[string]int{"float": 10, "histogram": 2, "exemplar": 6}, s.counters(t, "weir_receiver_received_samples_total"))
			require.Equal(t, map[string]int{"float": 4, "exemplar": 2}, s.counters(t, "weir_receiver_written_samples_total"))
			require.Equal(t, map[string]int{"series": 1, "exemplar": 2, "metadata": 0}, s.counters(t, "weir_receiver_redactions_total"))
			require.Equal(t, map[string]int{"": 1}, s.counters(t, "weir_receiver_unsorted_series_total"))
		})
	}
}

// TestRedactedExemplarsAndMetadata: they are redacted whenever they come.
func TestRedactedExemplarsAndMetadata(t *testing.T) {
	rules := `
metric_relabel_configs: [{source_labels: [__name__], regex: 'old_(.*)', target_label: __name__, replacement: 'new_$1'}]
redact: [{detector: email, action: mask}, {detector: uuid, action: drop}, {detector: jwt, action: reject}]`
	now := time.Now().UnixMilli()
	const uuid, jwt = "550e8400-e29b-41d4-a716-446655440000", "eyJhbGciOiJub25lIn0.e30."
	t.Run("exemplars", func(t *testing.T) {
		for _, v := range versions {
			s := newSetup(t, withRules(t, rules))
			hr, rec := record(newRequest(v, marshal(v, series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: now}}, exemplars: []exemplarToSend{
				{labels: pairs("trace_id", "abc", "user", "x@example.com", "id", uuid), t: now},
				{labels: pairs("trace_id", "abc"), t: now + 1},
			}})))
			require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
			require.Equal(t, `{trace_id="abc", user="[email]"}`, rec.series[0].exemplars[0].Labels.String())
			require.Equal(t, `{trace_id="abc"}`, rec.series[0].exemplars[1].Labels.String())
		}
	})
	t.Run("metadata of version 1", func(t *testing.T) {
		s := newSetup(t, withRules(t, rules))
		hr, rec := record(newRequest(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{
			{MetricFamilyName: "a", Help: "ask x@example.com"}, {MetricFamilyName: "b", Help: "see " + uuid},
			{MetricFamilyName: "c", Help: jwt}, {MetricFamilyName: "d", Help: "plain"},
		})))
		w := s.serve(hr)
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), "weir-value-rejected")
		require.NotContains(t, w.Body.String(), jwt)
		require.Equal(t, []string{`"a" unknown "ask [email]" ""`, `"b" unknown "" ""`, `"d" unknown "plain" ""`}, rec.said())
	})
	t.Run("metadata of version 2", func(t *testing.T) {
		s := newSetup(t, withRules(t, rules))
		for _, help := range []string{"ask x@example.com", "now ask y@example.com"} {
			hr, rec := record(newRequest(proto.V2, marshal(proto.V2, series{labels: pairs("__name__", "old_up"), floats: []proto.Float{{T: now}}, help: help})))
			require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
			want := strings.NewReplacer("x@example.com", "[email]", "y@example.com", "[email]").Replace(help)
			require.Equal(t, []string{fmt.Sprintf(`"new_up" unknown %q ""`, want)}, rec.said(), "under the name that is stored, new and known")
		}
	})
	t.Run("long help", func(t *testing.T) {
		// The end of what is looked at falls into an address, and what stands before it
		// gets shorter.
		s := newSetup(t, withRules(t, rules))
		lim := tenant.DefaultLimits()
		help := strings.Repeat("someone.with.a.long.name@example.com ", 200)
		hr, rec := record(newRequest(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{{MetricFamilyName: "a", Help: help}})))
		require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
		require.Greater(t, len(help), lim.MaxMetadataBytes+512)
		require.NotContains(t, rec.metadata[0].Help, "some")
		require.Contains(t, rec.metadata[0].Help, "[email] [email]")
	})
}

// TestHashesOfTenants: a value has one hash in one tenant, of every receiver with
// the same secret.
func TestHashesOfTenants(t *testing.T) {
	hashed := func(secret, tenantID string) string {
		s := newSetup(t, withRules(t, `redact: [{detector: email, action: hash}]`), func(s *setup) { s.mode, s.secret = tenant.ModeHeader, []byte(secret) })
		hr, rec := record(newRequest(proto.V1, marshal(proto.V1, series{labels: pairs("__name__", "up", "a", "x@example.com"), floats: []proto.Float{{T: time.Now().UnixMilli()}}})))
		hr.Header.Set(tenant.Header, tenantID)
		require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
		value := rec.series[0].labels.Get("a")
		require.Regexp(t, `^\[email:[a-p]{16}\]$`, value)
		return value
	}
	require.Equal(t, hashed("secret", "one"), hashed("secret", "one"))
	require.NotEqual(t, hashed("secret", "one"), hashed("secret", "other"))
	require.NotEqual(t, hashed("secret", "one"), hashed("another", "one"))
}

// TestMergedSeries: series that rules make one are one, whose samples are as if it
// had been sent so.
func TestMergedSeries(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t, withRules(t, `redact: [{detector: email, action: mask}]`), func(s *setup) { s.ing = startIngester(t, defaultLimits()) })
			now := time.Now().UnixMilli()
			send := func(want int, all ...series) {
				t.Helper()
				w := s.send(v, marshal(v, all...))
				require.Equal(t, want, w.Code, w.Body)
				if want == http.StatusBadRequest {
					require.True(t, strings.HasPrefix(w.Body.String(), "weir-sample-duplicate: refused 1 samples of this request, stored 1."), w.Body)
				}
			}
			one := func(user string, ts int64, value float64) series {
				return series{labels: pairs("__name__", "up", "user", user), floats: []proto.Float{{T: ts, V: value}}}
			}
			// Both are new, in one request; then both are known.
			for i := range int64(3) {
				send(http.StatusNoContent, one("x@example.com", now+10*i, 1), one("y@example.com", now+10*i+1, 2))
			}
			send(http.StatusNoContent, one("x@example.com", now+100, 1), one("y@example.com", now+100, 1))
			send(http.StatusBadRequest, one("x@example.com", now+200, 1), one("y@example.com", now+200, 2))
			send(http.StatusNoContent, one("y@example.com", now+300, 2), one("z@example.com", now+301, 2))
			require.Equal(t, map[string]int{tenant.Anonymous: 1}, maps.Collect(s.ing.(*ingester.Ingester).ActiveSeries))
		})
	}
}

// TestNewRules: what was decided under other rules is forgotten.
func TestNewRules(t *testing.T) {
	var set tenant.Settings
	current := &set
	set = tenant.DefaultSettings()
	s := newSetup(t)
	deps := s.Deps
	deps.Settings, deps.Registry = func(string) *tenant.Settings { return current }, prometheus.NewRegistry()
	s.Receiver = receiver.New(s.cfg, deps)
	now := time.Now().UnixMilli()
	for i, c := range []struct{ rules, want string }{
		{``, `{__name__="up", a="x@example.com"}`},
		{`redact: [{detector: email, action: mask}]`, `{__name__="up", a="[email]"}`},
		{`drop_labels: [a]`, `{__name__="up"}`},
		{`metric_relabel_configs: [{regex: '', action: drop}]`, ``},
		{``, `{__name__="up", a="x@example.com"}`},
	} {
		next := tenant.DefaultSettings()
		next.Rules = compileRules(t, c.rules)
		current = &next
		for j := range int64(2) {
			hr, rec := record(newRequest(proto.V1, marshal(proto.V1, series{labels: pairs("__name__", "up", "a", "x@example.com"), floats: []proto.Float{{T: now + int64(i)*10 + j}}})))
			require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
			if c.want == "" {
				require.Empty(t, rec.series)
				continue
			}
			require.Equal(t, c.want, rec.series[0].labels.String())
		}
	}
}

// TestRelabelReport: what rules did, and what others would.
func TestRelabelReport(t *testing.T) {
	s := newSetup(t, withRules(t, `
metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]
redact: [{detector: email, action: mask}, {detector: ipv4, action: report}, {detector: jwt, action: reject}]
shadow:
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'process_.*', action: drop}
  - {source_labels: [__name__], regex: 'old', target_label: __name__, replacement: 'new'}
  redact: [{detector: email, action: mask}, {detector: uuid, action: mask}]`))
	require.Empty(t, s.RelabelReports(tenant.Anonymous, true))
	now := time.Now().UnixMilli()
	const uuid = "550e8400-e29b-41d4-a716-446655440000"
	var all []series
	for i := range 10 {
		all = append(all, series{labels: pairs("__name__", "process_x", "i", fmt.Sprint(i)), floats: []proto.Float{{T: now}}})
	}
	for _, ls := range [][]labels.Label{
		pairs("__name__", "go_x"), pairs("__name__", "old"), pairs("__name__", "up", "id", uuid), pairs("__name__", "up", "ip", "10.0.0.1"),
		pairs("__name__", "up", "a", "x@example.com"), pairs("__name__", "up", "t", "eyJhbGciOiJub25lIn0.e30."),
		make([]labels.Label, 2000), pairs("__name__", "\xff"), // not looked at by rules
	} {
		all = append(all, series{labels: ls, floats: []proto.Float{{T: now}}})
	}
	for range 3 { // known series are not counted again
		s.send(proto.V2, marshal(proto.V2, all...))
	}
	reports := s.RelabelReports(tenant.Anonymous, true)
	require.Len(t, reports, 1)
	r := reports[0]
	require.Nil(t, r.Own)
	require.Equal(t, relabel.Tally{
		Series: 16, Dropped: 1, Rejected: 1,
		Rules:      []relabel.RuleTally{{Index: 0, Action: "drop", Dropped: 1}},
		Redactions: []relabel.RedactionTally{{Name: "email", Action: "mask", Series: 1}, {Name: "ipv4", Action: "report", Series: 1}, {Name: "jwt", Action: "reject", Series: 1}},
	}, *r.Tenant)
	require.Equal(t, 10, r.Shadow.Dropped)
	require.Equal(t, []relabel.RedactionTally{{Name: "email", Action: "mask", Series: 1}, {Name: "uuid", Action: "mask", Series: 1}}, r.Shadow.Redactions)
	require.Equal(t, 10, r.Shadow.Changes["drop"].Series)
	require.Len(t, r.Shadow.Changes["drop"].Examples, 5)
	require.Equal(t, relabel.Example{Now: `{__name__="process_x", i="0"}`, Then: "dropped"}, r.Shadow.Changes["drop"].Examples[0])
	require.Equal(t, []relabel.Example{{Now: `{__name__="old"}`, Then: `{__name__="new"}`}}, r.Shadow.Changes["rename"].Examples)
	require.Equal(t, []relabel.Example{{Now: `{__name__="up", id="[uuid]"}`, Then: `{__name__="up", id="[uuid]"}`}}, r.Shadow.Changes["redact"].Examples, "an example shows nothing that would be hidden")
	require.Equal(t, 2, r.Shadow.Changes["store"].Series, "no go_.* is dropped, no token rejected")
	for _, e := range r.Shadow.Changes["store"].Examples {
		require.NotContains(t, e.Then, "eyJ", "what is hidden now is hidden in examples")
	}
	require.Equal(t, map[string]int{"drop": 10, "rename": 1, "redact": 1, "store": 2, "same": 2}, s.counters(t, "weir_receiver_shadow_series_total"))
	require.Empty(t, s.RelabelReports("other", true))
	reports = s.RelabelReports(tenant.Anonymous, false)
	require.Equal(t, 10, reports[0].Shadow.Changes["drop"].Series)
	require.Empty(t, reports[0].Shadow.Changes["drop"].Examples)
}

// TestNothingRawIsKept plants a secret wherever a request has text, makes every
// kind of error happen on the way, and searches all that is written: logs, files,
// answers.
func TestNothingRawIsKept(t *testing.T) {
	const secret = "planted.person@secret.example"
	dir := t.TempDir()
	log := new(syncBuffer)
	cfg := ingester.DefaultConfig()
	lim := tenant.DefaultLimits()
	ing := ingester.New(cfg, ingester.Deps{Dir: dir, Limits: func(string) *tenant.Limits { return &lim }, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Registry: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ing.Run(ctx) }()
	require.Eventually(t, func() bool { return ing.Ready() == nil }, 10*time.Second, time.Millisecond)
	s := newSetup(t, func(s *setup) { s.ing, s.log = ing, log }, withRules(t, `
metric_relabel_configs: [{source_labels: [usr], regex: '(.+)', target_label: user}, {regex: usr, action: labeldrop}]
redact:
- {detector: email, action: hash, labels: '__name__|user|note|other'}
- {detector: email, action: reject, labels: forbidden}
- {detector: email, action: drop}
long_values: truncate`))

	now := time.Now().UnixMilli()
	said := new(strings.Builder)
	answered := map[int]int{}
	send := func(v proto.Version, message []byte) {
		w := s.send(v, message)
		answered[w.Code]++
		said.WriteString(w.Body.String())
		for _, values := range w.Header() {
			said.WriteString(strings.Join(values, " "))
		}
	}
	float := []proto.Float{{T: now, V: 1}}
	for _, v := range versions {
		for _, ls := range [][]labels.Label{
			pairs("__name__", "up", "user", secret),
			pairs("__name__", "up", "usr", secret),
			pairs("__name__", "up", "b", "to "+secret+" and on"),
			pairs("__name__", "up", "path", "/u/"+strings.ReplaceAll(secret, "@", "%40")),
			pairs("__name__", "up", "note", strings.Repeat("long ", 1000)+secret),
			pairs("__name__", "up", "note", secret+strings.Repeat(" long", 1000)),
			pairs("__name__", "m."+secret),
			// Refused, and quoted.
			pairs("__name__", "up", "forbidden", secret),
			pairs("user", secret),
			pairs("__name__", "up", "user", secret, "user", secret),
			pairs("__name__", "up", "user", secret+"\xff"),
			pairs("__name__", "up", "user", "\xff", "note", strings.Repeat("x", 50)+" "+secret),
			pairs("__name__", "up", secret+"\xff", "x"),
			pairs("__name__", "up", strings.Repeat("n", 2000)+secret, "x"),
			pairs("__name__", "\xff"+secret),
		} {
			one := series{labels: ls, floats: float, help: "ask " + secret, exemplars: []exemplarToSend{
				{labels: pairs("user", secret), t: now}, {labels: pairs("any", secret), t: now + 1}, {labels: pairs("forbidden", secret), t: now + 2},
				{labels: pairs("", secret), t: now},
			}}
			send(v, marshal(v, one))
		}
		// Refused by time and order.
		known := pairs("__name__", "up", "user", secret)
		send(v, marshal(v, series{labels: known, floats: []proto.Float{{T: now, V: 2}}}))
		send(v, marshal(v, series{labels: known, floats: []proto.Float{{T: 1000, V: 2}, {T: now + 1e9, V: 2}}, histograms: []proto.Histogram{{T: now, H: &histogram.Histogram{Count: 5}}}}))
	}
	send(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{
		{MetricFamilyName: "a", Help: "ask " + secret, Unit: secret}, {MetricFamilyName: "b", Help: secret + "\xff"},
		{MetricFamilyName: "c" + secret, Help: "x"}, {MetricFamilyName: strings.Repeat("c", 5000) + secret, Help: "x"},
	}))
	sendOTLP := func(ct string, body []byte) {
		w := s.serveOTLP(otlpRequest(ct, body))
		answered[w.Code]++
		said.WriteString(w.Body.String())
	}
	e := newExported("service.name", secret, "service.instance.id", secret)
	p := number(e.sum("requests", cumulative, true), now-60_000, now, 1)
	p.Attributes().PutStr("user", secret)
	p.Attributes().PutStr("forbidden", secret)
	sendOTLP(otlpProtobuf, marshalOTLP(otlpProtobuf, e.Metrics))
	sendOTLP(otlpJSON, []byte(`{"resourceMetrics": [{"`+secret+`": "`+secret+`", "resource": "`+secret+`"}]}`))
	require.Greater(t, answered[http.StatusBadRequest], 15, "%v", answered)
	require.Greater(t, answered[http.StatusNoContent]+answered[http.StatusOK], 0, "%v", answered)

	require.NoError(t, ing.Flush(ctx, tenant.Anonymous))
	search := func() (files, hashed int) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			require.NotContains(t, string(content), "planted", path)
			hashed += strings.Count(string(content), "[email:")
			return nil
		}))
		return files, hashed
	}
	search() // while it runs
	cancel()
	require.NoError(t, <-done)
	files, hashed := search()
	require.Greater(t, files, 5)
	require.Greater(t, hashed, 3, "the search must find what is there instead")
	require.NotContains(t, log.String(), "planted")
	require.Contains(t, log.String(), "refused a part of a write request")
	require.NotContains(t, said.String(), "planted")
	require.Contains(t, said.String(), "[email")
}

// TestMessagesHideWhatIsRedacted: also where redaction does not look at what they
// quote.
func TestMessagesHideWhatIsRedacted(t *testing.T) {
	const secret = "planted.person@secret.example"
	s := newSetup(t, withRules(t, `redact: [{detector: email, action: drop, labels: user}]`), func(s *setup) {
		lim := tenant.DefaultLimits()
		lim.LegacyNamesOnly = true
		s.limits = func(string) *tenant.Limits { return &lim }
		s.cfg.OTLP.DeltaMaxSeries = 0
	})
	for name, hr := range map[string]*http.Request{
		"metric name": newRequest(proto.V1, marshal(proto.V1, series{labels: pairs("__name__", secret), floats: []proto.Float{{T: 1}}})),
		"family":      newRequest(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{{MetricFamilyName: secret + "\xff"}})),
		"long family": newRequest(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{{MetricFamilyName: secret + strings.Repeat("x", 5000)}})),
	} {
		t.Run(name, func(t *testing.T) {
			w := s.serve(hr)
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Contains(t, w.Body.String(), "[email]")
			require.NotContains(t, w.Body.String(), "planted")
		})
	}
	t.Run("untranslatable", func(t *testing.T) {
		e := newExported()
		number(e.sum(secret, pmetric.AggregationTemporalityDelta, true), 1, 2, 1)
		w := s.serveOTLP(otlpRequest(otlpJSON, marshalOTLP(otlpJSON, e.Metrics)))
		require.Contains(t, w.Body.String(), "[email]")
		require.NotContains(t, w.Body.String(), "planted")
	})
	require.NotContains(t, s.log.String(), "planted")
}
