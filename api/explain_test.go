package api

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// TestRemedies: whoever is told a reason is told what to do.
func TestRemedies(t *testing.T) {
	for r := proto.OK + 1; r < proto.Reasons; r++ {
		require.NotEmpty(t, remedies[r], "%s has no remedy", r.ID())
		require.Equal(t, remedies[r], remedyOf(r.ID()))
		require.Equal(t, docsURL+r.ID(), docsOf(r.ID()))
	}
	require.Contains(t, remedyOf("weir-request-too-large"), "the text")
}

var explainedAt = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return explainedAt.Add(-d) }

// refusal is one of the metric up that ended d ago.
func refusal(reason string, d time.Duration, lset ...string) ledger.Refusal {
	r := ledger.Refusal{Reason: reason, Requests: 1, First: before(d), Last: before(d), Example: ledger.Example{Detail: "detail of " + reason}}
	for i := 0; i < len(lset); i += 2 {
		r.Example.Labels = append(r.Example.Labels, ledger.Label{Name: lset[i], Value: lset[i+1]})
		if lset[i] == "__name__" {
			r.Metric = lset[i+1]
		}
	}
	return r
}

// last is a series whose last sample was d ago.
func last(d time.Duration) stored {
	return stored{series: 1, newest: labels.FromStrings("__name__", "up", "job", "a"), t: before(d).UnixMilli()}
}

func senderOf(silent, lag time.Duration) ledger.SenderStatus {
	return ledger.SenderStatus{
		Sender: ledger.Sender{UserAgent: "Prometheus/3.1.0", Address: "10.0.0.1", Protocol: "1.0"}, Last: before(silent),
		Newest: before(silent + lag).UnixMilli(), NewestAt: before(silent),
	}
}

func TestExplain(t *testing.T) {
	busy := []ledger.SenderStatus{senderOf(time.Second, time.Second)}
	for _, c := range []struct {
		name     string
		selector string // default up{job="a"}
		facts    facts
		verdict  string
		causes   []string // id, and what it is about
	}{
		{"stored", "", facts{stored: last(time.Minute), senders: busy}, verdictStored, nil},
		{"stored and refused", "", facts{stored: last(time.Minute), senders: busy, refusals: []ledger.Refusal{
			refusal("weir-sample-duplicate", time.Minute, "__name__", "up", "job", "a"),
		}}, verdictPartly, []string{"weir-sample-duplicate series"}},
		{"refused long ago, stored now", "", facts{stored: last(time.Minute), senders: busy, refusals: []ledger.Refusal{
			refusal("weir-sample-duplicate", 2*time.Hour, "__name__", "up", "job", "a"),
		}}, verdictStored, nil},
		{"refused long before the last sample", "", facts{stored: last(10 * time.Hour), senders: busy, refusals: []ledger.Refusal{
			refusal("weir-sample-duplicate", 12*time.Hour, "__name__", "up", "job", "a"),
		}}, verdictSilent, []string{"series-silent series"}},
		{"refused since the last sample", "", facts{stored: last(10 * time.Hour), senders: busy, refusals: []ledger.Refusal{
			refusal("weir-sample-duplicate", 9*time.Hour, "__name__", "up", "job", "a"),
		}}, verdictRefused, []string{"weir-sample-duplicate series", "series-silent series"}},
		{"series before metric before tenant", "", facts{senders: busy, refusals: []ledger.Refusal{
			refusal("weir-overloaded", time.Minute),
			refusal("weir-sample-too-old", 2*time.Minute, "__name__", "up", "job", "b"),
			refusal("weir-labels-too-many", 3*time.Minute, "__name__", "up", "job", "a"),
			refusal("weir-label-value-too-long", time.Minute, "__name__", "down", "job", "a"),
		}}, verdictRefused, []string{"weir-labels-too-many series", "weir-sample-too-old metric", "weir-overloaded tenant"}},
		{"a request as a whole", "", facts{senders: busy, refusals: []ledger.Refusal{
			refusal("weir-request-too-large", time.Minute),
		}}, verdictRefused, []string{"weir-request-too-large tenant", "never-received series"}},
		{"a request as a whole, while the series comes", "", facts{stored: last(time.Minute), senders: busy, refusals: []ledger.Refusal{
			refusal("weir-request-too-large", time.Minute),
		}}, verdictStored, nil},
		{"no name, by another label", `{job="a"}`, facts{senders: busy, refusals: []ledger.Refusal{
			refusal("weir-metric-name-missing", time.Minute, "job", "a"),
		}}, verdictRefused, []string{"weir-metric-name-missing series"}},
		{"a label twice", `up{job="b"}`, facts{senders: busy, refusals: []ledger.Refusal{
			refusal("weir-label-name-duplicate", time.Minute, "__name__", "up", "job", "a", "job", "b"),
		}}, verdictRefused, []string{"weir-label-name-duplicate series"}},
		{"not admitted", "", facts{senders: busy, reason: proto.LabelValueTooLong, detail: "5000 bytes"},
			verdictRefused, []string{"weir-label-value-too-long series", "never-received series"}},
		{"suspended", "", facts{stored: last(time.Minute), senders: busy, settings: &tenant.Settings{State: "suspended"}},
			verdictPartly, []string{"weir-tenant-suspended series"}},
		{"on hold, and somebody tried", "", facts{senders: busy, settings: &tenant.Settings{State: "held"}, refusals: []ledger.Refusal{
			refusal("weir-tenant-held", time.Minute),
		}}, verdictRefused, []string{"weir-tenant-held series", "weir-tenant-held tenant", "never-received series"}},
		{"only reads are refused", "", facts{stored: last(time.Minute), senders: busy, settings: &tenant.Settings{State: "write-only"}}, verdictStored, nil},
		{"ended", "", facts{stored: func() stored { s := last(time.Minute); s.ended = true; return s }(), senders: busy}, verdictEnded, []string{"series-ended series"}},
		{"silent, and its sender gone", "", facts{stored: last(time.Hour), senders: []ledger.SenderStatus{senderOf(time.Hour, time.Second)}},
			verdictSilent, []string{"series-silent series", "sender-missing tenant"}},
		{"nobody sends", "", facts{}, verdictUnknown, []string{"sender-missing tenant", "never-received series"}},
		{"never came", "", facts{senders: busy}, verdictUnknown, []string{"never-received series"}},
		{"one label is wrong", "", facts{senders: busy, unmet: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "a")}},
			verdictUnknown, []string{"matcher-selects-nothing metric"}},
		{"clock ahead", "", facts{stored: last(time.Minute), senders: []ledger.SenderStatus{senderOf(time.Second, -5*time.Minute)}},
			verdictStored, []string{"sender-clock-ahead tenant"}},
		{"behind", "", facts{stored: last(20 * time.Minute), senders: []ledger.SenderStatus{senderOf(time.Second, 20*time.Minute)}},
			verdictSilent, []string{"series-silent series", "sender-lagging tenant"}},
		{"the tenant's newest sample is ahead", "", facts{stored: last(time.Minute), senders: busy, newest: explainedAt.Add(9 * time.Minute).UnixMilli()},
			verdictStored, []string{"tenant-clock-ahead tenant"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.facts
			f.now, f.lookback, f.selector = explainedAt, 5*time.Minute, c.selector
			if f.selector == "" {
				f.selector = `up{job="a"}`
			}
			if f.settings == nil {
				settings := tenant.DefaultSettings()
				f.settings = &settings
			}
			var err error
			f.matchers, err = parser.NewParser(parser.Options{}).ParseMetricSelector(f.selector)
			require.NoError(t, err)
			e := explain(&f)
			var causes []string
			for _, x := range e.Causes {
				causes = append(causes, x.ID+" "+x.Of)
				require.NotEmpty(t, x.What)
				require.NotEmpty(t, x.Fix)
			}
			require.Equal(t, c.causes, causes)
			require.Equal(t, c.verdict, e.Verdict, e.Summary)
			require.NotEmpty(t, e.Summary)
		})
	}
}

// TestExplainNamesTheLimit: with its value for the tenant, where that comes from, and
// the refusal.
func TestExplainNamesTheLimit(t *testing.T) {
	settings := tenant.DefaultSettings()
	settings.Limits.OutOfOrderWindow, settings.Limits.IngestionRate = 42*time.Minute, 1000
	f := facts{
		origins: map[string]string{"limits.out_of_order_window": "plan gold", "limits.ingestion_rate": "tenant"},
		now:     explainedAt, lookback: 5 * time.Minute, settings: &settings, senders: []ledger.SenderStatus{senderOf(0, 0)},
		matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
		refusals: []ledger.Refusal{refusal("weir-sample-out-of-order", time.Minute, "__name__", "up"), refusal("weir-ingestion-rate", time.Minute), refusal("weir-overloaded", time.Minute)},
	}
	e := explain(&f)
	c := e.Causes[0]
	require.Equal(t, "limits.out_of_order_window", c.Limit)
	require.Equal(t, "42m0s", c.Value)
	require.Equal(t, "plan gold", c.Origin)
	require.Equal(t, "detail of weir-sample-out-of-order", c.What)
	require.Equal(t, before(time.Minute), c.Refusal.Last)
	rate, none := e.Causes[1], e.Causes[2]
	require.Equal(t, []any{"weir-ingestion-rate", "limits.ingestion_rate", 1000, "tenant"}, []any{rate.ID, rate.Limit, rate.Value, rate.Origin})
	require.Equal(t, []any{"weir-overloaded", "", nil, ""}, []any{none.ID, none.Limit, none.Value, none.Origin})
}
