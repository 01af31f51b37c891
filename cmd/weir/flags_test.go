package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDoubleDashes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		in, want []string
	}{
		{"nothing", []string{}, []string{}},
		{"one dash", []string{"-config.file=a", "-data.dir", "b"}, []string{"--config.file=a", "--data.dir", "b"}},
		{"two dashes", []string{"--config.file=a"}, []string{"--config.file=a"}},
		{"one letter", []string{"-h"}, []string{"-h"}},
		{"commands and values", []string{"config", "check", "-"}, []string{"config", "check", "-"}},
		{"a value with dashes", []string{"-set", "a.b=-c"}, []string{"--set", "a.b=-c"}},
		{"end of flags", []string{"-set=a=b", "--", "-set"}, []string{"--set=a=b", "--", "-set"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, doubleDashes(tc.in))
		})
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // parts
	}{
		{"version command", []string{"version"}, 0, "weir, version", ""},
		{"version flag", []string{"-version"}, 0, "weir, version", ""},
		{"help", []string{"-help"}, 0, " -config.file=FILE", ""},
		{"help of a command", []string{"config", "--help"}, 0, "config check", ""},
		{"check", []string{"config", "check"}, 0, "the configuration is valid", ""},
		{"check finds something", []string{"config", "check", "-set", "limits.max_label_name_bytes=0"}, 2, "",
			"limits.max_label_name_bytes: 0: must be at least 1"},
		{"print", []string{"config", "print", "-set=limits.past_grace=2d"}, 0, "past_grace: 2d\n", ""},
		{"an empty flag is not an absent one", []string{"config", "print", "-admin.listen="}, 0, "admin_listen: \"\"\n", ""},
		{"set with commas", []string{"config", "print", "-set", "data_dir=a,b"}, 0, "data_dir: a,b\n", ""},
		{"unknown flag", []string{"-conf.file=x"}, 2, "", `unknown flag -conf.file, did you mean "-config.file"`},
		{"unknown command", []string{"confg"}, 2, "", "unexpected argument confg"},
		{"set without a value", []string{"-set", "log.level"}, 2, "", "-set log.level: must be path=value"},
		{"a target to come", []string{"-target=receiver"}, 2, "", `target: "receiver": must be all, the only target so far`},
		{"no such file", []string{"-config.file=absent.yml"}, 2, "", "read the configuration: open absent.yml"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, tc.code, run(t.Context(), tc.args, env(nil), &stdout, &stderr), "%s", &stderr)
			require.Contains(t, stdout.String(), tc.stdout)
			require.Contains(t, stderr.String(), tc.stderr)
		})
	}
}

// TestShownFlags is about what the status pages show of the command line.
func TestShownFlags(t *testing.T) {
	flags, _, err := parseArgs([]string{"-data.dir=/d", "-set", "limits.max_exemplars=7", "-set", "auth.mode=header"}, io.Discard, io.Discard)
	require.NoError(t, err)
	assignments, err := flags.assignments()
	require.NoError(t, err)
	cfg, err := loadConfig("", assignments, func(string) (string, bool) { return "", false })
	require.NoError(t, err)
	shown := flags.shown(cfg)
	require.Equal(t, "/d", shown["data.dir"])
	require.Equal(t, ":9009", shown["http.listen"], "the value in force")
	require.Equal(t, "limits.max_exemplars,auth.mode", shown["set"], "without values")

	settings, err := shownSettings(cfg, shown)
	require.NoError(t, err)
	require.Contains(t, settings.YAML, "max_exemplars: 7\n")
	require.Equal(t, cfg.Ingester.Retention, settings.Retention)
}
