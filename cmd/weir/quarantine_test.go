package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const twoQuarantines = `{"quarantines":[
{"metric":"http_requests_total","labels":["request_id"],"enforced":true,"seriesThen":5000,"seriesBefore":120,
 "examples":["{__name__=\"http_requests_total\", request_id=\"5f2c\"}"],
 "beganAt":"2026-11-20T10:00:00Z","refusals":31,"differentSeriesLately":17},
{"metric":"jobs","labels":["a","b"],"enforced":false,"seriesThen":50,"seriesBefore":1,"examples":[],
 "sender":"\u001b[2J","beganAt":"2026-11-20T10:00:00Z","endedAt":"2026-11-20T11:00:00Z","refusals":0,"differentSeriesLately":0}]}
`

// TestQuarantineCommands: what is sent to the server, and what is made of its answer.
func TestQuarantineCommands(t *testing.T) {
	list, release := []string{"quarantine", "list"}, []string{"quarantine", "release", "team-a", "m"}
	for _, c := range []struct {
		name           string
		args           []string
		status         int
		answer         string
		request        string // method and path
		tenant         string // that the header names
		code           int
		stdout, stderr string
	}{
		{name: "list", args: append(list, "-tenant", "team-a"), status: 200, answer: twoQuarantines, request: "GET /api/v1/cardinality/quarantine", tenant: "team-a", stdout: `http_requests_total: its new series are held back
   by:      request_id
   series:  5000, before it began 120
   since:   2026-11-20T10:00:00Z
   sender:  unknown
   refused: 31 times, of 17 different series lately
   such as: {__name__="http_requests_total", request_id="5f2c"}
jobs: it is over
   by:      a, b
   series:  50, before it began 1
   since:   2026-11-20T10:00:00Z until 2026-11-20T11:00:00Z
   sender:  �[2J
   refused: 0 times, of 0 different series lately
`},
		{name: "nothing", args: list, status: 200, answer: `{"quarantines":[]}`, request: "GET /api/v1/cardinality/quarantine", stdout: "no metric explodes, or did lately\n"},
		{name: "json", args: append(list, "-json"), status: 200, answer: twoQuarantines, request: "GET /api/v1/cardinality/quarantine", stdout: twoQuarantines},
		{name: "list refused", args: list, status: 401, answer: `{"status":"error","error":"weir-tenant-missing: no tenant"}`, request: "GET /api/v1/cardinality/quarantine",
			code: 1, stderr: "weir: 401 Unauthorized: weir-tenant-missing: no tenant\n"},
		{name: "list of something else", args: list, status: 200, answer: `{"status":"success","data":{}}`, request: "GET /api/v1/cardinality/quarantine", code: 1, stderr: "is no answer of weir"},
		{name: "release", args: release, status: 204, request: "POST /ingester/quarantine/release", stdout: "new series of m are taken again\n"},
		{name: "release of another", args: release, status: 404, answer: `{"status":"error","error":"weir-quarantine-unknown: the metric is not in quarantine"}`, request: "POST /ingester/quarantine/release",
			code: 1, stderr: "weir: 404 Not Found: weir-quarantine-unknown: the metric is not in quarantine\n"},
		{name: "release at the wrong place", args: release, status: 404, answer: "404 page not found", request: "POST /ingester/quarantine/release", code: 1, stderr: "that is not the admin listener"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, c.request, r.Method+" "+r.URL.Path)
				assert.Equal(t, c.tenant, r.Header.Get("X-Scope-OrgID"))
				assert.Equal(t, "Bearer s3cret", r.Header.Get("Authorization"))
				if r.Method == http.MethodPost {
					assert.Equal(t, "team-a", r.FormValue("tenant"))
					assert.Equal(t, "m", r.FormValue("metric"))
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer s.Close()
			var stdout, stderr bytes.Buffer
			require.Equal(t, c.code, run(t.Context(), append(c.args, "-url", s.URL), env(map[string]string{"WEIR_TOKEN": "s3cret"}), &stdout, &stderr), "%s", &stderr)
			require.Equal(t, c.stdout, stdout.String())
			require.Contains(t, stderr.String(), c.stderr)
		})
	}
}

// TestWhereCommandsAsk: each goes to its listener unless it is told where.
func TestWhereCommandsAsk(t *testing.T) {
	for command, want := range map[string][]string{
		"127.0.0.1:9009": {"quarantine", "list"}, "127.0.0.1:9010": {"quarantine", "release", "a", "m"},
	} {
		c, _, err := parseArgs(want, nil, nil)
		require.NoError(t, err)
		url := c.Quarantine.List.Client.URL
		if want[1] == "release" {
			url = c.Quarantine.Release.Client.URL
		}
		require.Equal(t, "http://"+command, url)
	}
	c, _, err := parseArgs([]string{"explain", "up"}, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:9009", c.Explain.Client.URL)
}
