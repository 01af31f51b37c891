package tenant_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

func TestLabelPolicy(t *testing.T) {
	series := func(of ...string) labels.Labels { return labels.FromStrings(of...) }
	for _, c := range []struct {
		name      string
		selectors []string
		series    labels.Labels
		want      int
	}{
		{"equal", []string{`{team="a"}`}, series("team", "a"), 0},
		{"not equal", []string{`{team="a"}`}, series("team", "b"), -1},
		{"a label it lacks", []string{`{team="a"}`}, series("env", "a"), -1},
		{"no labels", []string{`{team="a"}`}, series(), -1},
		{"a lacking label is empty", []string{`{env!="prod"}`}, series("team", "a"), 0},
		{"must have it", []string{`{env!="prod",env!=""}`}, series("team", "a"), -1},
		{"empty wanted", []string{`{env=""}`}, series("env", "prod"), -1},
		{"all matchers of one", []string{`{team="a",region=~"eu-.*"}`}, series("team", "a", "region", "us-1"), -1},
		{"regexps are anchored", []string{`{region=~"eu"}`}, series("region", "eu-1"), -1},
		{"metric name", []string{`up{team="a"}`}, series("__name__", "up", "team", "a"), 0},
		{"another metric", []string{`up{team="a"}`}, series("__name__", "down", "team", "a"), -1},
		{"second of two", []string{`{team="a"}`, `{team="b"}`}, series("team", "b"), 1},
		{"first of both", []string{`{team="a"}`, `{team=~"a|b"}`}, series("team", "a"), 0},
		{"UTF-8 names", []string{`{"team.name"="é"}`}, series("team.name", "é"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := tenant.ParseLabelPolicy(c.selectors)
			require.NoError(t, err)
			require.Equal(t, c.want, p.First(c.series))
			require.Equal(t, c.selectors, p.Texts())
			require.Len(t, p.Selectors(), len(c.selectors))
		})
	}
	require.Equal(t, -1, new(tenant.LabelPolicy).First(series("team", "a")), "one that nobody made lets nothing be read")
}

func TestLabelPolicyRefusals(t *testing.T) {
	for _, c := range []struct {
		name      string
		selectors []string
		says      []string
	}{
		{"none", nil, []string{"needs a selector"}},
		{"too many", slices.Repeat([]string{`{team="a"}`}, 33), []string{"33 selectors", "at most 32"}},
		{"everything", []string{`{}`}, []string{`"{}"`, "every series"}},
		{"empty", []string{""}, []string{`selector ""`}},
		{"no label name", []string{`{""="a"}`}, []string{"no label name"}},
		{"an expression", []string{`sum(up)`}, []string{`"sum(up)"`}},
		{"a bad regexp", []string{`{team=~"("}`}, []string{"missing closing )"}},
		{"each is named", []string{`{team=}`, `{team="a"}`, `{env`}, []string{`"{team=}"`, `"{env"`}},
		{"cut in messages", []string{`{team="` + strings.Repeat("x", 10_000)}, []string{`selector "{team=`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := tenant.ParseLabelPolicy(c.selectors)
			require.Nil(t, p)
			for _, part := range c.says {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

// TestPolicyOfACredential has credentials with what may be read, and without.
func TestPolicyOfACredential(t *testing.T) {
	compile := func(scopes []string, readable []string) (*tenant.Credentials, []error) {
		_, hash := tenant.NewSecret()
		return tenant.NewCredentials("credentials", []tenant.Credential{{
			ID: "grafana", Tenants: []string{"shop"}, Scopes: scopes, Readable: readable, Secrets: []tenant.Secret{{SHA256: hash.String()}},
		}}, nil)
	}
	for _, c := range []struct {
		name             string
		scopes, readable []string
		says             string
	}{
		{"none", []string{"read", "admin"}, nil, ""},
		{"some", []string{"read", "write"}, []string{`{team="a"}`}, ""},
		{"an empty list", []string{"read"}, []string{}, "credentials[0].readable: a label policy needs a selector"},
		{"no selector", []string{"read"}, []string{"{"}, `credentials[0].readable: selector "{"`},
		{"admin goes around it", []string{"read", "admin"}, []string{`{team="a"}`}, "credentials[0].readable: must not be with the scopes rules or admin"},
		{"so do rules", []string{"rules"}, []string{`{team="a"}`}, "credentials[0].readable: must not be with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := compile(c.scopes, c.readable)
			if c.says == "" {
				require.Empty(t, errs)
				return
			}
			require.Len(t, errs, 1)
			require.ErrorContains(t, errs[0], c.says)
		})
	}
	secret, hash := tenant.NewSecret()
	cs, errs := tenant.NewCredentials("credentials", []tenant.Credential{{
		ID: "grafana", Tenants: []string{"shop"}, Scopes: []string{"read"}, Readable: []string{`{team="a"}`}, Secrets: []tenant.Secret{{SHA256: hash.String()}},
	}}, nil)
	require.Empty(t, errs)
	d := tenant.NewDirectory(tenant.ModeRequired, tenant.DefaultSettings())
	d.SetCredentials(cs)
	hr := httptest.NewRequest(http.MethodGet, "/", nil)
	hr.Header.Set("Authorization", "Bearer "+secret)
	who, err := d.Authenticate(hr, tenant.ScopeRead)
	require.NoError(t, err)
	require.Equal(t, []string{`{team="a"}`}, who.Readable.Texts())
	require.Equal(t, []string{`{team="a"}`}, d.DescribeCredentials()[0].Readable)
}
