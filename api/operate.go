package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weir-metrics/weir/tenant"
)

// application is the name in buildinfo.
const application = "weir"

// buildFeatures tell Grafana what it may use. Their values are strings, as Grafana
// expects.
type buildFeatures struct {
	RulerConfigAPI        string `json:"ruler_config_api"`
	AlertmanagerConfigAPI string `json:"alertmanager_config_api"`
	QuerySharding         string `json:"query_sharding"`
	FederatedRules        string `json:"federated_rules"`
}

// buildInfo says which program this is.
func (a *API) buildInfo() any {
	return struct {
		Application string `json:"application"`
		BuildInfo
		Features buildFeatures `json:"features"`
	}{application, a.BuildInfo, buildFeatures{"false", "false", "false", "false"}}
}

// identified lets those use a handler of the data listener who have the scopes of
// need; it is about no tenant, or about all.
func (a *API) identified(need tenant.Scope, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := a.Tenants.Identify(r, need); err != nil {
			a.fail(w, r, "", err)
			return
		}
		h(w, r)
	}
}

// operatorFunc answers an operator, and records what it did for whom.
type operatorFunc func(w http.ResponseWriter, r *http.Request, who tenant.Identity)

// operator lets operators use f, on the admin listener.
func (a *API) operator(f operatorFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := a.Tenants.Operator(r)
		if err != nil {
			a.fail(w, r, "", err)
			return
		}
		f(w, r, who)
	}
}

// unrecorded lets operators use a handler that only looks.
func (a *API) unrecorded(h http.HandlerFunc) http.HandlerFunc {
	return a.operator(func(w http.ResponseWriter, r *http.Request, _ tenant.Identity) { h(w, r) })
}

// profile lets operators use a handler of net/http/pprof.
func (a *API) profile(h http.HandlerFunc) http.HandlerFunc {
	return a.operator(func(w http.ResponseWriter, r *http.Request, who tenant.Identity) {
		a.Tenants.Acted(r, who, "profile", r.URL.Path)
		h(w, r)
	})
}

// credentials lists who may do what, without a secret.
func (a *API) credentials(w http.ResponseWriter, r *http.Request, who tenant.Identity) {
	a.Tenants.Acted(r, who, "list credentials", "")
	writeJSON(w, http.StatusOK, a.Tenants.DescribeCredentials())
}

// flushOwn cuts blocks of the tenant who asks.
func (a *API) flushOwn(w http.ResponseWriter, r *http.Request) {
	who, err := a.Tenants.Authenticate(r, tenant.ScopeAdmin)
	if err != nil {
		a.fail(w, r, "", err)
		return
	}
	a.flush(w, r, who, who.Tenant)
}

// flushAny cuts blocks of the tenant in the parameter of that name, or of all.
func (a *API) flushAny(w http.ResponseWriter, r *http.Request, who tenant.Identity) {
	tenantID := r.FormValue("tenant")
	if tenantID != "" {
		if err := tenant.ValidateID(tenantID); err != nil {
			a.fail(w, r, "", err)
			return
		}
	}
	a.flush(w, r, who, tenantID)
}

func (a *API) flush(w http.ResponseWriter, r *http.Request, who tenant.Identity, tenantID string) {
	a.Tenants.Acted(r, who, "flush", tenantID)
	if err := a.Flush(r.Context(), tenantID); err != nil {
		a.fail(w, r, tenantID, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// tenantStats describes every tenant, for operators.
func (a *API) tenantStats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.TenantStats())
}

// ownLimits says what holds for the tenant who asks, and what it uses, on the path of
// Mimir. Its
// rules may name labels that not everybody may read.
func (a *API) ownLimits(_ context.Context, w http.ResponseWriter, r *request) error {
	if err := r.view.Whole(); err != nil {
		return err
	}
	return a.effective(w, r.who.Tenant)
}

// limitsOf says what holds for any tenant, and what it uses.
func (a *API) limitsOf(w http.ResponseWriter, r *http.Request) {
	tenantID := chi.URLParam(r, "tenant")
	err := tenant.ValidateID(tenantID)
	if err == nil {
		err = a.effective(w, tenantID)
	}
	if err != nil {
		a.fail(w, r, "", err)
	}
}

// limitsView has the limits twice: by the names of Mimir, for what reads those, and
// as they are here.
type limitsView struct {
	IngestionRate      int `json:"ingestion_rate"`
	IngestionBurstSize int `json:"ingestion_burst_size"`
	MaxSeries          int `json:"max_global_series_per_user"`
	MaxSeriesPerMetric int `json:"max_global_series_per_metric"`
	MaxExemplars       int `json:"max_global_exemplars_per_user"`
	tenant.Effective
	Usage any `json:"usage"`
}

func (a *API) effective(w http.ResponseWriter, tenantID string) error {
	e, err := a.Tenants.Effective(tenantID)
	if err != nil {
		return err
	}
	l := a.Tenants.Limits(tenantID)
	view := limitsView{l.IngestionRate, l.IngestionBurstSize, l.MaxActiveSeries, l.MaxSeriesPerMetric, l.MaxExemplars, e, nil}
	if a.TenantUsage != nil {
		view.Usage = a.TenantUsage(tenantID)
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// logLevel shows the level of the log, and sets it to the parameter level of a
// POST until the next start.
func (a *API) logLevel(w http.ResponseWriter, r *http.Request, who tenant.Identity) {
	if r.Method == http.MethodPost {
		var level slog.Level
		if err := level.UnmarshalText([]byte(r.FormValue("level"))); err != nil {
			a.fail(w, r, "", badParam("level", fmt.Errorf("%.20q: must be debug, info, warn or error", r.FormValue("level"))))
			return
		}
		a.Tenants.Acted(r, who, "set log level", level.String())
		before := a.LogLevel.Level()
		a.LogLevel.Set(level)
		a.Logger.WarnContext(r.Context(), "log level changed", "from", before, "to", level, "addr", r.RemoteAddr)
	}
	writeText(w, strings.ToLower(a.LogLevel.Level().String())+"\n")
}

// exposition serves our own metrics. A metric that cannot be gathered does not
// hide the others.
func (a *API) exposition() http.HandlerFunc {
	return promhttp.HandlerFor(a.Gatherer, promhttp.HandlerOpts{
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true,
	}).ServeHTTP
}

// index names the endpoints of a route table.
func index(routes []route) http.HandlerFunc {
	var b strings.Builder
	b.WriteString("weir\n\n")
	for _, rt := range routes {
		fmt.Fprintf(&b, "%-24s %-42s %s\n", strings.Join(rt.methods, ", "), rt.pattern, rt.what)
	}
	text := b.String()
	return func(w http.ResponseWriter, _ *http.Request) { writeText(w, text) }
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// An error here is a client that went away.
	_, _ = w.Write([]byte(text))
}
