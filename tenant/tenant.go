// Package tenant knows who a request belongs to and what that tenant may do.
//
//	HTTP request ── Directory.Authenticate ──> Identity: tenant, scopes, what is bound to the credential
//	                  ├─ a secret ── Credentials.find, by its SHA-256 ──> holder of a grant
//	                  ├─ a token of an issuer, or a certificate ── rules on names ──> holder of grants
//	                  └─ throttle, for what is not found; audit, for what is refused
//	tenant id ── Directory.Settings ──> *Settings (immutable): limits, rules, state
//	runtime file ── Directory.Run (watch.go) ── parse (file.go) ──> version, in force for all of the above
//	weir tenant, token, limits ── EditFile (editfile.go) ── Edit (edit.go) ──> runtime file, and the version before (rollback.go)
//	what it does ── Usage ──> metrics of the tenants that do most, and of the rest
//
//	authenticate.go  what a request shows, and whether that does
//	changes.go       what a version of the runtime file changes, for audit
//	credential.go    a credential of the runtime file, checked and compiled
//	policy.go        which series a credential may read
//	credentials.go   one version of all of them, found by the hashes of secrets
//	holder.go        who shows a token of an issuer or a certificate
//	rule.go          what names those have to have; pattern.go: the forms of names
//	secret.go        what a secret is, and how it is kept
//	source.go        from where a request came, past trusted proxies
//	state.go         what a tenant that is suspended is told
//	throttle.go      how often an address may be wrong
//
// A tenant is an argument of every function that needs it, never a context
// value.
package tenant

import (
	"github.com/weir-metrics/weir/proto"
)

// Anonymous is the tenant of every request while auth.mode is "none".
const Anonymous = "anonymous"

// Header selects the tenant, as in Mimir, Cortex and Loki.
const Header = "X-Scope-OrgID"

// headerKey is Header as net/http spells keys.
const headerKey = "X-Scope-Orgid"

// maxIDBytes is the limit of Mimir and Cortex, so that their ids and bucket
// prefixes carry over.
const maxIDBytes = 150

// Mode is how a tenant is found in a request.
type Mode string

const (
	// ModeNone serves one tenant, Anonymous, and ignores the header.
	ModeNone Mode = "none"
	// ModeHeader trusts Header, set by a proxy that the operator runs.
	ModeHeader Mode = "header"
	// ModeRequired wants a credential, which says which tenants it is for.
	ModeRequired Mode = "required"
)

// ValidateID reports whether id may name a tenant: 1 to 150 bytes of
// [A-Za-z0-9!-_.*'()], not "." or "..", and not starting with "__", which is
// reserved for weir's own objects in a bucket.
func ValidateID(id string) error {
	if err := validateID(id); err != nil {
		return err
	}
	return nil
}

func validateID(id string) *proto.Error {
	const what = "weir-tenant-invalid"
	switch {
	case id == "":
		return proto.Errorf(proto.KindBadData, what, "the tenant id is empty")
	case len(id) > maxIDBytes:
		return proto.Errorf(proto.KindBadData, what, "the tenant id has %d bytes, the limit is %d", len(id), maxIDBytes)
	case id == "." || id == "..":
		return proto.Errorf(proto.KindBadData, what, "the tenant id %q is a path component", id)
	case len(id) >= 2 && id[:2] == "__":
		return proto.Errorf(proto.KindBadData, what, "the tenant id %.20q starts with __, which is reserved", id)
	}
	for i := range len(id) {
		if !validIDByte(id[i]) {
			return proto.Errorf(proto.KindBadData, what,
				"the tenant id has the byte %q at offset %d; allowed are letters, digits and !-_.*'()", id[i], i)
		}
	}
	return nil
}

func validIDByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '-', '_', '.', '*', '\'', '(', ')':
		return true
	}
	return false
}
