package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/oidc"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/strictyaml"
	"github.com/weir-metrics/weir/tenant"
)

// runAll is the target "all": every component in this process, until ctx ends
// or one of them fails.
func runAll(ctx context.Context, cfg Config, flags map[string]string, log *log, stdout io.Writer) error {
	settings, err := shownSettings(cfg, flags)
	if err != nil {
		return err
	}
	listener, err := listen("-http.listen", cfg.HTTP.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	log.Info("starting", "version", version.Version, "revision", version.GetRevision(),
		"addr", listener.Addr(), "admin_addr", cfg.HTTP.AdminListen, "data_dir", cfg.DataDir, "auth_mode", cfg.Auth.Mode)
	warnIfOpen(cfg.Auth.Mode, listener.Addr(), log.Logger)
	limitMemory(log.Logger)

	reg := newRegistry(log)
	instance := instanceOf(listener.Addr())
	spans, err := newTracer(ctx, cfg.Tracing, instance, log.component("tracing"))
	if err != nil {
		return err
	}
	records, closeAudit, err := newAudit(cfg.Log, log, reg)
	if err != nil {
		return err
	}
	defer closeAudit()
	tokens, err := newTokens(cfg.Auth, log, reg)
	if err != nil {
		return err
	}
	tenants := tenant.NewDirectory(cfg.Auth.Mode, cfg.settings()).
		WithAuth(tenant.Auth{TrustedProxies: cfg.Auth.proxies(), Tokens: tokens, Audit: records, Registry: reg})
	if err := tenants.Follow(cfg.Tenants, log.component("tenants"), reg); err != nil {
		return err
	}
	c, err := newComponents(ctx, cfg, tenants, settings, spans, log, reg)
	if err != nil {
		return err
	}
	self := newSelfMetrics(cfg.SelfMetrics, instance, reg, log.component("self metrics"), c.receiver.WriteV2)
	servers, err := newServers(cfg.HTTP, listener, c.api, log, reg)
	if err != nil {
		return err
	}

	var parts []part
	if spans != nil {
		parts = append(parts, part{"tracing", spans.run})
	}
	if tokens != nil {
		parts = append(parts, part{"oidc", tokens.Run})
	}
	parts = append(parts, part{"audit", records.Run}, part{"tenants", tenants.Run}, part{"overload", c.guard.Run}, part{"ingester", c.ingester.Run})
	parts = append(parts, servers...)
	parts = append(parts, part{"self metrics", func(ctx context.Context) error {
		return greet(ctx, c.ingester.Ready, self, func() { sayHello(cfg, listener.Addr(), stdout, log.Logger) })
	}})
	err = runParts(ctx, log.Logger, parts)
	log.Info("stopped")
	return err
}

// components of the target "all", each made of those before it.
type components struct {
	guard    *overload.Guard
	ingester *ingester.Ingester
	receiver *receiver.Receiver
	api      *api.API
}

func newComponents(ctx context.Context, cfg Config, tenants *tenant.Directory, settings api.Settings, spans *tracer, log *log, reg *prometheus.Registry) (components, error) {
	secret, err := loadSecret(cfg.DataDir)
	if err != nil {
		return components{}, err
	}
	guard := overload.New(cfg.Overload, log.component("overload"), reg)
	var usage *tenant.Usage
	var recv *receiver.Receiver // who call the ingester, and are asked by it when it runs
	ing := ingester.New(cfg.Ingester, ingester.Deps{
		Dir: filepath.Join(cfg.DataDir, "tsdb"), Limits: tenants.Limits, Logger: log.component("ingester"), Registry: reg,
		Activity: func(id string) tenant.Activity { return usage.Activity(id) },
		RateUse:  func(id string) []proto.Quota { return recv.RateUse(id) },
	})
	usage = tenant.NewUsage(ing.ActiveSeries, reg)
	refusals := ledger.New(reg)
	recv = receiver.New(cfg.Receiver, receiver.Deps{
		Ingester: ing, Tenants: tenants, Settings: tenants.Settings, Usage: usage, Ledger: refusals, Budget: guard.Writes, Secret: secret,
		Logger: log.component("receiver"), Registry: reg,
	})
	surface := api.New(cfg.Query, api.Deps{
		Querier:     querier.New(ing).WithLimits(cfg.Query.SourceLimits()),
		Engine:      api.NewEngine(cfg.Query, log.component("engine"), reg),
		Tenants:     tenants,
		Writer:      recv,
		OTLP:        recv.OTLP(),
		Ledger:      refusals,
		Admits:      recv.Admits,
		Flush:       ing.Flush,
		Storage:     ing,
		Series:      ing,
		Ready:       readiness(ctx, ing.Ready),
		Subsystems:  subsystems(ctx, ing, guard),
		Usage:       usage,
		Budget:      guard.Reads,
		Tracer:      spans.of(),
		LogLevel:    log.level,
		Registry:    reg,
		Gatherer:    reg,
		Logger:      log.component("api"),
		BuildInfo:   buildInfo(),
		Settings:    settings,
		TenantStats: func() any { return ing.Tenants() },
		TenantUsage: func(id string) any { return ing.UsageOf(id) },
		RelabelReport: func(tenant string, examples bool) any {
			return recv.RelabelReports(tenant, examples)
		},
	})
	return components{guard, ing, recv, surface}, nil
}

// newServers returns the server of listener and, where there is to be one, that of
// the admin listener.
func newServers(cfg HTTPConfig, listener net.Listener, surface *api.API, log *log, reg *prometheus.Registry) ([]part, error) {
	opened := newConnectionMetrics(reg)
	web, err := openWebConfig("http.web_config_file", cfg.WebConfigFile, log.component("http"), newWebMetrics("http", reg))
	if err != nil {
		return nil, err
	}
	parts := serving("http", opened.bound("http", listener, cfg.MaxConnections, web), surface.Handler(), log)
	if cfg.AdminListen == "" {
		return parts, nil
	}
	web, err = openWebConfig("http.admin_web_config_file", cfg.AdminWebConfigFile, log.component("admin http"), newWebMetrics("admin", reg))
	if err != nil {
		return nil, err
	}
	admin, err := listen("-admin.listen", cfg.AdminListen)
	if err != nil {
		return nil, err
	}
	return append(parts, serving("admin http", opened.bound("admin", admin, cfg.MaxConnections, web), surface.AdminHandler(), log)...), nil
}

// newTokens returns who verifies tokens of issuers; nil when there are none.
func newTokens(cfg AuthConfig, log *log, reg prometheus.Registerer) (*oidc.Verifier, error) {
	if len(cfg.Issuers) == 0 {
		return nil, nil
	}
	v, err := oidc.New(cfg.Issuers, log.component("oidc"), reg)
	if err != nil {
		return nil, fmt.Errorf("auth.issuers: %w", err)
	}
	return v, nil
}

// serving are the parts that serve one listener, and keep its TLS up to date.
func serving(name string, on *connections, h http.Handler, log *log) []part {
	parts := []part{{name, server{on, h, log.component(name)}.run}}
	if on.web != nil {
		parts = append([]part{{name + " web config", on.web.run}}, parts...)
	}
	return parts
}

// readyPoll is how long a newcomer may wait for the banner after weir is ready.
const readyPoll = 20 * time.Millisecond

// warnIfOpen says so when everybody who reaches us may read and write.
func warnIfOpen(mode tenant.Mode, addr net.Addr, logger *slog.Logger) {
	if tcp, ok := addr.(*net.TCPAddr); ok && mode == tenant.ModeNone && !tcp.IP.IsLoopback() {
		logger.Warn("anybody who reaches this address can read and write everything: auth.mode is none", "addr", addr)
	}
}

func newRegistry(log *log) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "weir_log_suppressed_lines_total",
			Help: "Warnings that were not logged because the same one was logged often in the same minute.",
		}, func() float64 { return float64(log.limiter.suppressed.Load()) }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("weir"),
	)
	return reg
}

// shownSettings are what the status pages show of how we were started.
func shownSettings(cfg Config, flags map[string]string) (api.Settings, error) {
	var text strings.Builder
	if err := strictyaml.Encode(&text, cfg); err != nil {
		return api.Settings{}, fmt.Errorf("print the configuration: %w", err)
	}
	return api.Settings{YAML: text.String(), Flags: flags, Retention: cfg.Ingester.Retention}, nil
}

func buildInfo() api.BuildInfo {
	return api.BuildInfo{
		Version:   version.Version,
		Revision:  version.GetRevision(),
		Branch:    version.Branch,
		BuildUser: version.BuildUser,
		BuildDate: version.BuildDate,
		GoVersion: version.GoVersion,
	}
}

// readiness is what /ready asks: not before the ingester has replayed its logs,
// and no longer once ctx has ended, which is the order to stop.
func readiness(ctx context.Context, ingester func() error) func() error {
	return func() error {
		if ctx.Err() != nil {
			return proto.Errorf(proto.KindUnavailable, "weir-shutting-down", "the server is shutting down; repeat the request")
		}
		return ingester()
	}
}

// instanceOf is the instance label of our own metrics: a name that tells
// processes apart, with the port that a scraper would add.
func instanceOf(addr net.Addr) string {
	host, err := os.Hostname()
	if err != nil {
		return addr.String()
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return host
	}
	return net.JoinHostPort(host, port)
}

// greet waits for ready, begins to write our own metrics, and calls hello once
// the first of them are stored. It returns when ctx ends.
func greet(ctx context.Context, ready func() error, self *selfMetrics, hello func()) error {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for ready() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
	}
	if self.cfg.Enabled {
		return self.run(ctx, hello)
	}
	hello()
	<-ctx.Done()
	return nil
}

func sayHello(cfg Config, addr net.Addr, stdout io.Writer, logger *slog.Logger) {
	b := banner{addr: addr, tls: cfg.HTTP.WebConfigFile != "", mode: cfg.Auth.Mode, dataDir: cfg.DataDir}
	if cfg.SelfMetrics.Enabled {
		b.tenant = cfg.SelfMetrics.Tenant
	}
	if err := b.print(stdout); err != nil {
		logger.Warn("standard output takes no banner", "err", err)
	}
}
