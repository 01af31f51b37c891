package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/weir-metrics/weir/"

// allowedImports lists for each component the components it may import. Imports
// point down, and components of one row never import each other: cmd/weir joins
// them. Packages below a component (store/block) belong to it unless they have
// a line of their own. Test files are free.
var allowedImports = map[string][]string{
	"proto":       {},
	"tracing":     {},
	"relabel":     {"proto"},
	"audit":       {"tracing"},
	"strictyaml":  {},
	"oidc":        {"proto"},
	"tenant":      {"audit", "oidc", "relabel", "strictyaml", "proto"},
	"overload":    {"proto"},
	"ledger":      {"proto"},
	"cardinality": {"proto"},

	"rpc":   {"tenant", "relabel", "proto"},
	"ring":  {"tenant", "relabel", "proto"},
	"store": {"tenant", "relabel", "proto"},

	"receiver":      {"store", "ring", "rpc", "overload", "ledger", "tenant", "relabel", "tracing", "proto"},
	"ingester":      {"cardinality", "store", "ring", "rpc", "tenant", "relabel", "tracing", "proto"},
	"querier":       {"store", "ring", "rpc", "tenant", "relabel", "proto"},
	"store/gateway": {"store", "ring", "rpc", "tenant", "relabel", "proto"},
	"store/compact": {"store", "ring", "rpc", "tenant", "relabel", "proto"},

	"api": {
		"cardinality",
		"receiver", "ingester", "querier", "store/gateway", "store/compact",
		"store", "ring", "rpc", "overload", "ledger", "tenant", "relabel", "tracing", "proto",
	},
	"ruler": {
		"receiver", "ingester", "querier", "store/gateway", "store/compact",
		"store", "ring", "rpc", "overload", "ledger", "tenant", "relabel", "tracing", "proto",
	},

	"cmd/weir": {
		"cardinality",
		"api", "ruler", "receiver", "ingester", "querier", "store/gateway", "store/compact",
		"store", "ring", "rpc", "overload", "ledger", "tenant", "audit", "oidc", "relabel", "strictyaml", "tracing", "proto",
	},

	// Speak to processes over HTTP, as anybody could.
	"integration": {"proto"},
	"deploy/demo": {},
}

// forbiddenImports must not be linked into the binary at all.
var forbiddenImports = map[string]string{
	"github.com/prometheus/prometheus/web/api/v1":        "its constructor changes with each release; serve the API ourselves",
	"github.com/prometheus/prometheus/discovery/install": "pulls every service discovery",
	"github.com/thanos-io/objstore/client":               "pulls every cloud; import providers one by one",
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImportTable(t *testing.T) {
	var violations []string
	for _, p := range listPackages(t, module+"...") {
		for _, imported := range p.Imports {
			if why := forbiddenImports[imported]; why != "" {
				violations = append(violations, fmt.Sprintf("%s imports %s: %s", p.ImportPath, imported, why))
			}
		}
		violations = append(violations, checkImports(p)...)
	}
	require.Empty(t, violations, "see allowedImports and DESIGN, section 2")
}

func TestForbiddenImportsAreNotLinked(t *testing.T) {
	for _, p := range listPackages(t, module+"cmd/weir") {
		for _, dep := range p.Deps {
			require.Empty(t, forbiddenImports[dep], "cmd/weir links %s", dep)
		}
	}
}

func TestCheckImports(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		allowed        bool
	}{
		{"down", "receiver", "tenant", true},
		{"down over rows", "cmd/weir", "proto", true},
		{"within a component", "store/block", "store", true},
		{"from below into a component", "querier/frontend", "querier", true},
		{"outside the module", "proto", "../../elsewhere", true},
		{"same row", "receiver", "ingester", false},
		{"same row, one folder", "store/gateway", "store/compact", false},
		{"up", "proto", "tenant", false},
		{"up inside a folder", "store", "store/gateway", false},
		{"from the outside in", "integration/bench", "receiver", false},
		{"not in the table", "util", "proto", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to := module + tc.to
			if strings.HasPrefix(tc.to, "../") {
				to = strings.TrimPrefix(tc.to, "../../")
			}
			require.Equal(t, tc.allowed, len(checkImports(goPackage{ImportPath: module + tc.from, Imports: []string{to}})) == 0)
		})
	}
}

// checkImports returns what p imports against the table.
func checkImports(p goPackage) []string {
	from, ok := componentOf(p.ImportPath)
	if !ok {
		return []string{p.ImportPath + " is in no component of the import table"}
	}
	var violations []string
	for _, imported := range p.Imports {
		if !strings.HasPrefix(imported, module) {
			continue
		}
		to, ok := componentOf(imported)
		if !ok || to != from && !slices.Contains(allowedImports[from], to) {
			violations = append(violations, fmt.Sprintf("%s must not import %s", p.ImportPath, imported))
		}
	}
	return violations
}

// componentOf is the longest line of the table that importPath belongs to.
func componentOf(importPath string) (string, bool) {
	for path := strings.TrimPrefix(importPath, module); ; {
		if _, ok := allowedImports[path]; ok {
			return path, true
		}
		cut := strings.LastIndexByte(path, '/')
		if cut < 0 {
			return "", false
		}
		path = path[:cut]
	}
}

func listPackages(t *testing.T, pattern string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", pattern)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	var packages []goPackage
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.NotEmpty(t, packages)
	return packages
}
