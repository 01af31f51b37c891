package tenant

import "github.com/weir-metrics/weir/relabel"

// Scope is what a credential may do: a set of the scopes below.
type Scope uint8

const (
	// ScopeWrite lets write samples.
	ScopeWrite Scope = 1 << iota
	// ScopeRead lets read samples, and what weir says about them.
	ScopeRead
	// ScopeRules lets change recording and alerting rules.
	ScopeRules
	// ScopeAdmin lets do what an operator does.
	ScopeAdmin

	// AllScopes is who needs no credential.
	AllScopes = ScopeWrite | ScopeRead | ScopeRules | ScopeAdmin
)

// Has reports whether s has all of need.
func (s Scope) Has(need Scope) bool { return s&need == need }

// Identity is who sent a request, for which tenant, and what is bound to the
// credential that was shown.
type Identity struct {
	Tenant     string
	Credential string         // names what was shown, for logs and audit: never a secret; "" without authentication
	Subject    string         // whom the token or the certificate names that was shown, for logs and audit; "": a secret names nobody
	Scopes     Scope          //
	Bound      *BoundLabels   // labels that the credential gives every series it writes; nil: none
	Rules      *relabel.Rules // the credential's own, before the tenant's; nil: none
	Readable   *LabelPolicy   // series that it may read; nil: all
}
