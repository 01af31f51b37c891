package tenant

import (
	"net/http"

	"github.com/weir-metrics/weir/proto"
)

// Directory is what this process knows of its tenants. It is safe for concurrent
// use.
type Directory struct {
	mode     Mode
	settings *Settings
}

// NewDirectory returns a directory in which every tenant has the same settings.
func NewDirectory(mode Mode, settings Settings) *Directory {
	return &Directory{mode: mode, settings: &settings}
}

// Settings returns what holds for a tenant now. A new version is a new pointer.
func (d *Directory) Settings(string) *Settings { return d.settings }

// Limits returns those of Settings.
func (d *Directory) Limits(tenantID string) *Limits { return &d.Settings(tenantID).Limits }

// Authenticate returns who sent a request, who must have a scope of need.
func (d *Directory) Authenticate(hr *http.Request, need Scope) (Identity, error) {
	id, err := d.named(hr.Header)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Tenant: id, Scopes: AllScopes}, nil
}

// named returns the tenant that the headers name, whom nobody checks.
func (d *Directory) named(h http.Header) (string, error) {
	if d.mode == ModeNone {
		return Anonymous, nil
	}
	given := h.Values(Header)
	if len(given) > 1 {
		return "", proto.Errorf(proto.KindBadData, "weir-tenant-invalid",
			"the header %s comes %d times; a proxy must replace it, not add to it", Header, len(given))
	}
	id := h.Get(Header)
	if id == "" {
		return "", proto.Errorf(proto.KindUnauthenticated, "weir-tenant-missing",
			"no tenant: send the %s header, or run with auth.mode: none for a single tenant", Header)
	}
	if err := ValidateID(id); err != nil {
		return "", err
	}
	return id, nil
}
