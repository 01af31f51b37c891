package tenant

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/proto"
)

// Config says where tenants are described.
type Config struct {
	File     string   `yaml:"file"`
	Unlisted Unlisted `yaml:"unlisted"`
	Issuers  []string `yaml:"-"` // whose tokens credentials may be for, by url; nil: any, nobody looks at tokens
}

// Unlisted says what becomes of requests for tenants that the runtime file does
// not list, while it lists any.
type Unlisted string

const (
	// AcceptUnlisted creates such tenants by their first write.
	AcceptUnlisted Unlisted = "accept"
	// RefuseUnlisted answers 403.
	RefuseUnlisted Unlisted = "refuse"
)

// Validate implements strictyaml.Section.
func (c *Config) Validate(prefix string) []error {
	if c.Unlisted != AcceptUnlisted && c.Unlisted != RefuseUnlisted {
		return []error{fmt.Errorf("%s.unlisted: %q: must be %s or %s", prefix, c.Unlisted, AcceptUnlisted, RefuseUnlisted)}
	}
	return nil
}

// Directory is what this process knows of its tenants. It is safe for concurrent
// use.
type Directory struct {
	mode     Mode
	auth     Auth
	base     *Settings // of the process
	current  atomic.Pointer[version]
	cfg      Config
	watch    *watch // of the runtime file; nil: there is none
	failures *throttle
	metrics  *authMetrics

	certificates certificates // whose they are
	uses         uses         // of what names somebody
}

// NewDirectory returns a directory in which every tenant has the same settings.
func NewDirectory(mode Mode, settings Settings) *Directory {
	d := &Directory{mode: mode, base: &settings, failures: newThrottle(), metrics: newAuthMetrics(nil)}
	d.current.Store(&version{unlisted: entry{settings: d.base}})
	return d
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
func (d *Directory) Settings(tenantID string) *Settings {
	e, _ := d.current.Load().of(tenantID)
	return e.settings
}

// Limits returns those of Settings.
func (d *Directory) Limits(tenantID string) *Limits { return &d.Settings(tenantID).Limits }

// Credentials returns the current version, which may be nil.
func (d *Directory) Credentials() *Credentials { return d.current.Load().credentials }

// SetCredentials makes another version count, for every request from now on, in
// place of those in the runtime file.
func (d *Directory) SetCredentials(cs *Credentials) {
	next := *d.current.Load()
	next.credentials = cs
	d.current.Store(&next)
}

// DescribeCredentials returns all credentials as they are now, without secrets.
func (d *Directory) DescribeCredentials() []CredentialInfo {
	return d.Credentials().describe(time.Now())
}

// exists refuses a tenant that does not exist, where tenants have to be created.
func (d *Directory) exists(tenantID string) *proto.Error {
	v := d.current.Load()
	if _, listed := v.of(tenantID); listed || len(v.tenants) == 0 || d.cfg.Unlisted != RefuseUnlisted {
		return nil
	}
	return proto.Errorf(proto.KindForbidden, "weir-tenant-unlisted",
		"the tenant %q is not known here; the operator adds tenants to the tenants file", tenantID)
}
