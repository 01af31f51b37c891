package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// TestErrorIDsAreDocumented finds every error id in the sources and wants it in
// docs/errors.md.
func TestErrorIDsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	ids := map[string]string{}
	for r := proto.OK + 1; r < proto.Reasons; r++ {
		ids[r.ID()] = "proto/reason.go"
	}
	literal := regexp.MustCompile(`"(weir-[a-z-]+)"`)
	for _, dir := range []string{"proto", "oidc", "tenant", "receiver", "ingester", "querier", "api", "cmd/weir"} {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		require.NoError(t, err)
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			require.NoError(t, err)
			for _, m := range literal.FindAllStringSubmatch(string(src), -1) {
				ids[m[1]] = f
			}
		}
	}
	delete(ids, "weir-ok") // no error
	require.Greater(t, len(ids), 30, "the search no longer finds the ids")
	for id, where := range ids {
		if !strings.Contains(string(page), "`"+id+"`") && !strings.Contains(string(page), "### "+id+"\n") {
			t.Errorf("%s (%s) has no entry in docs/errors.md", id, where)
		}
	}
}
