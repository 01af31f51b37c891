package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ledger"
)

// TestExplainObeysNobody: what a sender chose moves no cursor, and sets no colour.
func TestExplainObeysNobody(t *testing.T) {
	const clear, csi = "\x1b[2J\r", "\u009b31m"
	list := []api.Explanation{{Selector: "up", Verdict: "refused", Causes: []api.Cause{{
		ID: "weir-label-value-too-long", What: "the label " + clear, Fix: "größer",
		Refusal: &ledger.Refusal{
			Sender:  ledger.Sender{UserAgent: "agent" + csi, Address: "192.0.2.1"},
			Example: ledger.Example{Labels: []ledger.Label{{Name: clear, Value: clear}}},
		},
	}}}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": list})
	}))
	defer srv.Close()
	var out strings.Builder
	f := explainFlags{Selectors: []string{"up"}, Client: readerFlags{clientFlags: clientFlags{URL: srv.URL}}}
	require.NoError(t, f.run(t.Context(), env(nil), &out))
	require.NotContains(t, out.String(), "\x1b")
	require.NotContains(t, out.String(), "\r")
	require.NotContains(t, out.String(), "\u009b")
	require.Contains(t, out.String(), "   to do:  größer\n")
	require.Contains(t, out.String(), "agent\ufffd31m at 192.0.2.1")
}
