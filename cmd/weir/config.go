package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/oidc"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/strictyaml"
	"github.com/weir-metrics/weir/tenant"
)

// targetAll runs every component in one process.
const targetAll = "all"

// Config is the whole configuration. The golden file testdata/defaults.yaml
// shows it with its defaults, docs/operations.md explains it.
type Config struct {
	Target      string            `yaml:"target"`
	DataDir     string            `yaml:"data_dir"`
	Log         LogConfig         `yaml:"log"`
	HTTP        HTTPConfig        `yaml:"http"`
	Auth        AuthConfig        `yaml:"auth"`
	Tenants     tenant.Config     `yaml:"tenants"`
	Limits      tenant.Limits     `yaml:"limits"`
	Receiver    receiver.Config   `yaml:"receiver"`
	Ingester    ingester.Config   `yaml:"ingester"`
	Query       api.Config        `yaml:"query"`
	Overload    overload.Config   `yaml:"overload"`
	Tracing     TracingConfig     `yaml:"tracing"`
	SelfMetrics SelfMetricsConfig `yaml:"self_metrics"`
}

// LogConfig says what is logged to standard error, and how.
type LogConfig struct {
	Level     string `yaml:"level"`
	Format    string `yaml:"format"`
	AuditFile string `yaml:"audit_file"`
}

// HTTPConfig has the addresses of the two listeners, and what each takes.
type HTTPConfig struct {
	Listen             string `yaml:"listen"`
	WebConfigFile      string `yaml:"web_config_file"`
	AdminListen        string `yaml:"admin_listen"`
	AdminWebConfigFile string `yaml:"admin_web_config_file"`
	MaxConnections     int    `yaml:"max_connections"`
}

// AuthConfig says how the tenant of a request is found.
type AuthConfig struct {
	Mode           tenant.Mode   `yaml:"mode"`
	TrustedProxies []string      `yaml:"trusted_proxies"`
	Issuers        []oidc.Issuer `yaml:"issuers"`
}

// SelfMetricsConfig says where weir writes its own metrics.
type SelfMetricsConfig struct {
	Enabled  bool          `yaml:"enabled"`
	Tenant   string        `yaml:"tenant"`
	Interval time.Duration `yaml:"interval"`
}

// DefaultConfig is the configuration of a process that was given none.
func DefaultConfig() Config {
	return Config{
		Target:  targetAll,
		DataDir: "./data",
		Log: LogConfig{
			Level:     "info",   // debug, info, warn or error
			Format:    "logfmt", // or json
			AuditFile: "",       // of audit records, a JSON object each; empty: they are in the log
		},
		HTTP: HTTPConfig{
			Listen:             "",               // by auth.mode: see defaultListen
			WebConfigFile:      "",               // TLS, in the format of Prometheus' exporter toolkit; empty: none
			AdminListen:        "127.0.0.1:9010", // pprof; empty: none
			AdminWebConfigFile: "",               // likewise
			MaxConnections:     4096,             // of each listener, about 16 KiB each; beyond that idle ones are closed
		},
		Auth: AuthConfig{
			Mode:           tenant.ModeNone, // none, header or required
			TrustedProxies: []string{},      // networks, who are believed about where a request comes from
			Issuers:        []oidc.Issuer{}, // of JSON web tokens that are taken for credentials
		},
		Tenants: tenant.Config{
			File:     "", // plans, tenants and credentials, read again when it changes; empty: none
			Unlisted: "", // by auth.mode: see defaultUnlisted
		},
		Limits:   tenant.DefaultLimits(),
		Receiver: receiver.DefaultConfig(),
		Ingester: ingester.DefaultConfig(),
		Query:    api.DefaultConfig(),
		Overload: overload.DefaultConfig(),
		Tracing: TracingConfig{
			Endpoint:    "",   // of an OTLP collector; empty: no traces, unless the environment names one
			SampleRatio: 0.01, // of the requests whose client says nothing about it
		},
		SelfMetrics: SelfMetricsConfig{
			Enabled:  true,
			Tenant:   "", // by auth.mode: see defaultSelfTenant
			Interval: 15 * time.Second,
		},
	}
}

// settings are those of tenants for whom the runtime file has none.
func (c *Config) settings() tenant.Settings {
	set := tenant.DefaultSettings()
	set.Limits = c.Limits
	return set
}

// defaultListen is the address of a process that was given none. Whoever can
// reach a process without authentication can read and write everything, so
// nobody else can unless the operator says so.
func defaultListen(mode tenant.Mode) string {
	if mode == tenant.ModeNone {
		return "127.0.0.1:9009"
	}
	return ":9009"
}

// defaultUnlisted is what becomes of tenants that the runtime file does not list
// when nothing says so. A proxy that names the tenant has seen to it that it
// exists, and with Mimir it would; who shows a credential is known to the file.
func defaultUnlisted(mode tenant.Mode) tenant.Unlisted {
	if mode == tenant.ModeNone || mode == tenant.ModeHeader {
		return tenant.AcceptUnlisted
	}
	return tenant.RefuseUnlisted
}

// defaultSelfTenant is whom our own metrics are written for when nothing says so.
// They name every tenant. Where there are several, Anonymous may be one of them,
// and is whom gateways of Mimir take for those who name none.
func defaultSelfTenant(mode tenant.Mode) string {
	if mode == tenant.ModeNone {
		return tenant.Anonymous
	}
	return "weir"
}

// assignment sets one path of the tree; flag is what the operator typed.
type assignment struct {
	flag, path, value string
}

// loadConfig is the defaults, then the file (none when its name is empty), then
// the assignments in order. Its error names every violation, one a line.
func loadConfig(file string, assignments []assignment, getenv func(string) (string, bool)) (Config, error) {
	cfg := DefaultConfig()
	var errs []error
	if file != "" {
		errs = append(errs, readFile(file, &cfg, getenv)...)
	}
	for _, a := range assignments {
		if err := strictyaml.Set(&cfg, a.path, a.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.flag, err))
		}
	}
	if cfg.HTTP.Listen == "" {
		cfg.HTTP.Listen = defaultListen(cfg.Auth.Mode)
	}
	if cfg.Tenants.Unlisted == "" {
		cfg.Tenants.Unlisted = defaultUnlisted(cfg.Auth.Mode)
	}
	if cfg.SelfMetrics.Tenant == "" {
		cfg.SelfMetrics.Tenant = defaultSelfTenant(cfg.Auth.Mode)
	}
	if cfg.Auth.Mode == tenant.ModeRequired {
		cfg.Tenants.Issuers = cfg.Auth.issuers()
	}
	errs = append(errs, strictyaml.Validate(&cfg)...)
	return cfg, errors.Join(errs...)
}

func readFile(file string, cfg *Config, getenv func(string) (string, bool)) []error {
	f, err := os.Open(file)
	if err != nil {
		return []error{fmt.Errorf("read the configuration: %w", err)}
	}
	defer f.Close()
	return strictyaml.Decode(file, f, cfg, getenv)
}

// Validate holds the rules of the top of the tree and those between sections.
func (c *Config) Validate(string) []error {
	var errs []error
	if c.Target != targetAll {
		errs = append(errs, fmt.Errorf("target: %q: must be %s, the only target so far", c.Target, targetAll))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New(`data_dir: "": must name a directory`))
	}
	if c.Auth.Mode == tenant.ModeNone && c.Tenants.Unlisted == tenant.RefuseUnlisted {
		errs = append(errs, fmt.Errorf("tenants.unlisted: %q: must be %s while auth.mode is %s, which serves %s whatever the file lists",
			c.Tenants.Unlisted, tenant.AcceptUnlisted, tenant.ModeNone, tenant.Anonymous))
	}
	if c.SelfMetrics.Enabled && c.Auth.Mode == tenant.ModeNone && c.SelfMetrics.Tenant != tenant.Anonymous {
		errs = append(errs, fmt.Errorf("self_metrics.tenant: %q: must be %s while auth.mode is %s, which serves no other tenant",
			c.SelfMetrics.Tenant, tenant.Anonymous, tenant.ModeNone))
	}
	return errs
}

// Validate implements strictyaml.Section.
func (c *LogConfig) Validate(prefix string) []error {
	var errs []error
	if err := new(slog.Level).UnmarshalText([]byte(c.Level)); err != nil {
		errs = append(errs, fmt.Errorf("%s.level: %q: must be debug, info, warn or error", prefix, c.Level))
	}
	if !slices.Contains([]string{"logfmt", "json"}, c.Format) {
		errs = append(errs, fmt.Errorf("%s.format: %q: must be logfmt or json", prefix, c.Format))
	}
	return errs
}

// Validate implements strictyaml.Section.
func (c *HTTPConfig) Validate(prefix string) []error {
	var errs []error
	address := func(name, value string) {
		if _, _, err := net.SplitHostPort(value); err != nil {
			errs = append(errs, fmt.Errorf("%s.%s: %q: must be host:port or :port", prefix, name, value))
		}
	}
	address("listen", c.Listen)
	if c.AdminListen != "" {
		address("admin_listen", c.AdminListen)
	}
	if c.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("%s.max_connections: %d: must be at least 1", prefix, c.MaxConnections))
	}
	return errs
}

// Validate implements strictyaml.Section.
func (c *AuthConfig) Validate(prefix string) []error {
	var errs []error
	modes := []string{string(tenant.ModeNone), string(tenant.ModeHeader), string(tenant.ModeRequired)}
	if !slices.Contains(modes, string(c.Mode)) {
		errs = append(errs, fmt.Errorf("%s.mode: %q: must be one of %s", prefix, c.Mode, strings.Join(modes, ", ")))
	}
	for i, proxy := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(proxy); err != nil {
			errs = append(errs, fmt.Errorf("%s.trusted_proxies[%d]: %q: must be a network such as 10.0.0.0/8 or 192.0.2.7/32", prefix, i, proxy))
		}
	}
	if len(c.Issuers) > 0 && c.Mode != tenant.ModeRequired {
		errs = append(errs, fmt.Errorf("%s.issuers: must be empty unless %s.mode is %s: no other looks at tokens", prefix, prefix, tenant.ModeRequired))
	}
	for i := range c.Issuers {
		errs = append(errs, c.Issuers[i].Validate(fmt.Sprintf("%s.issuers[%d]", prefix, i))...)
	}
	return errs
}

// proxies are the trusted ones of a configuration that was validated.
func (c *AuthConfig) proxies() []netip.Prefix {
	var all []netip.Prefix
	for _, proxy := range c.TrustedProxies {
		all = append(all, netip.MustParsePrefix(proxy))
	}
	return all
}

// issuers are those whose tokens are taken, by url; not nil.
func (c *AuthConfig) issuers() []string {
	urls := []string{}
	for _, i := range c.Issuers {
		urls = append(urls, i.URL)
	}
	return urls
}

// Validate implements strictyaml.Section.
func (c *SelfMetricsConfig) Validate(prefix string) []error {
	var errs []error
	if err := tenant.ValidateID(c.Tenant); err != nil {
		errs = append(errs, fmt.Errorf("%s.tenant: %q: must be a tenant id: %w", prefix, c.Tenant, err))
	}
	if c.Interval < time.Second {
		errs = append(errs, fmt.Errorf("%s.interval: %s: must be at least 1s", prefix, strictyaml.FormatDuration(c.Interval)))
	}
	return errs
}
