package api_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
)

// TestFeatures asks what differs with each feature, without and with it. What
// use-start-timestamps does shows in the scripts of integration.
func TestFeatures(t *testing.T) {
	for _, tc := range []struct{ feature, query, without, with string }{
		{"promql-experimental-functions", `count(limitk(1, up))`, `limitk() is experimental`, `[300,"1"]`},
		{"promql-duration-expr", `count(up offset (1m * 2))`, `[300,"2"]`, `[300,"2"]`},
		{"promql-extended-range-selectors", `count(rate(requests[1m] anchored))`, `anchored modifier is experimental`, `[300,"1"]`},
		{"promql-binop-fill-modifiers", `count(up + fill(0) up)`, `binop fill modifiers are experimental`, `[300,"2"]`},
		{"promql-delayed-name-removal", `count by (n) (label_replace(rate(up[1m]), "n", "$1", "__name__", "(.*)"))`, `{"metric":{},`, `{"n":"up"}`},
		{"type-and-unit-labels", `rate(requests[1m])`, `name does not end in`, `__type__ label`},
	} {
		t.Run(tc.feature, func(t *testing.T) {
			read := "/api/v1/query?time=300&query=" + url.QueryEscape(tc.query)
			body := newServer(t).do(t, "GET", read, nil).Body.String()
			require.Contains(t, body, tc.without)
			body = newServer(t, func(s *server) { s.cfg.Features = []string{tc.feature} }).do(t, "GET", read, nil).Body.String()
			require.Contains(t, body, tc.with)
		})
	}
}

func TestValidateFeatures(t *testing.T) {
	cfg := api.DefaultConfig()
	cfg.Features = []string{"use-start-timestamps", "promql-anything", "use-start-timestamps"}
	var got []string
	for _, err := range cfg.Validate("query") {
		got = append(got, err.Error())
	}
	require.Equal(t, []string{
		`query.features: "promql-anything": must be one of promql-experimental-functions, promql-duration-expr, promql-extended-range-selectors, ` +
			`promql-binop-fill-modifiers, promql-delayed-name-removal, use-start-timestamps, type-and-unit-labels`,
		`query.features: "use-start-timestamps": must not be listed twice`,
	}, got)
}
