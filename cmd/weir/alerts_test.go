package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"
)

// TestTenantAlerts: the alerts that are shipped are rules, and fire on what they are
// about.
func TestTenantAlerts(t *testing.T) {
	groups, errs := rulefmt.ParseFile("../../deploy/rules/weir-tenant.yaml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	require.Empty(t, errs)
	for _, c := range []struct {
		name, series string
		fires        []string
	}{
		{"half", `limit="request_rate"} 0.5x60`, nil},
		{"near", `limit="request_rate"} 0.85x60`, []string{"WeirLimitNear"}},
		{"beyond", `limit="label_sets.a"} 1.2x60`, []string{"WeirLimitNear", "WeirLimitReached"}},
		{"grows", `limit="max_active_series"} 0.3+0.005x60`, []string{"WeirSeriesLimitSoon"}},
		{"grows slowly", `limit="max_active_series"} 0.3+0.0005x60`, nil},
		{"grew", `limit="max_active_series"} 0.3x30 0.6x30`, nil},
		{"another limit grows", `limit="request_rate"} 0.3+0.005x60`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range groups.Groups[0].Rules {
				script := fmt.Sprintf("load 1m\n  weir_tenant_limit_used_ratio{job=\"weir\", %s\n\neval instant at 1h count(%s)\n",
					c.series, strings.ReplaceAll(r.Expr, "\n", " "))
				if slices.Contains(c.fires, r.Alert) {
					script += "  {} 1\n"
				}
				promqltest.RunTest(t, script, promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery))
			}
		})
	}
}
