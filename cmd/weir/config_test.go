package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/weir-metrics/weir/strictyaml"
	"github.com/weir-metrics/weir/tenant"
)

var rewrite = flag.Bool("rewrite", false, "write golden files instead of comparing with them")

func env(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := pairs[name]
		return value, ok
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.yml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestDefaultsGolden(t *testing.T) {
	const golden = "testdata/defaults.yaml"
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"config", "print", "-config.file", writeFile(t, "")}, env(nil), &stdout, &stderr)
	require.Zero(t, code, "%s", &stderr)
	if *rewrite {
		require.NoError(t, os.WriteFile(golden, stdout.Bytes(), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), stdout.String(), "run go test ./cmd/weir -rewrite and read the diff")
}

func TestPrintedConfigReadsBack(t *testing.T) {
	want, err := loadConfig("testdata/full.yaml", nil, env(map[string]string{"WEIR_PORT": "19009", "WEIR_WINDOW": "1h"}))
	require.NoError(t, err)
	var printed bytes.Buffer
	require.NoError(t, strictyaml.Encode(&printed, want))
	got, err := loadConfig(writeFile(t, printed.String()), nil, env(nil))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got))
}

// Each line of the operations manual's table is one path with its default.
func TestEveryPathIsDocumented(t *testing.T) {
	manual, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	defaults, err := loadConfig("", nil, env(nil))
	require.NoError(t, err)
	var missing []string
	for _, leaf := range strictyaml.Leaves(reflect.ValueOf(defaults)) {
		row := fmt.Sprintf("| `%s` | `%s` |", leaf.Name, leafText(t, leaf.Value))
		if !strings.Contains(string(manual), row) {
			missing = append(missing, row)
		}
	}
	require.Empty(t, missing, "rows that docs/operations.md lacks")
}

func leafText(t *testing.T, v reflect.Value) string {
	t.Helper()
	node, err := strictyaml.Node(v)
	require.NoError(t, err)
	if node.Kind == yaml.SequenceNode {
		text, err := yaml.Marshal(node)
		require.NoError(t, err)
		return strings.TrimSpace(string(text))
	}
	return node.Value
}

func TestEverySectionHasRules(t *testing.T) {
	cfg := DefaultConfig()
	for _, f := range strictyaml.Fields(reflect.ValueOf(&cfg).Elem()) {
		if f.Value.Kind() == reflect.Struct {
			require.Implements(t, (*strictyaml.Section)(nil), f.Value.Addr().Interface(), f.Name)
		}
	}
}

func TestEveryViolationAtOnce(t *testing.T) {
	file := writeFile(t, `target: ingester
data_dir: ""
colour: blue
limits:
  max_label_name_bytes: many
  max_label_value_bytes: 0
  out_of_order_windw: 1h
  future_grace: soon
  past_grace: [1, 2]
receiver: 12
http:
  listen: 9009
  listen: 127.0.0.1:9009
  max_connections: 0
overload:
  max_concurrent_reads: 1
tracing:
  endpoint: collector:4318
  sample_ratio: .nan
self_metrics:
  enabled: perhaps
  interval: 10ms
log:
  level: ${LEVEL}
`)
	_, err := loadConfig(file, []assignment{
		{"-set", "log.nothing", "1"},
		{"-set", "limits", "1"},
		{"-set", "data_dir.x", "1"},
		{"-set", "self_metrics.enabled", "2"},
		{"-set", "query.features", "use-start-timestamps"},
		{"-log.format", "log.format", "xml"},
	}, env(nil))
	require.Error(t, err)
	got := strings.ReplaceAll(err.Error(), file, "weir.yml")
	want := strings.Join([]string{
		`weir.yml:3: colour: unknown key: must be one of target, data_dir, log, http, auth, tenants, limits, receiver, ingester, query, overload, tracing, self_metrics`,
		`weir.yml:5: limits.max_label_name_bytes: "many": must be a whole number`,
		`weir.yml:7: limits.out_of_order_windw: unknown key: did you mean out_of_order_window?`,
		`weir.yml:8: limits.future_grace: "soon": must be a duration such as 500ms, 30s, 10m or 15d`,
		`weir.yml:9: limits.past_grace: a list: must be a duration such as 500ms, 30s, 10m or 15d`,
		`weir.yml:10: receiver: a single value: must be a mapping`,
		`weir.yml:13: http.listen: set twice`,
		`weir.yml:21: self_metrics.enabled: "perhaps": must be true or false`,
		`weir.yml:24: log.level: ${LEVEL}: the environment has no variable "LEVEL"`,
		`-set: log.nothing: unknown key: must be one of level, format, audit_file`,
		`-set: limits: name a single value below it, such as limits.max_labels_per_series`,
		`-set: data_dir.x: nothing can be set below a single value`,
		`-set: self_metrics.enabled: "2": must be true or false`,
		`-set: query.features: "use-start-timestamps": must be a list such as [a, b]`,
		`target: "ingester": must be all, the only target so far`,
		`data_dir: "": must name a directory`,
		`log.format: "xml": must be logfmt or json`,
		`http.listen: "9009": must be host:port or :port`,
		`http.max_connections: 0: must be at least 1`,
		`limits.max_label_value_bytes: 0: must be at least 1`,
		`overload.max_concurrent_reads: 1: must be at least 2, because one tenant gets half of them`,
		`tracing.endpoint: "collector:4318": must be empty, or a URL such as http://collector:4318/v1/traces`,
		`tracing.sample_ratio: NaN: must be from 0 to 1`,
		`self_metrics.interval: 10ms: must be at least 1s`,
	}, "\n")
	require.Empty(t, cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
}

func TestRulesBetweenSections(t *testing.T) {
	set := func(path, value string) assignment { return assignment{"-set", path, value} }
	for _, tc := range []struct {
		name string
		sets []assignment
		want string
	}{
		{"own metrics where nobody can read them", []assignment{set("self_metrics.tenant", "ops")},
			`self_metrics.tenant: "ops": must be anonymous while auth.mode is none`},
		{"own metrics of a tenant that cannot be", []assignment{set("auth.mode", "header"), set("self_metrics.tenant", "a/b")},
			`self_metrics.tenant: "a/b": must be a tenant id`},
		{"tenants refused where there is one", []assignment{set("tenants.unlisted", "refuse")},
			`tenants.unlisted: "refuse": must be accept while auth.mode is none`},
		{"what becomes of tenants", []assignment{set("auth.mode", "header"), set("tenants.unlisted", "ask")},
			`tenants.unlisted: "ask": must be accept or refuse`},
		{"an unknown mode", []assignment{set("auth.mode", "open")}, `auth.mode: "open": must be one of none, header, required`},
		{"issuers that nobody asks", []assignment{set("auth.issuers", "[{url: https://sso.example, audiences: [weir]}]")},
			`auth.issuers: must be empty unless auth.mode is required`},
		{"an issuer with a mistake", []assignment{set("auth.mode", "required"), set("auth.issuers", "[{url: https://sso.example, audience: weir}]")},
			`auth.issuers[0].audience: unknown key: did you mean audiences?`},
		{"an issuer without TLS", []assignment{set("auth.mode", "required"), set("auth.issuers", "[{url: http://sso.example, audiences: [weir]}]")},
			`auth.issuers[0].url: "http://sso.example": must be an https URL`},
		{"a password that nobody gets", []assignment{set("tracing.endpoint", "https://weir:hunter2@collector.example")},
			`tracing.endpoint: must have no password and no parameters`},
		{"a proxy without a mask", []assignment{set("auth.trusted_proxies", "[10.0.0.0/8, 192.0.2.7]")},
			`auth.trusted_proxies[1]: "192.0.2.7": must be a network such as 10.0.0.0/8 or 192.0.2.7/32`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := loadConfig("", tc.sets, env(nil))
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestBrokenFiles(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"not YAML", "a: [", "did not find expected node content"},
		{"not a mapping", "- a", ":1: : a list: must be a mapping"},
		{"two documents", "target: all\n---\ntarget: all\n", "has a second YAML document"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := loadConfig(writeFile(t, tc.content), nil, env(nil))
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, err := loadConfig(filepath.Join(t.TempDir(), "absent.yml"), nil, env(nil))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestEnvironmentExpansion(t *testing.T) {
	vars := env(map[string]string{"DIR": "/srv/weir", "N": "7", "ON": "false", "FEATURE": "use-start-timestamps", "EVIL": "x\nlog: {level: debug}", "REF": "${DIR}"})
	for _, tc := range []struct {
		name, content string
		change        func(*Config)
	}{
		{"whole scalar", "data_dir: ${DIR}", func(c *Config) { c.DataDir = "/srv/weir" }},
		{"part of a scalar", "data_dir: ${DIR}/${N}", func(c *Config) { c.DataDir = "/srv/weir/7" }},
		{"a quoted scalar stays text", "self_metrics: {enabled: '${ON}'}", nil},
		{"a plain one takes the type of the value", "self_metrics:\n  enabled: ${ON}\nlimits:\n  max_exemplars: ${N}\n",
			func(c *Config) { c.SelfMetrics.Enabled, c.Limits.MaxExemplars = false, 7 }},
		{"duration", "limits:\n  past_grace: ${N}d\n", func(c *Config) { c.Limits.PastGrace = 7 * 24 * time.Hour }},
		{"in a list", "query:\n  features: ['${FEATURE}']\n", func(c *Config) { c.Query.Features = []string{"use-start-timestamps"} }},
		{"a value cannot add keys", "data_dir: ${EVIL}", func(c *Config) { c.DataDir = "x\nlog: {level: debug}" }},
		{"a value is expanded no further, also by an alias", "data_dir: &a ${REF}\nlog: {audit_file: *a}", func(c *Config) { c.DataDir, c.Log.AuditFile = "${DIR}", "${DIR}" }},
		{"a dollar alone is text", "data_dir: a$DIR", func(c *Config) { c.DataDir = "a$DIR" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := loadConfig(writeFile(t, tc.content), nil, vars)
			if tc.change == nil {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			want := DefaultConfig()
			want.HTTP.Listen = "127.0.0.1:9009"
			want.Tenants.Unlisted = tenant.AcceptUnlisted
			want.SelfMetrics.Tenant = tenant.Anonymous
			tc.change(&want)
			require.Empty(t, cmp.Diff(want, got))
		})
	}
}

// TestOwnMetricsAreNotForAnonymous: they name every tenant, and where there are
// several, Anonymous is one that somebody may have by default.
func TestOwnMetricsAreNotForAnonymous(t *testing.T) {
	for mode, want := range map[string]string{"none": tenant.Anonymous, "header": "weir", "required": "weir"} {
		cfg, err := loadConfig("", []assignment{{"-set", "auth.mode", mode}}, env(nil))
		require.NoError(t, err)
		require.Equal(t, want, cfg.SelfMetrics.Tenant)
	}
}

func TestSetEveryType(t *testing.T) {
	got, err := loadConfig("", []assignment{
		{"-set", "data_dir", "[::1]: not YAML"},
		{"-set", "auth.mode", "header"},
		{"-set", "limits.max_exemplars", "0"},
		{"-set", "limits.past_grace", "1w"},
		{"-set", "limits.future_grace", "1.5h"},
		{"-set", "self_metrics.enabled", "false"},
		{"-set", "query.features", "[use-start-timestamps, type-and-unit-labels]"},
	}, env(nil))
	require.NoError(t, err)
	want := DefaultConfig()
	want.DataDir = "[::1]: not YAML"
	want.Auth.Mode = tenant.ModeHeader
	want.HTTP.Listen = ":9009"
	want.Tenants.Unlisted = tenant.AcceptUnlisted
	want.Limits.MaxExemplars = 0
	want.Limits.PastGrace = 7 * 24 * time.Hour
	want.Limits.FutureGrace = 90 * time.Minute
	want.SelfMetrics.Enabled = false
	want.SelfMetrics.Tenant = "weir"
	want.Query.Features = []string{"use-start-timestamps", "type-and-unit-labels"}
	require.Empty(t, cmp.Diff(want, got))
}

func TestPrecedence(t *testing.T) {
	file := writeFile(t, "log: {level: warn, format: json}\ndata_dir: from-file\nhttp: {listen: ':1'}\n")
	for _, tc := range []struct {
		name string
		args []string
		want [3]string // level, format, data_dir
	}{
		{"file over defaults", nil, [3]string{"warn", "json", "from-file"}},
		{"set over file", []string{"-set", "log.level=error"}, [3]string{"error", "json", "from-file"}},
		{"later set over earlier", []string{"-set=log.level=error", "-set=log.level=debug"}, [3]string{"debug", "json", "from-file"}},
		{"flag over set, wherever it stands", []string{"-data.dir=from-flag", "-set=data_dir=from-set"}, [3]string{"warn", "json", "from-flag"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flags, command, err := parseArgs(append([]string{"-config.file", file}, tc.args...), nil, nil)
			require.NoError(t, err)
			require.Equal(t, "run", command)
			assignments, err := flags.assignments()
			require.NoError(t, err)
			got, err := loadConfig(flags.ConfigFile, assignments, env(nil))
			require.NoError(t, err)
			require.Equal(t, tc.want, [3]string{got.Log.Level, got.Log.Format, got.DataDir})
			require.Equal(t, ":1", got.HTTP.Listen)
		})
	}
}

func TestDefaultListen(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []assignment
		want string
	}{
		{"nobody is asked who they are: loopback", nil, "127.0.0.1:9009"},
		{"a proxy says who they are: everywhere", []assignment{{"", "auth.mode", "header"}}, ":9009"},
		{"the operator says so", []assignment{{"", "http.listen", "0.0.0.0:80"}}, "0.0.0.0:80"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := loadConfig("", tc.args, env(nil))
			require.NoError(t, err)
			require.Equal(t, tc.want, got.HTTP.Listen)
		})
	}
}
