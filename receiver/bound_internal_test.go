package receiver

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

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
