package tenant

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// forwardedFor is the header in which each proxy appends whom it got a request
// from.
const forwardedFor = "X-Forwarded-For"

// sourceOf returns from where a request came: the peer of the connection or, when
// that is a proxy that the operator trusts, whom it names, and so on. What is
// left of that in the header, anybody may have written. The address is not valid
// when the peer has none.
func sourceOf(hr *http.Request, proxies []netip.Prefix) netip.Addr {
	source := addressOf(hr.RemoteAddr)
	if !contains(proxies, source) {
		return source
	}
	hops := strings.Split(strings.Join(hr.Header[forwardedFor], ","), ",")
	for len(hops) > 0 && contains(proxies, source) {
		last := len(hops) - 1
		hop := addressOf(strings.TrimSpace(hops[last]))
		if !hop.IsValid() {
			break
		}
		source, hops = hop, hops[:last]
	}
	return source
}

// Source names from where a request came, past the proxies that the operator
// trusts, for who tells senders apart.
func (d *Directory) Source(hr *http.Request) string {
	if d.fromProxy(hr) {
		return sourceOf(hr, d.auth.TrustedProxies).String()
	}
	host, _, err := net.SplitHostPort(hr.RemoteAddr)
	if err != nil {
		return hr.RemoteAddr
	}
	return host
}

// fromProxy reports whether a request comes from a proxy that the operator trusts.
func (d *Directory) fromProxy(hr *http.Request) bool {
	return len(d.auth.TrustedProxies) > 0 && contains(d.auth.TrustedProxies, addressOf(hr.RemoteAddr))
}

// addressOf reads an address, to which some proxies add the port.
func addressOf(hop string) netip.Addr {
	if a, err := netip.ParseAddr(hop); err == nil {
		return a.Unmap()
	}
	ap, _ := netip.ParseAddrPort(hop)
	return ap.Addr().Unmap()
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
