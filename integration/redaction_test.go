package integration

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// planted is in every value that must be redacted here, and begins it: half a
// value is found as well.
const planted = "planted"

// person is a value that must be redacted, of its own for each place that it is put.
func person(place string) string { return planted + "." + place + "@secret.example" }

// redactingTenants has a tenant whose rules redact, and whose limits refuse.
const redactingTenants = `
tenants:
  team:
    limits:
      max_label_value_bytes: 20000
      max_labels_per_series: 8
      max_series_per_metric: 300
      quarantine: enforce
    relabel:
      metric_relabel_configs: [{source_labels: [usr], regex: '(.+)', target_label: user}, {regex: usr, action: labeldrop}]
      drop_labels: [unwanted]
      redact:
      - {detector: email, action: hash, labels: '__name__|user|note|other'}
      - {detector: email, action: reject, labels: forbidden}
      - {detector: email, action: drop, labels: 'any|path'}
      - {detector: email, action: mask}
      - {detector: regex, regex: 'kept-[a-z]+', name: kept, action: report}
      shadow: {drop_labels: [job], metric_relabel_configs: [{source_labels: [user], target_label: b}]}
`

// redacting is a weir that redacts, and all that it says.
type redacting struct {
	*testing.T
	s    *harness.Server
	now  int64 // ms
	said bytes.Buffer
	by   map[int]int // answers by status
}

// TestNothingRawLeaves puts what must be redacted wherever a request has text, has
// requests refused in every way that quotes them, asks every page that shows
// something of them, and searches all that a process wrote: answers, log, audit
// records, metrics and the files of its data directory, while it runs, when it has
// cut blocks, when it was killed and when it ended.
func TestNothingRawLeaves(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("redaction is weir's")
	}
	dir := t.TempDir()
	file, records := filepath.Join(dir, "tenants.yml"), filepath.Join(dir, "audit.json")
	require.NoError(t, os.WriteFile(file, []byte(redactingTenants), 0o600))
	x := &redacting{T: t, now: time.Now().UnixMilli(), by: map[int]int{}, s: harness.Start(t, harness.Config{Set: []string{
		"auth.mode=header", "tenants.file=" + file, "log.audit_file=" + records, "log.level=debug", "receiver.otlp.delta_max_series_per_tenant=3",
	}}).As("team")}

	x.write()
	x.search(records, "wal/")
	x.read()
	require.NoError(t, x.s.Flush(t.Context(), "X-Scope-OrgID", "team"))
	x.search(records, "wal/", "block/index", "team/metadata.json")
	x.writeSeries(harness.V2, "again")
	x.s.Kill()
	x.search(records)
	x.s.Again()
	x.writeSeries(harness.V1, "killed")
	x.read()
	x.s.Stop()
	x.search(records, "wal/", "block/index")
	require.Greater(t, x.by[http.StatusBadRequest], 50, "%v", x.by)
	require.Greater(t, x.by[http.StatusNoContent]+x.by[http.StatusOK], 20, "%v", x.by)
}

// write puts people everywhere.
func (x *redacting) write() {
	for _, p := range []harness.Protocol{harness.V1, harness.V2} {
		x.writeSeries(p, p.String())
		x.writeAtEdges(p)
	}
	help := message(3, append(message(2, []byte("family")), append(message(4, []byte("ask "+person("help"))), message(5, []byte(person("unit")))...)...))
	wrong := message(3, append(message(2, []byte("m."+person("family"))), message(4, []byte(person("badhelp")+"\xff"))...))
	long := message(3, message(2, []byte(strings.Repeat("f", 990)+person("longfamily")+strings.Repeat("f", 5000))))
	x.post(harness.V1, s2.EncodeSnappy(nil, bytes.Join([][]byte{help, wrong, long}, nil)))
	x.post(harness.V1, s2.EncodeSnappy(nil, []byte("\x0a\xff"+person("malformed"))))
	x.post(harness.V1, []byte(person("uncompressed")))
	x.post(harness.V1, []byte(person("unzipped")), "Content-Encoding", "zstd")
	x.writeOTLP()
	x.explode()
}

// float is a sample of now.
func (x *redacting) float() []harness.Sample { return []harness.Sample{{T: x.now, V: 1}} }

// writeSeries sends series of every kind, each in a request of its own, with a
// receipt and without.
func (x *redacting) writeSeries(p harness.Protocol, round string) {
	at := func(place string) string { return person(place + round) }
	exemplars := []harness.Exemplar{
		{Labels: []string{"user", at("exemplar")}, T: x.now}, {Labels: []string{"any", at("dropped")}, T: x.now},
		{Labels: []string{"forbidden", at("rejected")}, T: x.now}, {Labels: []string{"user", at("long") + strings.Repeat("x", 200)}, T: x.now},
	}
	for i, ls := range [][]string{
		{"__name__", "up", "user", at("user")},
		{"__name__", "up", "usr", at("renamed")},
		{"__name__", "up", "any", "to " + at("any") + " and on"},
		{"__name__", "up", "path", "/u/" + strings.ReplaceAll(at("path"), "@", "%40")},
		{"__name__", "up", "unwanted", at("unwanted"), "kind", "kept-here"},
		{"__name__", "m." + at("name"), "job", "a"},
		{"__name__", "up", "forbidden", at("forbidden")},
		{"user", at("nameless")},
		{"__name__", "up", "user", at("twice"), "user", at("thrice")},
		{"__name__", "up", "user", at("binary") + "\xff"},
		{"__name__", "up", at("labelname") + "\xff", "x"},
		{"__name__", "up", strings.Repeat("n", 2000) + at("longname"), "x"},
		{"__name__", "\xff" + at("badname")},
		{"__name__", "up", "user", at("many"), "a", "1", "b", "1", "c", "1", "d", "1", "e", "1", "f", "1", "g", "1"},
		{"__name__", "up", "user", strings.Repeat("v", 30_000) + at("toolong")},
	} {
		one := harness.Series{Labels: ls, Samples: x.float(), Exemplars: exemplars, Metadata: &harness.Metadata{Type: model.MetricTypeGauge, Help: "ask " + at("help"), Unit: at("unit")}}
		x.post(p, harness.Encode(x, p, one), receiptFor(i)...)
		late := harness.Series{Labels: ls, Samples: []harness.Sample{{T: x.now, V: 2}, {T: x.now - 3_600_000, V: 1}, {T: x.now + 3_600_000, V: 1}, {T: x.now, H: bell()}}}
		x.post(p, harness.Encode(x, p, late), receiptFor(i+1)...)
	}
	x.post(p, harness.Encode(x, p, harness.Series{Labels: []string{"__name__", "unknown", "user", at("lonely")}, Exemplars: exemplars}))
}

func receiptFor(i int) []string {
	if i%2 == 0 {
		return nil
	}
	return []string{"X-Weir-Trace", "1"}
}

// edges are the lengths at which texts are cut for people.
var edges = []int{64, 200, 256, 300, 700, 1000, 1024, 4096, 16 << 10}

// writeAtEdges sends values that are cut in the middle of what must be redacted,
// if they are cut before it is looked for.
func (x *redacting) writeAtEdges(p harness.Protocol) {
	var all []harness.Series
	for _, edge := range edges {
		for back := 8; back < 40; back += 6 {
			value := strings.Repeat("v", edge-back-1) + " " + person(fmt.Sprint("edge", edge)) + strings.Repeat(" v", 20_000)
			all = append(all, harness.Series{Labels: []string{"__name__", "edge", "user", value}, Samples: x.float()})
		}
	}
	for _, one := range all {
		x.post(p, harness.Encode(x, p, one), "X-Weir-Trace", "1")
	}
}

// writeOTLP sends data points, deltas that are refused, and nonsense.
func (x *redacting) writeOTLP() {
	attributes := func(keys ...string) string {
		var out []string
		for _, key := range keys {
			out = append(out, fmt.Sprintf(`{"key":%q,"value":{"stringValue":%q}}`, key, person("otlp"+key)))
		}
		return `"attributes":[` + strings.Join(out, ",") + `]`
	}
	metric := func(name, temporality, attributes string, t int64) string {
		return fmt.Sprintf(`{"name":%q,"description":%q,"sum":{"isMonotonic":true,"aggregationTemporality":%s,"dataPoints":[{"asDouble":1,%s,
			"startTimeUnixNano":"%d000000","timeUnixNano":"%d000000","exemplars":[{"asDouble":1,"timeUnixNano":"%d000000","filtered%s}]}]}}`,
			name, person("description"), temporality, attributes, t-1000, t, t, "A"+strings.TrimPrefix(attributes, `"a`))
	}
	x.otlp(`{"resourceMetrics":[{"resource":{` + attributes("service.name", "user", "host") + `},"scopeMetrics":[{"metrics":[` + metric("requests", "2", attributes("user", "any"), x.now) + `]}]}]}`)
	for i, ls := range []string{attributes("user"), attributes("user"), attributes("any"), attributes("user", "any", "x")} {
		x.otlp(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[` + metric("delta", "1", ls, x.now-int64(i)*1000) + `]}]}]}`)
	}
	for pad := range 60 { // what is refused of deltas is quoted up to a length
		ls := fmt.Sprintf(`"attributes":[{"key":"a","value":{"stringValue":%q}},{"key":"user","value":{"stringValue":%q}}]`, strings.Repeat("v", 100+2*pad), person("delta"))
		x.otlp(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[` + metric("delta", "1", ls, x.now) + `]}]}]}`)
	}
	x.otlp(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[` + metric(person("untranslatable"), "0", attributes("user"), x.now) + `]}]}]}`)
	x.otlp(`{"resourceMetrics": [{"` + person("key") + `": "` + person("value") + `", "resource": "` + person("resource") + `"}]}`)
}

// explode sends ever new people, until the metric is full.
func (x *redacting) explode() {
	for round := range 4 {
		var all []harness.Series
		for i := range 100 {
			all = append(all, harness.Series{Labels: []string{"__name__", "exploding", "user", person(fmt.Sprint("series", round, "x", i))}, Samples: x.float()})
		}
		x.post(harness.V2, harness.Encode(x, harness.V2, all...))
	}
}

func (x *redacting) post(p harness.Protocol, body []byte, header ...string) {
	x.Helper()
	a, err := x.s.Post(x.Context(), p, body, header...)
	require.NoError(x, err)
	require.Less(x, a.Status, 500, a.Body)
	x.by[a.Status]++
	x.hear(a.Header, a.Body)
}

func (x *redacting) otlp(body string) {
	x.Helper()
	hr, err := http.NewRequestWithContext(x.Context(), http.MethodPost, x.s.OTLPURL(), strings.NewReader(body))
	require.NoError(x, err)
	hr.Header.Set("Content-Type", "application/json")
	hr.Header.Set("X-Scope-OrgID", "team")
	resp, err := http.DefaultClient.Do(hr)
	require.NoError(x, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(x, err)
	require.Less(x, resp.StatusCode, 500, "%s", text)
	x.by[resp.StatusCode]++
	x.hear(resp.Header, string(text))
}

func (x *redacting) hear(h http.Header, body string) {
	x.Helper()
	for _, values := range h {
		body += " " + strings.Join(values, " ")
	}
	if at := strings.Index(body, planted); at >= 0 {
		x.Errorf("the answer has %q", body[max(at-100, 0):min(at+100, len(body))])
	}
	x.said.WriteString(body)
}

// read asks all that shows something of what was written.
func (x *redacting) read() {
	everything := `{__name__=~".+"}`
	for path, form := range map[string]url.Values{
		"/series": {"match[]": {everything}}, "/labels": {}, "/label/user/values": {}, "/label/__name__/values": {},
		"/query": {"query": {everything}}, "/query_range": {"query": {everything}, "start": {fmt.Sprint(x.now/1000 - 60)}, "end": {fmt.Sprint(x.now/1000 + 60)}, "step": {"15"}},
		"/query_exemplars": {"query": {"up"}, "start": {fmt.Sprint(x.now/1000 - 600)}, "end": {fmt.Sprint(x.now/1000 + 600)}},
		"/metadata":        {}, "/targets/metadata": {}, "/federate": {"match[]": {everything}},
		"/rejections": {}, "/senders": {}, "/explain": {"match[]": {"up", "edge", "exploding", "delta_total", `{user=~".+"}`, `{__name__=~"m.+"}`}},
		"/status/relabel": {}, "/status/tsdb": {"limit": {"100"}}, "/status/tsdb/blocks": {}, "/user_limits": {},
		"/cardinality": {"limit": {"500"}}, "/cardinality/label_names": {"limit": {"500"}}, "/cardinality/label_values": {"label_names[]": {"user", "__name__", "b"}, "limit": {"500"}},
		"/cardinality/active_series": {"selector": {everything}}, "/cardinality/quarantine": {},
	} {
		at := "/api/v1" + path
		if path == "/federate" {
			at = path
		}
		x.hear(nil, x.s.Text(x, at+"?"+form.Encode()))
	}
	x.hear(nil, x.s.As("").Text(x, "/metrics"))
	out, err := exec.CommandContext(x.Context(), harness.Binary(x), "quarantine", "list", "-url", x.s.Process().URL, "-tenant", "team").CombinedOutput()
	require.NoError(x, err, "%s", out)
	x.hear(nil, string(out))
	for _, selector := range []string{"up", "edge", `exploding`, "delta_total"} {
		x.hear(nil, explained(x.T, x.s, "team", selector))
		x.hear(nil, explained(x.T, x.s, "team", selector, "-json"))
	}
}

// search looks through everything that was written so far. In files of the kinds
// found there must be what is stored instead of people.
func (x *redacting) search(records string, found ...string) {
	x.Helper()
	kinds := map[string]int{} // of files, and how often they have what is stored instead
	require.NoError(x, filepath.WalkDir(x.s.DataDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil // it was replaced
		}
		if err != nil {
			return err
		}
		if at := bytes.Index(content, []byte(planted)); at >= 0 {
			x.Errorf("%s has %q", path, content[max(at-100, 0):min(at+100, len(content))])
		}
		kinds[kindOf(path)] += bytes.Count(content, []byte("[email:"))
		return nil
	}))
	for _, kind := range found {
		require.Positive(x, kinds[kind], "the search finds what is stored instead: %v", kinds)
	}
	require.NotContains(x, x.s.Log(), planted)
	audit, err := os.ReadFile(records)
	require.NoError(x, err)
	require.NotContains(x, string(audit), planted)
	require.Contains(x, x.said.String(), "[email")
	require.Contains(x, x.s.Log(), "[email", "the log quotes what is refused")
}

// kindOf is the kind of a file of a data directory: its folder, without numbers.
func kindOf(path string) string {
	dir := filepath.Base(filepath.Dir(path))
	if len(dir) == 26 {
		dir = "block"
	}
	return dir + "/" + strings.Trim(filepath.Base(path), "0123456789")
}
