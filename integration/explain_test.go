package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/value"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// cause is a way to have something refused. What it refuses is explained to who
// asks for selector, and counted under its own reason alone.
type cause struct {
	reason   string
	selector string // default m{case="<reason>"}
	provoke  func(c *caused)
}

// caused is a cause being provoked, for a tenant of its own.
type caused struct {
	*testing.T
	s    *harness.Server
	now  int64    // ms
	name []string // labels of the series that is refused
	sent map[string]float64
}

// causes has a case for each reason, and for some refusals of whole requests.
func causes() []cause {
	of := func(r proto.Reason, selector string, provoke func(*caused)) cause {
		return cause{r.ID(), selector, provoke}
	}
	whole := func(id string, provoke func(*caused)) cause { return cause{id, "", provoke} }
	bad := func(labels ...string) func(*caused) {
		return func(c *caused) { c.push(harness.Series{Labels: labels, Samples: c.at(0)}) }
	}
	// At a rate of one a second one request passes, one may be held, and a third is
	// refused, which is of the series in question.
	rate := func(id string, of func(*caused) harness.Series) cause {
		return cause{id, "", func(c *caused) {
			post := func(labels []string) {
				s := of(c)
				s.Labels = labels
				c.post(harness.V1, harness.Encode(c, harness.V1, s))
			}
			n := harness.CountOf(of(c))
			c.add(3*n.Samples, 3*n.Histograms, 3*n.Exemplars)
			post([]string{"__name__", "other", "case", "first"})
			var held sync.WaitGroup
			held.Go(func() { post([]string{"__name__", "other", "case", "second"}) })
			time.Sleep(200 * time.Millisecond)
			post(c.name)
			held.Wait()
		}}
	}
	wrong := bell()
	wrong.Count = 99
	return []cause{
		of(proto.LabelsMalformed, `{a="b"}`, func(c *caused) {
			label, sample := []byte{0x0a, 0xff}, protowire.AppendVarint([]byte{0x10}, uint64(c.now))
			c.post(harness.V1, s2.EncodeSnappy(nil, message(1, append(message(1, label), message(2, sample)...))))
		}),
		of(proto.SymbolInvalid, `{a="b"}`, func(c *caused) {
			body, err := (&writev2.Request{Symbols: []string{"", "__name__", "m"}, Timeseries: []writev2.TimeSeries{
				{LabelsRefs: []uint32{1, 2, 1}, Samples: []writev2.Sample{{Timestamp: c.now}}},
			}}).Marshal()
			require.NoError(c, err)
			c.post(harness.V2, s2.EncodeSnappy(nil, body))
		}),
		of(proto.MetricNameMissing, `{case="nameless"}`, bad("case", "nameless")),
		of(proto.MetricNameInvalid, `{__name__="m.m"}`, bad("__name__", "m.m")),
		of(proto.LabelNameInvalid, `m{"a.b"="c"}`, bad("__name__", "m", "a.b", "c")),
		of(proto.LabelValueInvalid, `m`, bad("__name__", "m", "a", "\xff")),
		of(proto.LabelNameDuplicate, `m{a="2"}`, bad("__name__", "m", "a", "1", "a", "2")),
		of(proto.LabelsTooMany, `m{a="1"}`, bad("__name__", "m", "a", "1", "b", "1", "c", "1", "d", "1", "e", "1")),
		of(proto.LabelNameTooLong, `m`, bad("__name__", "m", strings.Repeat("n", 65), "x")),
		of(proto.LabelValueTooLong, `m`, bad("__name__", "m", "a", strings.Repeat("v", 101))),
		of(proto.RelabelDropped, "", bad("__name__", "m", "case", proto.RelabelDropped.ID())),
		of(proto.ValueRejected, "", bad("__name__", "m", "case", proto.ValueRejected.ID(), "user", "ada@example.com")),
		of(proto.SeriesLimit, "", bad("__name__", "m", "case", proto.SeriesLimit.ID())),
		of(proto.MetricSeriesLimit, "", func(c *caused) {
			for _, a := range []string{"1", "2"} {
				c.push(harness.Series{Labels: append([]string{"a", a}, c.name...), Samples: c.at(0)})
			}
		}),
		of(proto.LabelSetSeriesLimit, "", func(c *caused) {
			for _, a := range []string{"1", "2"} {
				c.push(harness.Series{Labels: append([]string{"a", a}, c.name...), Samples: c.at(0)})
			}
		}),
		of(proto.LabelSetRate, "", func(c *caused) {
			all := make([]harness.Sample, 20) // ten more than there is to begin with
			for i := range all {
				all[i] = c.at(time.Duration(i) * time.Millisecond)[0]
			}
			c.push(harness.Series{Labels: c.name, Samples: all})
			c.push(harness.Series{Labels: c.name, Samples: c.at(time.Second)})
		}),
		of(proto.Quarantined, "", explode),
		of(proto.SampleTooFarInFuture, "", func(c *caused) { c.push(harness.Series{Labels: c.name, Samples: c.at(11 * time.Minute)}) }),
		of(proto.SampleTooOld, "", func(c *caused) { c.push(harness.Series{Labels: c.name, Samples: c.at(-2 * time.Hour)}) }),
		of(proto.SampleOutOfOrder, "", func(c *caused) {
			c.push(harness.Series{Labels: c.name, Samples: c.at(0)})
			c.push(harness.Series{Labels: c.name, Samples: c.at(-30 * time.Minute)})
		}),
		of(proto.SampleDuplicate, "", func(c *caused) {
			c.push(harness.Series{Labels: c.name, Samples: []harness.Sample{{T: c.now, V: 1}, {T: c.now, V: 2}}})
		}),
		of(proto.HistogramInvalid, "", func(c *caused) {
			c.push(harness.Series{Labels: c.name, Samples: []harness.Sample{{T: c.now, H: wrong}}})
		}),
		of(proto.HistogramTooManyBuckets, "", func(c *caused) {
			wide := bell()
			wide.PositiveSpans[0].Length += 20
			wide.PositiveBuckets = append(wide.PositiveBuckets, make([]int64, 20)...)
			c.push(harness.Series{Labels: c.name, Samples: []harness.Sample{{T: c.now, H: wide}}})
		}),
		of(proto.ExemplarInvalid, "", func(c *caused) {
			c.push(harness.Series{Labels: c.name, Samples: c.at(0), Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", strings.Repeat("x", 200)}, T: c.now}}})
		}),
		of(proto.ExemplarOutOfOrder, "", func(c *caused) {
			for _, back := range []int64{0, 20 * 60_000} {
				c.push(harness.Series{Labels: c.name, Samples: c.at(0), Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", "x"}, T: c.now - back}}})
			}
		}),
		of(proto.ExemplarWithoutSeries, "", func(c *caused) {
			c.post(harness.V1, harness.Encode(c, harness.V1, harness.Series{Labels: c.name, Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", "x"}, T: c.now}}}))
			c.add(0, 0, 1)
		}),
		of(proto.MetadataInvalid, `m`, func(c *caused) { c.metadata("", "help") }),
		of(proto.MetadataTooLong, `{__name__=~"mmm+"}`, func(c *caused) { c.metadata(strings.Repeat("m", 200), "help") }),
		of(proto.MetadataLimit, `m_2`, func(c *caused) {
			c.metadata("m_1", "help")
			c.metadata("m_2", "help")
		}),
		of(proto.PointUntranslatable, `m`, func(c *caused) {
			c.otlp(fmt.Sprintf(`{"name":"","gauge":{"dataPoints":[{"asDouble":1,"timeUnixNano":"%d000000"}]}}`, c.now))
		}),
		of(proto.DeltaOutOfOrder, `m_total`, func(c *caused) {
			c.delta("m", c.now)
			c.delta("m", c.now-1000)
		}),
		of(proto.DeltaTooManySeries, `m_2_total`, func(c *caused) {
			c.delta("m_1", c.now)
			c.delta("m_2", c.now)
		}),

		rate("weir-ingestion-rate", func(c *caused) harness.Series { return harness.Series{Samples: c.at(0)} }),
		rate("weir-request-rate", func(c *caused) harness.Series { return harness.Series{Samples: c.at(0)} }),
		rate("weir-ingestion-bytes-rate", func(c *caused) harness.Series { return harness.Series{Samples: c.at(0)} }),
		rate("weir-native-histogram-buckets-rate", func(c *caused) harness.Series {
			s := harness.Series{}
			for i := range int64(10) {
				s.Samples = append(s.Samples, harness.Sample{T: c.now + i, H: bell()})
			}
			return s
		}),
		rate("weir-exemplars-rate", func(c *caused) harness.Series {
			s := harness.Series{Samples: c.at(0)}
			for i := range int64(20) {
				s.Exemplars = append(s.Exemplars, harness.Exemplar{Labels: []string{"trace_id", fmt.Sprint(i)}, T: c.now + i})
			}
			return s
		}),

		whole("weir-tenant-suspended", func(c *caused) { c.post(harness.V1, harness.Encode(c, harness.V1)) }),
		whole("weir-tenant-held", func(c *caused) { c.post(harness.V2, harness.Encode(c, harness.V2)) }),
		whole("weir-request-malformed", func(c *caused) { c.post(harness.V1, s2.EncodeSnappy(nil, []byte("\x0a\xff\xff\xff"))) }),
		whole("weir-snappy-malformed", func(c *caused) { c.post(harness.V1, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")) }),
		whole("weir-zstd-malformed", func(c *caused) { c.post(harness.V1, []byte("no"), "Content-Encoding", "zstd") }),
		whole("weir-media-type-unsupported", func(c *caused) { c.post(harness.V1, nil, "Content-Type", "text/plain") }),
		whole("weir-request-too-large", func(c *caused) { c.post(harness.V1, make([]byte, 1<<20)) }),
		whole("weir-too-many-series", func(c *caused) {
			var all []harness.Series
			for i := range 30 {
				all = append(all, harness.Series{Labels: []string{"__name__", fmt.Sprint("m_", i)}, Samples: c.at(0)})
			}
			c.post(harness.V1, harness.Encode(c, harness.V1, all...))
		}),
		whole("weir-too-many-samples", func(c *caused) {
			c.post(harness.V1, harness.Encode(c, harness.V1, harness.Series{Labels: c.name, Samples: make([]harness.Sample, 60)}))
		}),
		whole("weir-too-many-symbols", func(c *caused) {
			body, err := (&writev2.Request{Symbols: make([]string, 300)}).Marshal()
			require.NoError(c, err)
			c.post(harness.V2, s2.EncodeSnappy(nil, body))
		}),
	}
}

// explode sends a label that is another in each series, until they are held back.
// That takes 50,000 within a minute by the clock, or a minute more.
func explode(c *caused) {
	for next := 0; next < 200_000; {
		all := make([]harness.Series, 20)
		for i := range all {
			all[i] = harness.Series{Labels: append([]string{"request_id", fmt.Sprint(next)}, c.name...), Samples: c.at(0)}
			next++
		}
		a, err := c.s.Post(c.Context(), harness.V2, harness.Encode(c, harness.V2, all...))
		require.NoError(c, err)
		c.add(len(all), 0, 0)
		if a.Status != http.StatusNoContent {
			require.Contains(c, a.Body, "request_id")
			return
		}
	}
	c.Fatal("took all of it")
}

// limited are the tenants of TestEveryReason with settings of their own.
const limited = `
weir-relabel-dropped: {relabel: {metric_relabel_configs: [{source_labels: [case], regex: '.+', action: drop}]}}
weir-value-rejected: {relabel: {redact: [{detector: email, action: reject}]}}
weir-series-limit: {limits: {max_active_series: 1}}
weir-metric-series-limit: {limits: {max_series_per_metric: 1}}
weir-label-set-series-limit: {limits: {label_sets: [{name: mine, match: '{case=~".+"}', max_active_series: 1}]}}
weir-quarantined: {limits: {quarantine: enforce}}
weir-ingestion-rate: {limits: {ingestion_rate: 1, ingestion_burst_size: 1}}
weir-request-rate: {limits: {request_rate: 1, request_burst_size: 1}}
weir-ingestion-bytes-rate: {limits: {ingestion_bytes_rate: 1}}
weir-native-histogram-buckets-rate: {limits: {native_histogram_buckets_rate: 1}}
weir-exemplars-rate: {limits: {exemplars_rate: 1}}
weir-tenant-suspended: {state: read-only}
weir-tenant-held: {state: held}
weir-label-set-rate: {limits: {label_sets: [{name: mine, match: '{case=~".+"}', ingestion_rate: 1}]}}
`

// at is a sample that is after the present.
func (c *caused) at(after time.Duration) []harness.Sample {
	return []harness.Sample{{T: c.now + after.Milliseconds(), V: 1}}
}

func (c *caused) post(p harness.Protocol, body []byte, header ...string) {
	c.Helper()
	_, err := c.s.Post(c.Context(), p, body, header...)
	require.NoError(c, err)
}

// push sends a series beside one that is well.
func (c *caused) push(bad harness.Series) {
	c.Helper()
	good := harness.Series{Labels: []string{"__name__", "good"}, Samples: c.at(0)}
	p := harness.V2
	if len(c.sent) > 0 {
		p = harness.V1
	}
	c.post(p, harness.Encode(c, p, good, bad))
	n := harness.CountOf(good, bad)
	c.add(n.Samples, n.Histograms, n.Exemplars)
}

func (c *caused) add(floats, histograms, exemplars int) {
	for kind, n := range map[string]int{"float": floats, "histogram": histograms, "exemplar": exemplars} {
		if n > 0 {
			c.sent[kind] += float64(n)
		}
	}
}

// metadata sends what version 1 says of a metric family.
func (c *caused) metadata(family, help string) {
	m := append(message(2, []byte(family)), message(4, []byte(help))...)
	c.post(harness.V1, s2.EncodeSnappy(nil, message(3, m)))
	c.sent["metadata"]++
}

// delta sends one by OTLP.
func (c *caused) delta(name string, t int64) {
	c.otlp(fmt.Sprintf(`{"name":%q,"sum":{"isMonotonic":true,"aggregationTemporality":1,
		"dataPoints":[{"asDouble":1,"startTimeUnixNano":"%d000000","timeUnixNano":"%d000000"}]}}`, name, t-1000, t))
}

// otlp sends a metric with one data point.
func (c *caused) otlp(metric string) {
	hr, err := http.NewRequestWithContext(c.Context(), http.MethodPost, c.s.OTLPURL(),
		strings.NewReader(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[`+metric+`]}]}]}`))
	require.NoError(c, err)
	hr.Header.Set("Content-Type", "application/json")
	hr.Header.Set("User-Agent", "weir-integration/1")
	hr.Header.Set("X-Scope-OrgID", tenantOf(c.Name()))
	resp, err := http.DefaultClient.Do(hr)
	require.NoError(c, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(c, err)
	require.Equal(c, http.StatusOK, resp.StatusCode, "%s", text)
	c.sent["float"]++
}

func tenantOf(test string) string { return test[strings.LastIndex(test, "/")+1:] }

// TestEveryReason provokes every reason there is, in a weir that runs. Each is
// counted under its own id alone, what was received is what was written and what
// was discarded, the tenant finds it among its rejections, and weir explain names
// it.
func TestEveryReason(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("reasons are weir's")
	}
	file := filepath.Join(t.TempDir(), "tenants.yml")
	require.NoError(t, os.WriteFile(file, []byte("tenants:"+strings.ReplaceAll(limited, "\n", "\n  ")), 0o600))
	s := harness.Start(t, harness.Config{Set: []string{
		"auth.mode=header", "tenants.file=" + file, "self_metrics.enabled=false", "limits.legacy_names_only=true", "limits.past_grace=1h",
		"limits.max_labels_per_series=5", "limits.max_label_name_bytes=64", "limits.max_label_value_bytes=100",
		"limits.max_histogram_buckets=10", "limits.max_metadata_bytes=100", "limits.max_metadata_entries=1", "receiver.otlp.delta_max_series_per_tenant=1",
		"receiver.max_request_bytes=100000", "receiver.max_series_per_request=20", "receiver.max_samples_per_request=50", "receiver.max_symbols_per_request=200",
	}})
	covered := map[string]bool{}
	for _, x := range causes() {
		covered[x.reason] = true
		t.Run(x.reason, func(t *testing.T) { checkCause(t, s, x) })
	}
	t.Run("bound label", func(t *testing.T) {
		x := cause{reason: proto.BoundLabelConflict.ID(), selector: `m{env="dev"}`, provoke: func(c *caused) {
			c.push(harness.Series{Labels: []string{"__name__", "m", "env", "dev"}, Samples: c.at(0)})
		}}
		covered[x.reason] = true
		checkCause(t, boundTo(t, x.reason, "prod"), x)
	})
	for r := proto.OK + 1; r < proto.Reasons; r++ {
		require.True(t, covered[r.ID()], "%s: add a case to causes", r.ID())
	}
	require.GreaterOrEqual(t, len(covered), 25)
}

// boundTo starts a weir in mode required, and speaks to it with a credential of the
// tenant that binds env to a value, and refuses what has another. The environment
// of commands has it, too.
func boundTo(t *testing.T, id, env string) *harness.Server {
	file := filepath.Join(t.TempDir(), "tenants.yml")
	secret, hash := tenant.NewSecret()
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
tenants: {%[1]s: {}}
credentials:
- {id: %[1]s, tenants: [%[1]s], scopes: [write, read, admin], labels: [{name: env, value: %[2]s, on_conflict: reject}], secrets: [{sha256: %[3]x}]}
`, id, env, hash[:]), 0o600))
	t.Setenv("WEIR_TOKEN", secret)
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=required", "tenants.file=" + file, "self_metrics.enabled=false"}})
	return s.Through(&http.Client{Transport: bearer(secret)})
}

// bearer adds a secret to each request.
type bearer string

func (b bearer) RoundTrip(hr *http.Request) (*http.Response, error) {
	hr = hr.Clone(hr.Context())
	hr.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(hr)
}

func checkCause(t *testing.T, s *harness.Server, x cause) {
	mine := s.As(x.reason)
	before := writeCounters(t, s)
	c := &caused{T: t, s: mine, now: time.Now().UnixMilli(), name: []string{"__name__", "m", "case", x.reason}, sent: map[string]float64{}}
	x.provoke(c)
	after := writeCounters(t, s)

	received, kept, discarded := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for k, n := range after {
		n -= before[k]
		if n == 0 {
			continue
		}
		switch k.metric {
		case "weir_receiver_received_samples_total":
			received[k.kind] += n
		case "weir_receiver_written_samples_total":
			kept[k.kind] += n
		case "weir_receiver_discarded_samples_total":
			kept[k.kind] += n
			discarded[k.reason] += n
		}
	}
	require.Equal(t, received, kept, "received is written and discarded")
	if len(c.sent) > 0 {
		if c.sent["metadata"] == 0 {
			delete(received, "metadata") // which comes with OTLP
		}
		require.Equal(t, c.sent, received, "sent is received")
		require.Len(t, discarded, 1, "%v", discarded)
		require.Positive(t, discarded[x.reason], "%v", discarded)
	}

	var rejections []struct {
		Reason  string
		Example struct{ Detail string }
	}
	mine.Get(t, "/api/v1/rejections", url.Values{}, &rejections)
	require.Len(t, rejections, 1)
	require.Equal(t, x.reason, rejections[0].Reason)
	require.NotEmpty(t, rejections[0].Example.Detail)

	if x.selector == "" {
		x.selector = fmt.Sprintf(`m{case=%q}`, x.reason)
	}
	said := explained(t, mine, x.reason, x.selector)
	require.Contains(t, said, "\n1. "+x.reason+" (", "it comes first")
	require.Contains(t, said, "to do:  ")
	require.Contains(t, said, "weir-integration/1", "the sender")
}

// counter is a series of the write path's counters.
type counter struct{ metric, kind, reason string }

func writeCounters(t *testing.T, s *harness.Server) map[counter]float64 {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(s.Text(t, "/metrics")))
	require.NoError(t, err)
	out := map[counter]float64{}
	for _, name := range []string{"weir_receiver_received_samples_total", "weir_receiver_written_samples_total", "weir_receiver_discarded_samples_total"} {
		for _, m := range families[name].GetMetric() {
			k := counter{metric: name}
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "type":
					k.kind = l.GetValue()
				case "reason":
					k.reason = l.GetValue()
				}
			}
			out[k] = m.GetCounter().GetValue()
		}
	}
	return out
}

// explained is what weir explain prints.
func explained(t *testing.T, s *harness.Server, tenant, selector string, flags ...string) string {
	t.Helper()
	args := append([]string{"explain", "-url", s.Process().URL, "-tenant", tenant}, append(flags, selector)...)
	out, err := exec.CommandContext(t.Context(), harness.Binary(t), args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// TestExplainWhatIsNoRefusal: series that end, fall silent, were never sent, or
// that are asked for by the wrong label, and clocks.
func TestExplainWhatIsNoRefusal(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own")
	}
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=header"}})
	now := time.Now().UnixMilli()
	series := func(name string, t int64, v float64) harness.Series {
		return harness.Series{Labels: []string{"__name__", name, "job", "a"}, Samples: []harness.Sample{{T: t, V: v}}}
	}
	ended := series("ended", now-2000, 1)
	ended.Samples = append(ended.Samples, harness.Sample{T: now - 1000, V: math.Float64frombits(value.StaleNaN)})
	for _, c := range []struct {
		name, selector string
		series         []harness.Series
		want           []string
	}{
		{"stored", `up`, []harness.Series{series("up", now, 1)}, []string{"stored: The last sample stored is of ", "Nothing of it was refused"}},
		{"ended", `ended`, []harness.Series{ended}, []string{"ended: ", "series-ended (series)", `__name__="ended"`}},
		{"silent", `silent`, []harness.Series{series("silent", now-9*60_000, 1)}, []string{"silent: ", "series-silent (series)", "sender-lagging (tenant)"}},
		{"other label", `up{job="b"}`, []harness.Series{series("up", now, 1)}, []string{"unknown: ", "matcher-selects-nothing (metric)", `job="b"`}},
		{"never", `nothing`, []harness.Series{series("up", now, 1)}, []string{"unknown: ", "never-received (series)"}},
		{"nobody", `up`, nil, []string{"unknown: ", "sender-missing (tenant)"}},
		{"ahead", `up`, []harness.Series{series("up", now+5*60_000, 1)}, []string{"stored: ", "sender-clock-ahead (tenant)", "tenant-clock-ahead (tenant)"}},
		{"spelled badly", `up{job="` + strings.Repeat("x", 5000) + `"}`, nil, []string{"refused: ", "weir-label-value-too-long (series)", "limits.max_label_value_bytes is 4096"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tenant := strings.ReplaceAll(c.name, " ", "-")
			if len(c.series) > 0 {
				s.As(tenant).Accept(t, harness.V2, c.series...)
			}
			said := explained(t, s, tenant, c.selector)
			for _, want := range c.want {
				require.Contains(t, said, want)
			}
		})
	}

	var list []struct{ Verdict string }
	require.NoError(t, json.Unmarshal([]byte(explained(t, s, "ended", "ended", "-json")), &list))
	require.Equal(t, "ended", list[0].Verdict)
	out, err := exec.CommandContext(t.Context(), harness.Binary(t), "explain", "-url", s.Process().URL, "up").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "weir-tenant-missing")
}
