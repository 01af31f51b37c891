package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRulesTest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const rules = "metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]\n"
	good := write("good.yaml", rules+`
tests:
- {series: 'go_x{a="b"}', expect: dropped}
- {series: 'up{a="b"}', expect: 'up{a="b"}'}
shadow:
  drop_labels: [a]
  tests: [{series: 'up{a="b"}', expect: up}]
`)
	failing := write("failing.yaml", rules+`
tests:
- {name: Go, series: 'go_x', expect: 'go_x'}
- {series: 'up', expect: dropped}
- {series: 'up', expect: up}
`)
	wrong := write("wrong.yaml", "metric_relabel_configs: [{regex: '('}, {action: x}]\n")
	unknown := write("unknown.yaml", "metric_relabels: []\n")
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stdout string
	}{
		{"passes", []string{good}, 0, "Testing " + good + "\n  SUCCESS: 3 tests passed\n"},
		{"fails", []string{failing}, 1, "Testing " + failing + "\n  FAILED:\n" +
			"    tests[0]: Go: {__name__=\"go_x\"} becomes dropped, must become {__name__=\"go_x\"}\n" +
			"    tests[1]: {__name__=\"up\"} becomes {__name__=\"up\"}, must become dropped\n"},
		{"the rest is tested", []string{unknown, good}, 1, "Testing " + unknown + "\n  FAILED:\n    line 1: field metric_relabels not found in type relabel.Config\n" +
			"Testing " + good + "\n  SUCCESS: 3 tests passed\n"},
		{"wrong", []string{wrong}, 1, "Testing " + wrong + "\n  FAILED:\n    metric_relabel_configs[0].regex: \"(\": error parsing regexp: missing closing ): `^(?s:()$`\n" +
			"    metric_relabel_configs[1].action: \"x\": must be one of [replace keep drop keepequal dropequal hashmod labelmap labeldrop labelkeep lowercase uppercase]\n"},
		{"no file", []string{dir + "/none"}, 1, "Testing " + dir + "/none\n  FAILED:\n    open " + dir + "/none: no such file or directory\n"},
		{"none named", nil, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout bytes.Buffer
			require.Equal(t, c.code, run(t.Context(), append([]string{"rules", "test"}, c.args...), env(nil), &stdout, io.Discard))
			require.Equal(t, c.stdout, stdout.String())
		})
	}
}
