package tenant

import (
	"sync/atomic"
	"time"
)

// Directory is what this process knows of its tenants. It is safe for concurrent
// use.
type Directory struct {
	mode        Mode
	auth        Auth
	settings    *Settings
	credentials atomic.Pointer[Credentials] // nil: there are none
	failures    *throttle
	metrics     *authMetrics
}

// NewDirectory returns a directory in which every tenant has the same settings.
func NewDirectory(mode Mode, settings Settings) *Directory {
	return &Directory{mode: mode, settings: &settings, failures: newThrottle(), metrics: newAuthMetrics(nil)}
}

// WithAuth makes d authenticate as a says, before it is used.
func (d *Directory) WithAuth(a Auth) *Directory {
	d.auth = a
	d.metrics = newAuthMetrics(a.Registry)
	if a.Registry != nil {
		a.Registry.MustRegister(credentialMetrics{d})
	}
	return d
}

// Settings returns what holds for a tenant now. A new version is a new pointer.
func (d *Directory) Settings(string) *Settings { return d.settings }

// Limits returns those of Settings.
func (d *Directory) Limits(tenantID string) *Limits { return &d.Settings(tenantID).Limits }

// Credentials returns the current version, which may be nil.
func (d *Directory) Credentials() *Credentials { return d.credentials.Load() }

// SetCredentials makes another version count, for every request from now on.
func (d *Directory) SetCredentials(cs *Credentials) { d.credentials.Store(cs) }

// DescribeCredentials returns all credentials as they are now, without secrets.
func (d *Directory) DescribeCredentials() []CredentialInfo {
	return d.Credentials().describe(time.Now())
}
