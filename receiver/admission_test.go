package receiver_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// TestAdmission decides about one series at a time, each twice: the second time
// the verdict is remembered, and must be the same.
func TestAdmission(t *testing.T) {
	legacy := func(l *tenant.Limits) { l.LegacyNamesOnly = true }
	few := func(l *tenant.Limits) {
		l.MaxLabelsPerSeries, l.MaxLabelNameBytes, l.MaxLabelValueBytes = 3, 8, 6
	}
	for _, c := range []struct {
		name   string
		limits func(*tenant.Limits)
		labels []labels.Label
		stored string // the canonical labels
		reason string
	}{
		{name: "name only", labels: pairs("__name__", "up"), stored: `{__name__="up"}`},
		{name: "sorted", labels: pairs("__name__", "up", "a", "1", "b", "2"), stored: `{__name__="up", a="1", b="2"}`},
		{name: "not sorted", labels: pairs("b", "2", "__name__", "up", "a", "1"), stored: `{__name__="up", a="1", b="2"}`},
		{name: "capitals sort before underscores", labels: pairs("__name__", "up", "A", "1"), stored: `{A="1", __name__="up"}`},
		{name: "UTF-8", labels: pairs("__name__", "größe.in bytes", "wie groß?", "sehr 🐘"), stored: `{__name__="größe.in bytes", "wie groß?"="sehr 🐘"}`},
		{name: "label without a value is none", labels: pairs("__name__", "up", "a", "", "b", "2"), stored: `{__name__="up", b="2"}`},
		{name: "label twice, once without a value", labels: pairs("__name__", "up", "a", "", "a", "1"), stored: `{__name__="up", a="1"}`},
		{name: "control characters", labels: pairs("__name__", "up", "a", "\x00\n\t"), stored: "{__name__=\"up\", a=\"\\x00\\n\\t\"}"},

		{name: "no labels", reason: "weir-metric-name-missing"},
		{name: "no metric name", labels: pairs("a", "1"), reason: "weir-metric-name-missing"},
		{name: "empty metric name", labels: pairs("__name__", "", "a", "1"), reason: "weir-metric-name-missing"},
		{name: "metric name not UTF-8", labels: pairs("__name__", "\xff"), reason: "weir-label-value-invalid"},
		{name: "empty label name", labels: pairs("__name__", "up", "", "1"), reason: "weir-label-name-invalid"},
		{name: "empty label", labels: pairs("__name__", "up", "", ""), reason: "weir-label-name-invalid"},
		{name: "label name not UTF-8", labels: pairs("__name__", "up", "a\xc3", "1"), reason: "weir-label-name-invalid"},
		{name: "label value not UTF-8", labels: pairs("__name__", "up", "a", "1\xc3"), reason: "weir-label-value-invalid"},
		{name: "surrogate", labels: pairs("__name__", "up", "a", "\xed\xa0\x80"), reason: "weir-label-value-invalid"},
		{name: "label twice", labels: pairs("__name__", "up", "a", "1", "a", "1"), reason: "weir-label-name-duplicate"},
		{name: "label twice, apart", labels: pairs("a", "1", "__name__", "up", "a", "2"), reason: "weir-label-name-duplicate"},
		{name: "metric name twice", labels: pairs("__name__", "up", "__name__", "down"), reason: "weir-label-name-duplicate"},

		{name: "as many labels as allowed", limits: few, labels: pairs("__name__", "up", "a", "1", "b", "2"), stored: `{__name__="up", a="1", b="2"}`},
		{name: "too many labels", limits: few, labels: pairs("__name__", "up", "a", "1", "b", "2", "c", "3"), reason: "weir-labels-too-many"},
		{name: "labels without a value do not count", limits: few, labels: pairs("__name__", "up", "a", "1", "b", "2", "c", "", "d", ""), stored: `{__name__="up", a="1", b="2"}`},
		{name: "name as long as allowed", limits: few, labels: pairs("__name__", "up", "12345678", "1"), stored: `{"12345678"="1", __name__="up"}`},
		{name: "name too long", limits: few, labels: pairs("__name__", "up", "123456789", "1"), reason: "weir-label-name-too-long"},
		{name: "name too long in bytes", limits: few, labels: pairs("__name__", "up", "ääääa", "1"), reason: "weir-label-name-too-long"},
		{name: "value as long as allowed", limits: few, labels: pairs("__name__", "123456"), stored: `{__name__="123456"}`},
		{name: "value too long", limits: few, labels: pairs("__name__", "up", "a", "1234567"), reason: "weir-label-value-too-long"},
		{name: "value too long in bytes", limits: few, labels: pairs("__name__", "up", "a", "äääa"), reason: "weir-label-value-too-long"},
		{name: "metric name too long", limits: few, labels: pairs("__name__", "1234567"), reason: "weir-label-value-too-long"},

		{name: "legacy names", limits: legacy, labels: pairs("__name__", "job:up:sum_5m", "_a1", "größe"), stored: `{__name__="job:up:sum_5m", _a1="größe"}`},
		{name: "legacy, metric name with a dot", limits: legacy, labels: pairs("__name__", "a.b"), reason: "weir-metric-name-invalid"},
		{name: "legacy, metric name starts with a digit", limits: legacy, labels: pairs("__name__", "1up"), reason: "weir-metric-name-invalid"},
		{name: "legacy, label name with a colon", limits: legacy, labels: pairs("__name__", "up", "a:b", "1"), reason: "weir-label-name-invalid"},
		{name: "legacy, label name in UTF-8", limits: legacy, labels: pairs("__name__", "up", "größe", "1"), reason: "weir-label-name-invalid"},
	} {
		for _, v := range versions {
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				lim := tenant.DefaultLimits()
				if c.limits != nil {
					c.limits(&lim)
				}
				s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return &lim } })
				message := marshal(v, series{labels: c.labels, floats: []proto.Float{{T: time.Now().UnixMilli(), V: 1}}})
				for range 2 {
					hr, recorded := record(newRequest(v, message))
					w := s.serve(hr)
					if c.reason != "" {
						require.Equal(t, http.StatusBadRequest, w.Code)
						require.True(t, strings.HasPrefix(w.Body.String(), c.reason+": "), w.Body.String())
						require.Empty(t, recorded.series)
						continue
					}
					require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
					require.Len(t, recorded.series, 1)
					require.Equal(t, c.stored, recorded.series[0].labels.String())
				}
				require.Equal(t, 1, s.counters(t, "weir_receiver_admissions_total")[""], "the second request found the verdict")
			})
		}
	}
}

// TestOneIdentity sends a series in every spelling: the ingester sees one.
func TestOneIdentity(t *testing.T) {
	s := newSetup(t)
	ls := pairs("__name__", "up", "a", "1", "b", "2")
	spellings := [][]labels.Label{ls, pairs("b", "2", "a", "1", "__name__", "up"), append(slices.Clone(ls), pairs("c", "")...)}
	for range 2 {
		for _, v := range versions {
			for _, spelled := range spellings {
				w := s.send(v, marshal(v, series{labels: spelled, floats: []proto.Float{{T: time.Now().UnixMilli(), V: 1}}}))
				require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
			}
		}
	}
	require.Len(t, s.memory.tenants[tenant.Anonymous], 1)
	require.Equal(t, 6, s.counters(t, "weir_receiver_admissions_total")[""], "each spelling has a verdict of its own")
}

// TestNewSeriesTwice: a series that is new and there several times is one.
func TestNewSeriesTwice(t *testing.T) {
	for _, v := range versions {
		s := newSetup(t)
		one := series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: time.Now().UnixMilli(), V: 1}}}
		for range 2 {
			hr, recorded := record(newRequest(v, marshal(v, one, one, one)))
			require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
			require.Len(t, recorded.stored(), 3)
			require.Equal(t, 1, s.counters(t, "weir_receiver_admission_entries")[""])
		}
	}
}

// TestTenantsAreApart: the same series of two tenants have nothing in common.
func TestTenantsAreApart(t *testing.T) {
	narrow, wide := tenant.DefaultLimits(), tenant.DefaultLimits()
	narrow.MaxLabelsPerSeries = 1
	s := newSetup(t, headerMode, func(s *setup) {
		s.limits = func(id string) *tenant.Limits {
			if id == "narrow" {
				return &narrow
			}
			return &wide
		}
	})
	message := marshal(proto.V1, series{labels: pairs("__name__", "up", "a", "1"), floats: []proto.Float{{T: time.Now().UnixMilli(), V: 1}}})
	for range 2 {
		for id, status := range map[string]int{"narrow": http.StatusBadRequest, "wide": http.StatusNoContent, "wider": http.StatusNoContent} {
			hr, recorded := record(newRequest(proto.V1, message))
			hr.Header.Set("X-Scope-OrgID", id)
			require.Equal(t, status, s.serve(hr).Code)
			require.Equal(t, id, recorded.tenant)
		}
	}
	ids := map[proto.Hash]bool{}
	for _, known := range s.memory.tenants {
		for id := range known {
			ids[id] = true
		}
	}
	require.Len(t, ids, 2, "the identities differ, so that a tenant learns nothing of another's")
	require.Equal(t, 3, s.counters(t, "weir_receiver_admission_entries")[""])
}

// TestLimitsChange: a new version of the limits holds for the next request.
func TestLimitsChange(t *testing.T) {
	lim := tenant.DefaultLimits()
	current := &lim
	s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return current } })
	for _, v := range versions {
		message := marshal(v, series{labels: pairs("__name__", "up", "a", "1"), floats: []proto.Float{{T: time.Now().UnixMilli(), V: 1}}})
		for _, most := range []int{64, 1, 1, 64, 2, 1} {
			next := tenant.DefaultLimits()
			next.MaxLabelsPerSeries = most
			current = &next
			for range 2 {
				want := http.StatusNoContent
				if most < 2 {
					want = http.StatusBadRequest
				}
				require.Equal(t, want, s.send(v, message).Code)
			}
		}
	}
}

// TestGenerations: verdicts are bounded in number, and those still asked for
// stay.
func TestGenerations(t *testing.T) {
	const entries = 10
	s := newSetup(t, func(s *setup) { s.cfg.AdmissionEntries = entries })
	now := time.Now().UnixMilli()
	one := func(name string) series {
		return series{labels: pairs("__name__", name), floats: []proto.Float{{T: now, V: 1}}}
	}
	for i := range 100 {
		w := s.send(proto.V1, marshal(proto.V1, one("steady"), one("new_"+strings.Repeat("x", i))))
		require.Equal(t, http.StatusNoContent, w.Code)
		require.LessOrEqual(t, s.counters(t, "weir_receiver_admission_entries")[""], 2*entries)
	}
	// The series that is always there was parsed once: it moves from the old
	// generation to the new one.
	require.Len(t, s.memory.tenants[tenant.Anonymous], 101)
	require.Equal(t, 101, s.counters(t, "weir_receiver_admissions_total")[""])
	require.Zero(t, s.counters(t, "weir_receiver_taught_series_total")[""])
	// A request larger than a generation works as well.
	var many []series
	for i := range 5 * entries {
		many = append(many, one("many_"+strings.Repeat("x", i)))
	}
	for range 3 {
		require.Equal(t, http.StatusNoContent, s.send(proto.V2, marshal(proto.V2, many...)).Code)
	}
}

// TestTeach: labels go out with a series that is new, and when the ingester
// asks for them.
func TestTeach(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t)
			send := func() *recording {
				hr, recorded := record(newRequest(v, mixed(v)))
				w := s.serve(hr)
				require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
				require.Len(t, recorded.stored(), mixedCounts.Total())
				return recorded
			}
			require.Equal(t, 1, send().writes, "new series bring their labels")
			require.Equal(t, 1, send().writes, "known ones need none")
			s.memory.forgets = 1
			require.Equal(t, 2, send().writes, "forgotten ones are taught")
			require.Equal(t, 3, s.counters(t, "weir_receiver_taught_series_total")[""])
			s.memory.forgets = 0
			require.Equal(t, 1, send().writes)
		})
	}
}

// TestTeachSome: only what the ingester asks for is sent again.
func TestTeachSome(t *testing.T) {
	now := time.Now().UnixMilli()
	var all []series
	for i := range 50 {
		all = append(all, series{
			labels: pairs("__name__", "up", "i", strings.Repeat("x", i)), floats: []proto.Float{{T: now, V: float64(i)}, {T: now + 1, V: float64(i)}}[:i%3],
			histograms: []proto.Histogram{{T: now, H: oneBucket()}}[:i%2], exemplars: []exemplarToSend{{v: float64(i), t: now}}[:i/7%2],
		})
	}
	for _, v := range versions {
		s := newSetup(t)
		message := marshal(v, all...)
		hr, first := record(newRequest(v, message))
		require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
		s.memory.forgets = 0.3
		for range 5 {
			hr, again := record(newRequest(v, message))
			require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
			require.Equal(t, first.stored(), again.stored())
		}
	}
}

// TestHandles: what the ingester answered is the hint of the next request.
func TestHandles(t *testing.T) {
	for _, v := range versions {
		s := newSetup(t)
		for i := range 4 {
			s.memory.moves = float64(i % 2)
			require.Equal(t, http.StatusNoContent, s.send(v, mixed(v)).Code)
		}
		hints := &handles{memory: s.memory}
		s.Ingester = hints
		s.memory.moves = 0
		require.Equal(t, http.StatusNoContent, s.send(v, mixed(v)).Code)
		require.Equal(t, 3, hints.right)
		require.Zero(t, hints.wrong)
	}
}

// handles counts hints that are right.
type handles struct {
	*memory
	right, wrong int
}

func (h *handles) Write(ctx context.Context, tenantID string, f *proto.Frame, reply *proto.Reply) error {
	for _, s := range f.Series {
		if k := h.tenants[tenant.Anonymous][s.ID]; k != nil && k.handle == s.Handle {
			h.right++
		} else {
			h.wrong++
		}
	}
	return h.memory.Write(ctx, tenantID, f, reply)
}

// TestMetadataOfVersion2 is passed on when it is new, not with every request.
func TestMetadataOfVersion2(t *testing.T) {
	now := time.Now().UnixMilli()
	one := func(name, help string) series {
		return series{
			labels: pairs("__name__", name), floats: []proto.Float{{T: now, V: 1}},
			typ: writev2.Metadata_METRIC_TYPE_COUNTER, help: help, unit: "seconds",
		}
	}
	s := newSetup(t)
	send := func(all ...series) []string {
		hr, recorded := record(newRequest(proto.V2, marshal(proto.V2, all...)))
		s.serve(hr)
		return recorded.said()
	}
	require.Equal(t, []string{`"up" counter "Help." "seconds"`}, send(one("up", "Help.")))
	require.Empty(t, send(one("up", "Help.")), "said before")
	require.Equal(t, []string{`"up" counter "Other." "seconds"`}, send(one("up", "Other.")), "changed")
	require.Empty(t, send(one("up", "Other.")))
	require.Equal(t, []string{`"down" counter "Help." "seconds"`}, send(one("up", "Other."), one("down", "Help.")), "of another series")

	s.memory.fail = func(int) error { return unavailable() }
	require.Empty(t, send(one("up", "Third.")))
	s.memory.fail = nil
	require.Equal(t, []string{`"up" counter "Third." "seconds"`}, send(one("up", "Third.")), "not passed on the first time")

	without := one("up", "")
	without.typ, without.unit = 0, ""
	require.Empty(t, send(without), "says nothing")
	require.Empty(t, send(one("up", "Third.")), "and so changes nothing")

	refused := one("up", "Of a refused series.")
	refused.labels = pairs("a", "b")
	require.Empty(t, send(refused))
}

// TestMetadataSaidAgain: the series of a family say the same, one behind the
// other; it is passed on once.
func TestMetadataSaidAgain(t *testing.T) {
	now := time.Now().UnixMilli()
	part := func(name, le string) series {
		return series{labels: pairs("__name__", name, "le", le), floats: []proto.Float{{T: now}}, typ: writev2.Metadata_METRIC_TYPE_HISTOGRAM, help: "Help."}
	}
	s := newSetup(t)
	hr, recorded := record(newRequest(proto.V2, marshal(proto.V2,
		part("a_bucket", "1"), part("a_bucket", "2"), part("a_sum", ""), part("a_count", ""), part("b_bucket", "1"), part("a_bucket", "3"),
	)))
	require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
	require.Equal(t, []string{`"a" histogram "Help." ""`, `"a" histogram "Help." ""`, `"b" histogram "Help." ""`}, recorded.said())

	one := prompb.MetricMetadata{MetricFamilyName: "a", Help: "Help."}
	hr, recorded = record(newRequest(proto.V1, marshalWith(proto.V1, []prompb.MetricMetadata{one, one})))
	require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
	require.Equal(t, []string{`"a" unknown "Help." ""`}, recorded.said())
}

// TestMetadata: what is kept of a statement.
func TestMetadata(t *testing.T) {
	lim := tenant.DefaultLimits()
	lim.MaxMetadataBytes = 20
	for _, c := range []struct {
		name, family, help, unit string
		want                     string
		reason                   string
	}{
		{name: "complete", family: "up", help: "Help.", unit: "seconds", want: `"up" gauge "Help." "seconds"`},
		{name: "help cut to what is allowed", family: "up", help: "A long help text of many words.", unit: "s", want: `"up" gauge "A long help text " "s"`},
		{name: "help of just the right length", family: "up", help: "123456789 12345678", want: `"up" gauge "123456789 12345678" ""`},
		{name: "help is not cut within a character", family: "up", help: "123456789 1234567ö", want: `"up" gauge "123456789 1234567" ""`},
		{name: "help is not cut within a large character", family: "up", help: "123456789 12345🐘", want: `"up" gauge "123456789 12345" ""`},
		{name: "no room for help", family: "12345678901234567890", help: "Help.", want: `"12345678901234567890" gauge "" ""`},
		{name: "name too long", family: "123456789012345678901", reason: "weir-metadata-too-long"},
		{name: "name and unit too long", family: "1234567890", unit: "12345678901", reason: "weir-metadata-too-long"},
		{name: "name in UTF-8", family: "größe", want: `"größe" gauge "" ""`},
		{name: "name not UTF-8", family: "\xff", reason: "weir-metadata-invalid"},
		{name: "help not UTF-8", family: "up", help: "a\xffb", reason: "weir-metadata-invalid"},
		{name: "unit not UTF-8", family: "up", unit: "\xff", reason: "weir-metadata-invalid"},
		{name: "no name", help: "Help.", reason: "weir-metadata-invalid"},
	} {
		for _, v := range versions {
			if v == proto.V2 && c.reason == "weir-metadata-invalid" && c.help == "" && c.unit == "" || v == proto.V2 && c.family == "" {
				continue // such a series is refused for its name
			}
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return &lim } })
				message := marshalWith(v, []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: c.family, Help: c.help, Unit: c.unit}})
				if v == proto.V2 {
					message = marshal(v, series{
						labels: pairs("__name__", c.family), floats: []proto.Float{{T: time.Now().UnixMilli()}},
						typ: writev2.Metadata_METRIC_TYPE_GAUGE, help: c.help, unit: c.unit,
					})
				}
				hr, recorded := record(newRequest(v, message))
				w := s.serve(hr)
				if c.reason != "" {
					require.Equal(t, http.StatusBadRequest, w.Code)
					require.True(t, strings.HasPrefix(w.Body.String(), c.reason+": refused 1 "), w.Body.String())
					require.Equal(t, map[string]int{c.reason + " metadata": 1}, s.counters(t, "weir_receiver_discarded_samples_total"))
					require.Empty(t, recorded.said())
					return
				}
				require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
				require.Equal(t, []string{c.want}, recorded.said())
			})
		}
	}
}

// TestWriteV2 is the way of our own metrics.
func TestWriteV2(t *testing.T) {
	s := newSetup(t)
	message := mixed(proto.V2)
	require.NoError(t, s.WriteV2(t.Context(), "self", message))
	require.Equal(t, mixed(proto.V2)[:10], message[:10], "the message is the caller's")
	require.Len(t, s.memory.tenants["self"], 3)
	require.Equal(t, map[string]int{"float": 3, "histogram": 2, "exemplar": 1}, s.counters(t, "weir_receiver_written_samples_total"))

	err := s.WriteV2(t.Context(), "self", partly(proto.V2))
	require.Equal(t, proto.KindBadData, proto.KindOf(err))
	require.ErrorContains(t, err, "weir-metric-name-missing: refused 4 samples")
	require.NotContains(t, err.Error(), "weir-metric-name-missing: weir-metric-name-missing", "the id once")

	require.Equal(t, proto.Malformed(), s.WriteV2(t.Context(), "self", []byte{0x2a, 9}))
	s.memory.fail = func(int) error { return unavailable() }
	require.Equal(t, proto.KindUnavailable, proto.KindOf(s.WriteV2(t.Context(), "self", message)))
}

// TestMetrics: the counters agree with what happened.
func TestMetrics(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			s := newSetup(t)
			require.Equal(t, http.StatusBadRequest, s.send(v, partly(v)).Code)
			require.Equal(t, map[string]int{"float": 4, "histogram": 2, "exemplar": 2}, s.counters(t, "weir_receiver_received_samples_total"))
			require.Equal(t, map[string]int{"float": 2, "histogram": 1, "exemplar": 1}, s.counters(t, "weir_receiver_written_samples_total"))
			require.Equal(t, map[string]int{
				"weir-metric-name-missing float": 1, "weir-metric-name-missing histogram": 1, "weir-exemplar-invalid exemplar": 1, "weir-sample-out-of-order float": 1,
			}, s.counters(t, "weir_receiver_discarded_samples_total"))
			require.Equal(t, map[string]int{v.String() + " weir-metric-name-missing": 1}, s.counters(t, "weir_receiver_requests_total"))
			require.Equal(t, 3, s.counters(t, "weir_receiver_admissions_total")[""])
			require.Equal(t, 3, s.counters(t, "weir_receiver_admission_entries")[""])
			bytes := s.counters(t, "weir_receiver_request_bytes_total")
			require.Positive(t, bytes["compressed"])
			require.Equal(t, len(partly(v)), bytes["decoded"])

			s.memory.fail = func(int) error { return unavailable() }
			require.Equal(t, http.StatusServiceUnavailable, s.send(v, partly(v)).Code)
			require.Equal(t, 8, s.counters(t, "weir_receiver_received_samples_total")["float"])
			require.Equal(t, 2, s.counters(t, "weir_receiver_written_samples_total")["float"])
			require.Equal(t, 4, s.counters(t, "weir_receiver_discarded_samples_total")["weir-starting float"], "they will come again")
		})
	}
}
