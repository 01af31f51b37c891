package tenant

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFileErrorsHaveNoSecret: wherever in the file a secret was pasted.
func TestFileErrorsHaveNoSecret(t *testing.T) {
	secret, _ := NewSecret()
	for _, where := range []string{
		"secrets: S", "secrets: [S]", "secrets: [{sha256: S}]", "secrets: [{sha256: [S]}]", "secrets: [{S: x}]", "secrets: [{token: S}]",
		"secrets: [{sha256: x, expires: S}]", "secrets: {sha256: S}", "scopes: S", "scopes: [S]", "tenants: {S: x}", "S: x",
	} {
		_, errs := parseText(fmt.Sprintf("credentials:\n  - {id: a, %s}\n", strings.ReplaceAll(where, "S", secret)), AcceptUnlisted)
		require.NotEmpty(t, errs, where)
		require.NotContains(t, strings.Join(errs, "\n"), secret[len(secretPrefix):])
	}
}
