package api

import (
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/go-chi/chi/v5"
)

// route is one line of a route table.
type route struct {
	methods []string
	pattern string
	what    string // for the index
	handler http.Handler
}

var (
	get        = []string{http.MethodGet}
	post       = []string{http.MethodPost}
	getAndPost = []string{http.MethodGet, http.MethodPost}
	getAndHead = []string{http.MethodGet, http.MethodHead}
)

// Handler serves the data listener: writes, reads, and what orchestrators ask.
func (a *API) Handler() http.Handler {
	routes := append(a.writeRoutes(), a.readRoutes("/prometheus/api/v1")...)
	routes = append(routes, a.readRoutes("/api/v1")...)
	routes = append(routes, a.federationRoute("/prometheus"), a.federationRoute(""))
	routes = append(routes, route{post, "/ingester/flush", "cut blocks of the tenant's samples in memory", http.HandlerFunc(a.flushOwn)})
	routes = append(routes, a.healthRoutes()...)
	return a.router(routes)
}

// AdminHandler serves the admin listener, which is for operators only: profiles,
// and operations on all tenants.
func (a *API) AdminHandler() http.Handler {
	routes := []route{
		{post, "/ingester/flush", "cut blocks of what is in memory, of ?tenant= or of all", http.HandlerFunc(a.flushAny)},
		{getAndPost, "/admin/log-level", "what is logged; POST ?level=debug, info, warn or error changes it", http.HandlerFunc(a.logLevel)},
		{get, "/ingester/tenants", "series, memory, logs and state of each tenant, as JSON", http.HandlerFunc(a.tenantStats)},
		{get, "/debug/pprof/", "profiles, by name", http.HandlerFunc(pprof.Index)},
		{get, "/debug/pprof/cmdline", "command line", http.HandlerFunc(pprof.Cmdline)},
		{get, "/debug/pprof/profile", "CPU profile of ?seconds=", http.HandlerFunc(pprof.Profile)},
		{getAndPost, "/debug/pprof/symbol", "names of program counters", http.HandlerFunc(pprof.Symbol)},
		{get, "/debug/pprof/trace", "execution trace of ?seconds=", http.HandlerFunc(pprof.Trace)},
		{get, "/debug/pprof/{profile}", "heap, goroutine, mutex, block, allocs, threadcreate", http.HandlerFunc(pprof.Index)},
	}
	return a.router(append(routes, a.healthRoutes()...))
}

func (a *API) writeRoutes() []route {
	const what = "remote write 1.0 and 2.0; GET is vmagent's handshake"
	return []route{
		{getAndPost, "/api/v1/push", what, a.Writer},
		{getAndPost, "/api/v1/write", what, a.Writer},
		{getAndPost, "/api/v1/receive", what, a.Writer},
		{getAndPost, "/api/v1/remote_write", what, a.Writer},
		{post, "/otlp/v1/metrics", "OTLP metrics, protobuf or JSON", a.OTLP},
		{post, "/api/v1/otlp/v1/metrics", "OTLP metrics, protobuf or JSON", a.OTLP},
	}
}

// readRoutes are the Prometheus API below prefix.
func (a *API) readRoutes(prefix string) []route {
	routes := []route{
		{getAndPost, "/query", "evaluate at one time", a.read(a.query)},
		{getAndPost, "/query_range", "evaluate over a time range", a.read(a.queryRange)},
		{getAndPost, "/query_exemplars", "exemplars of an expression", a.read(a.queryExemplars)},
		{getAndPost, "/format_query", "an expression, indented", a.read(a.formatQuery)},
		{getAndPost, "/parse_query", "an expression as a tree", a.read(a.parseQuery)},
		{getAndPost, "/series", "series by selectors", a.read(a.series)},
		{getAndPost, "/labels", "label names", a.read(a.labelNames)},
		{get, "/label/{name}/values", "values of a label", a.read(a.labelValues)},
		{get, "/metadata", "type, help and unit of metrics", a.read(a.metadata)},
		{get, "/targets/metadata", "the same, as a list", a.read(a.targetsMetadata)},
		{get, "/targets", "none", a.read(always(noTargets))},
		{get, "/scrape_pools", "none", a.read(always(noScrapePools))},
		{get, "/rules", "none", a.read(a.rules)},
		{get, "/alerts", "none", a.read(always(noAlerts))},
		{get, "/alertmanagers", "none", a.read(always(noAlertmanagers))},
		{get, "/notifications", "none", a.read(always(noNotifications))},
		{get, "/status/buildinfo", "version", a.statusOf(a.buildInfo)},
		{get, "/status/runtimeinfo", "state of the process", a.statusOf(a.statusRuntime)},
		{get, "/status/config", "configuration", a.statusOf(a.statusConfig)},
		{get, "/status/flags", "command line", a.statusOf(a.statusFlags)},
		{get, "/status/walreplay", "progress at start, in tenants", a.statusOf(a.replayStatus)},
		{get, "/status/tsdb", "series in memory, counted and ranked", a.read(a.statusTSDB)},
		{get, "/status/tsdb/blocks", "blocks on disk", a.read(a.statusBlocks)},
		{get, "/features", "what this server knows", a.statusOf(a.enabledFeatures)},
	}
	for i, rt := range routes {
		routes[i] = a.forBrowsers(rt)
		routes[i].pattern = prefix + rt.pattern
	}
	return append(routes, route{post, prefix + "/read", "remote read, by samples or chunks", a.serveBody(a.remoteRead)})
}

func (a *API) federationRoute(prefix string) route {
	return a.forBrowsers(route{get, prefix + "/federate", "newest samples, for a scraper", a.serve(a.federate)})
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
		{get, "/metrics", "our own metrics", a.exposition()},
		{getAndHead, "/ready", "200 when writes and reads are served; ?format=json for each subsystem", ready},
		{getAndHead, "/-/ready", "the same", ready},
		{getAndHead, "/-/healthy", "200 while the process lives", healthy},
		{getAndHead, "/livez", "the same", healthy},
	}
}

// router serves routes and an index of them.
func (a *API) router(routes []route) http.Handler {
	mux := chi.NewRouter()
	mux.Use(a.observe)
	mux.MethodNotAllowed(methodNotAllowed(mux))
	for _, rt := range append(routes, route{getAndHead, "/", "", index(routes)}) {
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
