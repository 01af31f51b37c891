package api

import (
	"net/http"
	"regexp"
)

// anyOrigin is the expression of Config.CORSOrigin that any origin matches.
const anyOrigin = ".*"

// origins compiles Config.CORSOrigin, which matches whole origins.
func (c *Config) origins() (*regexp.Regexp, error) {
	return regexp.Compile("^(?s:" + c.CORSOrigin + ")$")
}

// crossOrigin lets scripts of other origins read the answers of next, where the
// configuration names any, and answers the browser's question beforehand.
func (a *API) crossOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.cfg.CORSOrigin != "" {
			a.allowOrigin(w.Header(), r.Header.Get("Origin"))
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowOrigin tells a browser what a script of origin may do; "" is not a script.
// Headers are Prometheus', and that of the tenant.
func (a *API) allowOrigin(h http.Header, origin string) {
	h.Add("Vary", "Origin")
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin, X-Scope-OrgID")
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	h.Set("Access-Control-Expose-Headers", "Date")
	switch {
	case a.cfg.CORSOrigin == anyOrigin:
		h.Set("Access-Control-Allow-Origin", "*")
	case a.origins.MatchString(origin):
		h.Set("Access-Control-Allow-Origin", origin)
	}
}
