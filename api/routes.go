package api

import (
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/go-chi/chi/v5"

	"github.com/weir-metrics/weir/tenant"
)

// route is one line of a route table.
type route struct {
	methods []string
	pattern string
	needs   access
	what    string // for the index
	handler http.Handler
}

// access says who may use a route while auth.mode is required. The handler sees
// to it, since who sends a request is an argument of what it does; a test drives
// every route with every kind of credential and holds it to this.
type access uint8

const (
	undeclared access = iota // a mistake
	public                   // anybody: orchestrators have no credential
	anyone                   // who has a credential
	writers                  // scope write, for a tenant
	readers                  // scope read, for a tenant
	operators                // scope admin
)

var (
	get        = []string{http.MethodGet}
	post       = []string{http.MethodPost}
	getAndPost = []string{http.MethodGet, http.MethodPost}
	getAndHead = []string{http.MethodGet, http.MethodHead}
)

// Handler serves the data listener: writes, reads, and what orchestrators ask.
func (a *API) Handler() http.Handler { return a.router(a.dataRoutes()) }

// AdminHandler serves the admin listener, which is for operators only: profiles,
// and operations on all tenants.
func (a *API) AdminHandler() http.Handler { return a.router(a.adminRoutes()) }

func (a *API) dataRoutes() []route {
	routes := append(a.writeRoutes(), a.readRoutes("/prometheus/api/v1")...)
	routes = append(routes, a.readRoutes("/api/v1")...)
	routes = append(routes, a.federationRoute("/prometheus"), a.federationRoute(""))
	routes = append(routes, route{post, "/ingester/flush", operators, "cut blocks of the tenant's samples in memory", http.HandlerFunc(a.flushOwn)})
	routes = append(routes, route{get, "/metrics", operators, "our own metrics, for operators", a.identified(tenant.ScopeAdmin, a.exposition())})
	return a.withIndex(append(routes, a.healthRoutes()...))
}

func (a *API) adminRoutes() []route {
	routes := []route{
		{post, "/ingester/flush", operators, "cut blocks of what is in memory, of ?tenant= or of all", a.operator(a.flushAny)},
		{post, "/ingester/quarantine/release", operators, "take new series of ?metric= of ?tenant= again", a.operator(a.releaseQuarantine)},
		{getAndPost, "/admin/log-level", operators, "what is logged; POST ?level=debug, info, warn or error changes it", a.operator(a.logLevel)},
		{get, "/admin/credentials", operators, "who may do what for which tenants, and when each secret was used last, as JSON", a.operator(a.credentials)},
		{get, "/ingester/tenants", operators, "series, memory, logs and state of each tenant, as JSON", a.unrecorded(a.tenantStats)},
		{get, "/metrics", operators, "our own metrics", a.unrecorded(a.exposition())},
		{get, "/admin/tenants/{tenant}/limits", operators, "what holds for a tenant, why, and how much of it is used, as JSON", a.unrecorded(a.limitsOf)},
		{get, "/debug/pprof/", operators, "profiles, by name", a.profile(pprof.Index)},
		{get, "/debug/pprof/cmdline", operators, "command line", a.profile(pprof.Cmdline)},
		{get, "/debug/pprof/profile", operators, "CPU profile of ?seconds=", a.profile(pprof.Profile)},
		{getAndPost, "/debug/pprof/symbol", operators, "names of program counters", a.profile(pprof.Symbol)},
		{get, "/debug/pprof/trace", operators, "execution trace of ?seconds=", a.profile(pprof.Trace)},
		{get, "/debug/pprof/{profile}", operators, "heap, goroutine, mutex, block, allocs, threadcreate", a.profile(pprof.Index)},
	}
	return a.withIndex(append(routes, a.healthRoutes()...))
}

func (a *API) writeRoutes() []route {
	const what = "remote write 1.0 and 2.0; GET is vmagent's handshake"
	return []route{
		{getAndPost, "/api/v1/push", writers, what, a.Writer},
		{getAndPost, "/api/v1/write", writers, what, a.Writer},
		{getAndPost, "/api/v1/receive", writers, what, a.Writer},
		{getAndPost, "/api/v1/remote_write", writers, what, a.Writer},
		{post, "/otlp/v1/metrics", writers, "OTLP metrics, protobuf or JSON", a.OTLP},
		{post, "/api/v1/otlp/v1/metrics", writers, "OTLP metrics, protobuf or JSON", a.OTLP},
	}
}

// readRoutes are the Prometheus API below prefix.
func (a *API) readRoutes(prefix string) []route {
	routes := []route{
		{getAndPost, "/query", readers, "evaluate at one time", a.read(a.query)},
		{getAndPost, "/query_range", readers, "evaluate over a time range", a.read(a.queryRange)},
		{getAndPost, "/query_exemplars", readers, "exemplars of an expression", a.read(a.queryExemplars)},
		{getAndPost, "/format_query", readers, "an expression, indented", a.read(a.formatQuery)},
		{getAndPost, "/parse_query", readers, "an expression as a tree", a.read(a.parseQuery)},
		{getAndPost, "/series", readers, "series by selectors", a.read(a.series)},
		{getAndPost, "/labels", readers, "label names", a.read(a.labelNames)},
		{get, "/label/{name}/values", readers, "values of a label", a.read(a.labelValues)},
		{get, "/metadata", readers, "type, help and unit of metrics", a.read(a.metadata)},
		{get, "/targets/metadata", readers, "the same, as a list", a.read(a.targetsMetadata)},
		{get, "/targets", readers, "none", a.read(always(noTargets))},
		{get, "/scrape_pools", readers, "none", a.read(always(noScrapePools))},
		{get, "/rules", readers, "none", a.read(a.rules)},
		{get, "/alerts", readers, "none", a.read(always(noAlerts))},
		{get, "/alertmanagers", readers, "none", a.read(always(noAlertmanagers))},
		{get, "/notifications", readers, "none", a.read(always(noNotifications))},
		{get, "/status/buildinfo", anyone, "version", a.statusOf(0, a.buildInfo)},
		{get, "/status/runtimeinfo", operators, "state of the process, for operators", a.statusOf(tenant.ScopeAdmin, a.statusRuntime)},
		{get, "/status/config", operators, "configuration, for operators", a.statusOf(tenant.ScopeAdmin, a.statusConfig)},
		{get, "/status/flags", operators, "command line, for operators", a.statusOf(tenant.ScopeAdmin, a.statusFlags)},
		{get, "/status/walreplay", operators, "progress at start, in tenants, for operators", a.statusOf(tenant.ScopeAdmin, a.replayStatus)},
		{get, "/status/tsdb", readers, "series in memory, counted and ranked", a.read(unrestricted(a.statusTSDB))},
		{get, "/status/tsdb/blocks", readers, "blocks on disk", a.read(unrestricted(a.statusBlocks))},
		{get, "/status/relabel", readers, "what relabel rules did to new series, and what shadow rules would", a.read(unrestricted(a.statusRelabel))},
		{get, "/user_limits", readers, "what holds for the tenant, why, and how much of it is used", a.serve(a.ownLimits)},
		{getAndPost, "/rejections", readers, "what was refused of the tenant's writes", a.read(unrestricted(a.refusals))},
		{getAndPost, "/senders", readers, "who sends for the tenant", a.read(unrestricted(a.senders))},
		{getAndPost, "/explain", readers, "why samples of selectors are missing", a.read(unrestricted(a.explainSelectors))},
		{get, "/features", anyone, "what this server knows", a.statusOf(0, a.enabledFeatures)},
	}
	routes = append(routes, a.cardinalityRoutes()...)
	for i, rt := range routes {
		routes[i] = a.forBrowsers(rt)
		routes[i].pattern = prefix + rt.pattern
	}
	return append(routes, route{post, prefix + "/read", readers, "remote read, by samples or chunks", a.serveBody(a.remoteRead)})
}

func (a *API) federationRoute(prefix string) route {
	return a.forBrowsers(route{get, prefix + "/federate", readers, "newest samples, for a scraper", a.serve(a.federate)})
}

// forBrowsers adds the methods that every read has, and lets scripts of other
// origins read the answers.
func (a *API) forBrowsers(rt route) route {
	rt.methods = append(slices.Clone(rt.methods), http.MethodHead, http.MethodOptions)
	rt.handler = a.crossOrigin(rt.handler)
	return rt
}

func (a *API) healthRoutes() []route {
	ready, healthy := http.HandlerFunc(a.isReady), http.HandlerFunc(a.isHealthy)
	return []route{
		{getAndHead, "/ready", public, "200 when writes and reads are served; ?format=json for each subsystem", ready},
		{getAndHead, "/-/ready", public, "the same", ready},
		{getAndHead, "/-/healthy", public, "200 while the process lives", healthy},
		{getAndHead, "/livez", public, "the same", healthy},
	}
}

// withIndex adds an index of routes.
func (a *API) withIndex(routes []route) []route {
	return append(routes, route{getAndHead, "/", anyone, "", a.identified(0, index(routes))})
}

// router serves routes.
func (a *API) router(routes []route) http.Handler {
	mux := chi.NewRouter()
	mux.Use(a.observe)
	mux.MethodNotAllowed(methodNotAllowed(mux))
	for _, rt := range routes {
		if rt.needs == undeclared {
			panic("api: the route " + rt.pattern + " does not say whom it is for")
		}
		for _, m := range rt.methods {
			mux.Method(m, rt.pattern, rt.handler)
		}
	}
	return mux
}

// methodNotAllowed answers 405 with what is allowed, or 404 where nothing is.
func methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	known := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace,
	}
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.RawPath
		if path == "" {
			path = r.URL.Path
		}
		found := false
		for _, m := range known {
			if routes.Match(chi.NewRouteContext(), m, path) {
				w.Header().Add("Allow", m)
				found = true
			}
		}
		if !found { // a method that chi does not know, of a path that we do not
			http.NotFound(w, r)
			return
		}
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	}
}
