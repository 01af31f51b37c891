package receiver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

// float is an ingester that remembers the last sample.
type float struct{ v float64 }

func (n *float) Write(_ context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	n.v = f.Floats[len(f.Floats)-1].V
	reply.Written.Samples = len(f.Floats)
	return nil
}

// TestDeltasOfCredentials: series that differ by bound labels alone are not added
// up with each other, as the senders of two clusters are.
func TestDeltasOfCredentials(t *testing.T) {
	set := tenant.DefaultSettings()
	ing := new(float)
	r := New(DefaultConfig(), Deps{Ingester: ing, Settings: func(string) *tenant.Settings { return &set }, Logger: slog.New(slog.DiscardHandler)})
	by := func(tenantID, credential, cluster string) tenant.Identity {
		who := tenant.Identity{Tenant: tenantID, Credential: credential}
		if cluster != "" {
			who.Bound = &tenant.BoundLabels{Labels: []tenant.BoundLabel{{Name: "cluster", Value: cluster, OnConflict: tenant.Overwrite}}}
		}
		return who
	}
	one, two := by("a", "one", "1"), by("a", "two", "2")
	now := time.Now()
	for i, c := range []struct {
		who      tenant.Identity
		at       time.Duration
		v, total float64
	}{
		{one, 0, 5, 5},
		{two, 0, 100, 100}, // at the same time, and not taken for a repetition
		{two, time.Second, 100, 200},
		{one, time.Second / 2, 2, 7}, // and not too late
		{by("a", "free", ""), 0, 1, 1},
		{by("a", "as free", ""), time.Second, 1, 2}, // nothing tells it from the one before
		{by("b", "one", "1"), 0, 3, 3},
	} {
		md := pmetric.NewMetrics()
		m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName("x")
		m.SetEmptySum().SetIsMonotonic(true)
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		point := m.Sum().DataPoints().AppendEmpty()
		point.SetTimestamp(pcommon.NewTimestampFromTime(now.Add(c.at)))
		point.SetDoubleValue(c.v)
		body, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
		require.NoError(t, err)
		req := newRequest()
		r.begin(req, nil, c.who)
		req.decoded = append(req.decoded[:0], body...)
		refused, err := r.writeOTLP(t.Context(), typeProtobuf, req)
		require.NoError(t, err)
		require.Zero(t, refused, i)
		require.Equal(t, c.total, ing.v, i)
		req.release()
	}
	require.EqualValues(t, 4, r.deltas.series())
}

// newest is an ingester that remembers the labels it was last taught.
type newest struct{ labels []string }

func (n *newest) Write(_ context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	n.labels = nil
	for _, l := range f.Labels {
		n.labels = append(n.labels, l.Labels.String())
	}
	reply.Written.Samples = len(f.Floats)
	return nil
}

// TestCredentials: what is bound to a credential comes first, then its own rules,
// then the tenant's. Each credential has verdicts of its own.
func TestCredentials(t *testing.T) {
	compile := func(c relabel.Config) *relabel.Rules {
		r, errs := relabel.Compile(&c, "")
		require.Empty(t, errs)
		return r
	}
	text := func(s string) *string { return &s }
	set := tenant.DefaultSettings()
	set.Rules = compile(relabel.Config{
		MetricRelabel: []relabel.Rule{{SourceLabels: []string{"env", "own"}, TargetLabel: "seen"}},
		Redact:        []relabel.Redaction{{Detector: "email", Action: relabel.Mask}},
	})
	ing := new(newest)
	r := New(DefaultConfig(), Deps{
		Ingester: ing, Settings: func(string) *tenant.Settings { return &set },
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	bound := &tenant.BoundLabels{Labels: []tenant.BoundLabel{{Name: "env", Value: "prod", OnConflict: tenant.Overwrite}, {Name: "site", Value: "a", OnConflict: tenant.Reject}}}
	own := compile(relabel.Config{
		MetricRelabel: []relabel.Rule{
			{SourceLabels: []string{"env"}, TargetLabel: "own", Replacement: text("own-$1")},
			{SourceLabels: []string{"drop"}, Regex: text("me"), Action: "drop"},
		},
		Redact:     []relabel.Redaction{{Detector: "uuid", Action: relabel.Mask}, {Detector: "jwt", Action: relabel.Reject}},
		LongValues: relabel.LongHash,
	})
	plain, withBound := tenant.Identity{Tenant: "t"}, tenant.Identity{Tenant: "t", Credential: "b", Bound: bound}
	withBoth, withRules := tenant.Identity{Tenant: "t", Credential: "c", Bound: bound, Rules: own}, tenant.Identity{Tenant: "t", Credential: "d", Rules: own}
	const uuid = "550e8400-e29b-41d4-a716-446655440000"
	for _, c := range []struct {
		name   string
		who    tenant.Identity
		labels labels.Labels
		want   string // labels, or a reason
	}{
		{"nothing bound", plain, labels.FromStrings("__name__", "up", "env", "x"), `{__name__="up", env="x", seen="x;"}`},
		{"bound", withBound, labels.FromStrings("__name__", "up", "env", "x"), `{__name__="up", env="prod", seen="prod;", site="a"}`},
		{"bound again", withBound, labels.FromStrings("__name__", "up", "env", "y"), `{__name__="up", env="prod", seen="prod;", site="a"}`},
		{"conflict", withBound, labels.FromStrings("__name__", "up", "site", "b"), "weir-bound-label-conflict"},
		{"no conflict", plain, labels.FromStrings("__name__", "up", "site", "b"), `{__name__="up", seen=";", site="b"}`},
		{"rules", withRules, labels.FromStrings("__name__", "up", "env", "x"), `{__name__="up", env="x", own="own-x", seen="x;own-x"}`},
		{"both", withBoth, labels.FromStrings("__name__", "up", "env", "x"), `{__name__="up", env="prod", own="own-prod", seen="prod;own-prod", site="a"}`},
		{"dropped by its rules", withRules, labels.FromStrings("__name__", "up", "drop", "me"), "weir-relabel-dropped"},
		{"rejected by its rules", withRules, labels.FromStrings("__name__", "up", "a", "eyJhbGciOiJub25lIn0.e30."), "weir-value-rejected"},
		{"both redact", withRules, labels.FromStrings("__name__", "up", "a", "x@example.com "+uuid), `{__name__="up", a="[email] [uuid]", own="own-", seen=";own-"}`},
		{"many labels change", withBoth, labels.FromStrings("__name__", "up", "a", uuid, "b", uuid, "c", uuid, "zz", "x@example.com"),
			`{__name__="up", a="[uuid]", b="[uuid]", c="[uuid]", env="prod", own="own-prod", seen="prod;own-prod", site="a", zz="[email]"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := newRequest()
			defer req.release()
			r.begin(req, nil, c.who)
			var ts prompb.TimeSeries
			c.labels.Range(func(l labels.Label) { ts.Labels = append(ts.Labels, prompb.Label{Name: l.Name, Value: l.Value}) })
			ts.Samples = []prompb.Sample{{Timestamp: time.Now().UnixMilli()}}
			message, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}).Marshal()
			require.NoError(t, err)
			req.decoded = append(req.decoded[:0], message...)
			require.NoError(t, r.write(t.Context(), proto.V1, req, 10))
			switch {
			case c.want == proto.RelabelDropped.ID():
				require.Equal(t, proto.Counts{Samples: 1}, req.dropped.Counts[proto.RelabelDropped])
			case req.rejected.Total() > 0:
				require.Equal(t, c.want, req.rejected.Examples[0].Reason.ID())
			default:
				require.Equal(t, []string{c.want}, ing.labels)
			}
		})
	}
	var credentials []string
	for _, rep := range r.RelabelReports("t", true) {
		credentials = append(credentials, rep.Credential)
		require.Equal(t, rep.Credential == "c" || rep.Credential == "d", rep.Own != nil)
	}
	require.Equal(t, []string{"", "b", "c", "d"}, credentials)
}

// full is an ingester that takes no more tenants.
type full struct{}

func (full) Write(context.Context, string, *proto.Frame, *proto.Reply) error {
	return proto.Errorf(proto.KindLimit, "weir-too-many-tenants", "no more")
}

// TestForgottenTenants: nothing is kept of a tenant that is refused, whatever its
// credential.
func TestForgottenTenants(t *testing.T) {
	secret, hash := tenant.NewSecret()
	cs, errs := tenant.NewCredentials("credentials", []tenant.Credential{{
		ID: "b", Tenants: []string{"t"}, Scopes: []string{"write"}, Secrets: []tenant.Secret{{SHA256: hash.String()}},
		Labels: []tenant.BoundLabel{{Name: "site", Value: "a"}},
	}}, nil)
	require.Empty(t, errs)
	directory := tenant.NewDirectory(tenant.ModeRequired, tenant.DefaultSettings())
	directory.SetCredentials(cs)
	r := New(DefaultConfig(), Deps{
		Ingester: full{}, Tenants: directory, Settings: directory.Settings, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	message, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Samples: []prompb.Sample{{Timestamp: time.Now().UnixMilli()}},
	}}}).Marshal()
	require.NoError(t, err)
	hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(s2.EncodeSnappy(nil, message)))
	hr.Header.Set("Authorization", "Bearer "+secret)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, hr)
	require.Equal(t, http.StatusTooManyRequests, w.Code, w.Body)
	require.Empty(t, r.tenants)
}

// TestReloadedRulesOfCredentials: the rules that a credential has in the tenants
// file count for what is written with it, before those of the tenant, and others do
// as soon as the file has them.
func TestReloadedRulesOfCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, shopHash := tenant.NewSecret()
		plain, plainHash := tenant.NewSecret()
		name := filepath.Join(t.TempDir(), "tenants.yaml")
		write := func(rules string) {
			require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, `
tenants: {a: {relabel: {metric_relabel_configs: [{source_labels: [own], target_label: seen}]}}}
credentials:
- {id: plain, tenants: [a], scopes: [write], secrets: [{sha256: %s}]}
- {id: shop, tenants: [a], scopes: [write], secrets: [{sha256: %s}], rules: {%s}}
`, plainHash, shopHash, rules), 0o600))
		}
		write("metric_relabel_configs: [{target_label: own, replacement: x}]")
		directory := tenant.NewDirectory(tenant.ModeRequired, tenant.DefaultSettings())
		require.NoError(t, directory.Follow(tenant.Config{File: name, Unlisted: tenant.RefuseUnlisted}, slog.New(slog.DiscardHandler), nil))
		done := make(chan error)
		go func() { done <- directory.Run(t.Context()) }()
		t.Cleanup(func() { require.NoError(t, <-done) })

		ing := new(newest)
		r := New(DefaultConfig(), Deps{Ingester: ing, Tenants: directory, Settings: directory.Settings, Logger: slog.New(slog.DiscardHandler)})
		send := func(secret string) (stored []string, dropped string) {
			message, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
				Labels:  []prompb.Label{{Name: "__name__", Value: "up"}},
				Samples: []prompb.Sample{{Timestamp: time.Now().UnixMilli()}},
			}}}).Marshal()
			require.NoError(t, err)
			hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(s2.EncodeSnappy(nil, message)))
			hr.Header.Set("Authorization", "Bearer "+secret)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, hr)
			require.Equal(t, http.StatusNoContent, w.Code, w.Body)
			return ing.labels, w.Header().Get(headerDropped)
		}
		stored, _ := send(shop)
		require.Equal(t, []string{`{__name__="up", own="x", seen="x"}`}, stored)
		stored, _ = send(plain)
		require.Equal(t, []string{`{__name__="up"}`}, stored)
		write("metric_relabel_configs: [{target_label: own, replacement: y}]")
		time.Sleep(3 * time.Second)
		stored, _ = send(shop)
		require.Equal(t, []string{`{__name__="up", own="y", seen="y"}`}, stored)
		write("metric_relabel_configs: [{source_labels: [__name__], regex: up, action: drop}]")
		time.Sleep(3 * time.Second)
		_, dropped := send(shop)
		require.Equal(t, "1", dropped)
		_, dropped = send(plain)
		require.Empty(t, dropped)
	})
}

// TestCanaryOfCredential: the rules of a credential have a canary of their own,
// whose series are in every larger one of the tenant.
func TestCanaryOfCredential(t *testing.T) {
	sets := func(value string, shadow *relabel.Config, percent float64) *relabel.Config {
		return &relabel.Config{MetricRelabel: []relabel.Rule{{TargetLabel: value, Replacement: &value}}, Shadow: shadow, Canary: percent}
	}
	set := tenant.DefaultSettings()
	var errs []error
	set.Rules, errs = relabel.Compile(sets("base", sets("tried", nil, 0), 60), "")
	require.Empty(t, errs)
	own, errs := relabel.Compile(sets("own", sets("own_tried", nil, 0), 20), "")
	require.Empty(t, errs)
	count := map[string]int{}
	var r ruling
	for i := range 500 {
		r.begin(true)
		ls, no := admit(policy{set: &set, rules: own}, []labels.Label{{Name: "__name__", Value: "m"}, {Name: "i", Value: strconv.Itoa(i)}}, &r)
		require.Equal(t, proto.OK, no.reason)
		names := ""
		for _, l := range ls {
			if l.Name != "__name__" && l.Name != "i" {
				names += " " + l.Name
			}
		}
		count[names]++
	}
	require.InDelta(t, 100, count[" own_tried tried"], 45)
	require.InDelta(t, 200, count[" own tried"], 55)
	require.InDelta(t, 200, count[" base own"], 55)
	require.Len(t, count, 3)
}
