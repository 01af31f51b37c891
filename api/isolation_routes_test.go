package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
)

// asking is how a route is asked for what others have.
type asking struct {
	ask   func(i *isolation, pattern string) request
	tells bool // it answers with what was written
	whole bool // and about all of the tenant, so that it refuses label policies
}

// probed is a route that is asked.
type probed struct {
	api.Route
	asking
}

// askings are all routes of the data listener, those below /prometheus without
// it, and behind "admin " those of the admin listener.
var askings = map[string]asking{
	"/":                          {ask: page},
	"/api/v1/push":               {ask: push},
	"/api/v1/write":              {ask: push},
	"/api/v1/receive":            {ask: push},
	"/api/v1/remote_write":       {ask: push},
	"/otlp/v1/metrics":           {ask: export},
	"/api/v1/otlp/v1/metrics":    {ask: export},
	"/ingester/flush":            {ask: flush},
	"/metrics":                   {ask: page},
	"/ready":                     {ask: page},
	"/-/ready":                   {ask: page},
	"/-/healthy":                 {ask: page},
	"/livez":                     {ask: page},
	"/federate":                  {ask: get("match", "accept"), tells: true},
	"/api/v1/read":               {ask: readRemotely, tells: true},
	"/api/v1/query":              {ask: form("expr", "time", "stats", "limit"), tells: true},
	"/api/v1/query_range":        {ask: form("expr", "range", "step", "stats", "limit"), tells: true},
	"/api/v1/query_exemplars":    {ask: form("expr", "range"), tells: true},
	"/api/v1/format_query":       {ask: form("expr")},
	"/api/v1/parse_query":        {ask: form("expr")},
	"/api/v1/series":             {ask: form("match", "range", "limit"), tells: true},
	"/api/v1/labels":             {ask: form("match?", "range", "limit"), tells: true},
	"/api/v1/metadata":           {ask: get("metric", "limit"), tells: true},
	"/api/v1/targets/metadata":   {ask: get("metric", "limit"), tells: true},
	"/api/v1/targets":            {ask: page},
	"/api/v1/scrape_pools":       {ask: page},
	"/api/v1/rules":              {ask: get("match?")},
	"/api/v1/alerts":             {ask: page},
	"/api/v1/alertmanagers":      {ask: page},
	"/api/v1/notifications":      {ask: page},
	"/api/v1/features":           {ask: page},
	"/api/v1/status/buildinfo":   {ask: page},
	"/api/v1/status/runtimeinfo": {ask: page},
	"/api/v1/status/config":      {ask: page},
	"/api/v1/status/flags":       {ask: page},
	"/api/v1/status/walreplay":   {ask: page},
	"/api/v1/status/tsdb":        {ask: get("limit"), tells: true, whole: true},
	"/api/v1/status/tsdb/blocks": {ask: page, whole: true},
	"/api/v1/user_limits":        {ask: page, whole: true},
	"/api/v1/status/relabel":     {ask: page, whole: true},
	"/api/v1/rejections":         {ask: form("match?", "limit"), tells: true, whole: true},
	"/api/v1/senders":            {ask: page, whole: true},
	"/api/v1/explain":            {ask: form("match"), tells: true, whole: true},

	"/api/v1/cardinality":               {ask: form("selector?", "date", "limit"), tells: true, whole: true},
	"/api/v1/cardinality/label_names":   {ask: form("selector?", "date", "limit"), tells: true, whole: true},
	"/api/v1/cardinality/label_values":  {ask: form("selector?", "names", "date", "limit"), tells: true, whole: true},
	"/api/v1/cardinality/active_series": {ask: form("selector", "date", "limit"), tells: true, whole: true},
	"/api/v1/cardinality/quarantine":    {ask: page, whole: true},

	"/api/v1/label/{name}/values": {tells: true, ask: func(i *isolation, pattern string) request {
		name := pick(i, "__name__", "__name__", "team", "job", "shared", i.any().label)
		return get("match?", "range", "limit")(i, strings.Replace(pattern, "{name}", name, 1))
	}},

	"admin /":                      {ask: page},
	"admin /ready":                 {ask: page},
	"admin /-/ready":               {ask: page},
	"admin /-/healthy":             {ask: page},
	"admin /livez":                 {ask: page},
	"admin /metrics":               {ask: page},
	"admin /ingester/flush":        {ask: flush},
	"admin /ingester/tenants":      {ask: page},
	"admin /admin/log-level":       {ask: page},
	"admin /admin/credentials":     {ask: page},
	"admin /debug/pprof/":          {ask: page},
	"admin /debug/pprof/cmdline":   {ask: page},
	"admin /debug/pprof/profile":   {ask: page},
	"admin /debug/pprof/symbol":    {ask: page},
	"admin /debug/pprof/trace":     {ask: page},
	"admin /debug/pprof/{profile}": {ask: page},
	"admin /ingester/quarantine/release": {ask: func(i *isolation, pattern string) request {
		o := i.any()
		return request{method: "POST", target: pattern + "?tenant=" + o.tenant + "&metric=" + o.metric}
	}},
	"admin /admin/tenants/{tenant}/limits": {ask: func(i *isolation, pattern string) request {
		return page(i, strings.Replace(pattern, "{tenant}", i.any().tenant, 1))
	}},
}

// routes returns every route of both listeners, each with how to ask it.
func (i *isolation) routes() []probed {
	i.Helper()
	var all, flushes []probed
	known := map[string]bool{}
	for _, rt := range i.surface.RouteTable() {
		name := strings.TrimPrefix(rt.Pattern, "/prometheus")
		if rt.Admin {
			name = "admin " + name
		}
		known[name] = true
		require.Contains(i, askings, name, "say how to ask this route for what others have")
		p := probed{rt, askings[name]}
		if strings.HasSuffix(name, "/flush") { // the last: they empty heads
			flushes = append(flushes, p)
			continue
		}
		all = append(all, p)
	}
	require.Len(i, askings, len(known), "there are routes that are no more")
	return append(all, flushes...)
}

func pick[T any](i *isolation, all ...T) T { return all[i.rnd.IntN(len(all))] }

// page asks as a browser, or a script.
func page(i *isolation, pattern string) request {
	return request{method: "GET", target: strings.Replace(pattern, "{profile}", "heap", 1) + pick(i, "", "?format=json")}
}

// get asks with parameters, and form does in both ways.
func get(params ...string) func(*isolation, string) request {
	return func(i *isolation, pattern string) request {
		values, r := url.Values{}, request{method: "GET"}
		for _, name := range params {
			i.param(name, values, &r)
		}
		r.target = pattern + "?" + values.Encode()
		return r
	}
}

func form(params ...string) func(*isolation, string) request {
	return func(i *isolation, pattern string) request {
		r := get(params...)(i, pattern)
		if i.rnd.IntN(2) == 0 {
			return r
		}
		_, values, _ := strings.Cut(r.target, "?")
		return request{method: "POST", target: pattern, body: []byte(values), header: []string{"Content-Type", "application/x-www-form-urlencoded"}}
	}
}

// param draws a parameter.
func (i *isolation) param(name string, values url.Values, r *request) {
	seconds := func(d time.Duration) string { return fmt.Sprint(i.now.Add(d).Unix()) }
	switch name {
	case "expr":
		values.Set("query", i.expr())
	case "match", "match?":
		for range pick(i, 1, 1, 2) {
			values.Add("match[]", i.selector())
		}
		if name == "match?" && i.rnd.IntN(2) == 0 {
			values.Del("match[]")
		}
	case "selector", "selector?":
		values.Set("selector", i.selector())
		if name == "selector?" && i.rnd.IntN(2) == 0 {
			values.Del("selector")
		}
	case "names":
		o := i.any()
		values["label_names[]"] = pick(i, []string{"__name__"}, []string{"team", "job"}, []string{o.label})
	case "date": // now, or the day of it
		values.Set("date", pick(i, "", i.now.UTC().Format(time.DateOnly)))
	case "time":
		values.Set("time", seconds(0))
	case "range":
		values.Set("start", seconds(-time.Hour))
		values.Set("end", seconds(2*time.Minute))
	case "step":
		values.Set("step", "60")
	case "stats":
		values.Set("stats", pick(i, "", "true", "all"))
	case "limit":
		values.Set("limit", pick(i, "100", "100", "1", "x"))
	case "metric":
		values.Set("metric", pick(i, "", "", i.any().metric))
	case "accept":
		r.header = []string{"Accept", pick(i, "text/plain", "application/openmetrics-text",
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")}
	}
}

// selector is one of everything, or of what somebody has.
func (i *isolation) selector() string {
	o := i.any()
	return pick(i,
		`{__name__=~".+"}`, `{team=~".*",__name__!=""}`, `{team="red"}`, `{team!="red",__name__!=""}`, `shared`, `{__name__=~"zq.*"}`,
		o.metric, o.metric+"_native", o.metric+"_otlp", `target_info`, `{team="nobody"}`,
		fmt.Sprintf(`{%s=~".+"}`, o.label), fmt.Sprintf(`{%s=%q}`, o.label, o.value), fmt.Sprintf(`{job=%q}`, o.job),
		fmt.Sprintf(`{__name__=~"%s.*"}`, o.metric[:7]), fmt.Sprintf(`{__name__=~".+",%s=""}`, o.label),
	)
}

// expr is a query, or nearly one: errors name series too.
func (i *isolation) expr() string {
	s := i.selector()
	return pick(i, s, s, "count by (__name__, team) ("+s+")", `count_values("v", `+s+")", "last_over_time("+s+"[5m])", "absent("+s+")",
		"topk(3, "+s+")", s+" or shared", "shared * on (team) group_right "+s, "shared * on () "+s, "("+s, s+" offset",
		"label_replace("+s+`,"a","$1","team","(.*)")`, `label_replace(`+s+`,"__name__","x","team",".*")`, s+"[5m]")
}

// readRemotely reads by samples or by chunks.
func readRemotely(i *isolation, pattern string) request {
	o := i.any()
	query := &prompb.Query{StartTimestampMs: i.now.Add(-time.Hour).UnixMilli(), EndTimestampMs: i.now.Add(time.Hour).UnixMilli()}
	query.Matchers = pick(i,
		[]*prompb.LabelMatcher{{Type: prompb.LabelMatcher_NEQ, Name: "__name__"}},
		[]*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "__name__", Value: "zq.*|shared"}},
		[]*prompb.LabelMatcher{{Name: "__name__", Value: o.metric}},
		[]*prompb.LabelMatcher{{Name: o.label, Value: o.value}},
		nil,
	)
	body := readBody(i.T, []prompb.ReadRequest_ResponseType{pick(i, asSamples, asChunks)}, query)
	return request{method: "POST", target: pattern, body: body}
}

// push writes what is stored, refused or nonsense; it is told nothing but what it
// sent.
func push(i *isolation, pattern string) request {
	guess := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "guess"}},
		Samples: []prompb.Sample{{Timestamp: pick(i, i.now.UnixMilli(), 1), Value: i.rnd.Float64()}},
	}}}
	r := pushOf(i.T, guess)
	r.target, r.method = pattern, pick(i, "POST", "POST", "GET")
	r.body = pick(i, r.body, r.body, []byte("no snappy"), s2.EncodeSnappy(nil, []byte("no message")))
	return r
}

func export(i *isolation, pattern string) request {
	r := exportOf(&owner{metric: "guess", team: "red", label: "guess", value: "guess", job: "guess"}, pick(i, i.now, time.Unix(1, 0)))
	r.target = pattern
	r.body = pick(i, r.body, r.body, []byte("{"))
	return r
}

func flush(i *isolation, pattern string) request {
	return request{method: "POST", target: pattern + "?tenant=" + i.any().tenant}
}
