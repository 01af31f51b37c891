package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/tracing"
)

func newTestLog() (*log, *bytes.Buffer) {
	var out bytes.Buffer
	return newLog(LogConfig{Level: "info", Format: "logfmt"}, &out), &out
}

func TestRepeatedWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out := newTestLog()
		recv, ing := l.component("receiver"), l.component("ingester").With("tenant", "a")
		for i := range 100 {
			recv.Warn("refused", "n", i)
			recv.Info("opened", "n", i)
		}
		ing.Warn("refused")
		recv.Error("refused")
		require.Equal(t, linesPerMinute, strings.Count(out.String(), "level=WARN msg=refused component=receiver"))
		require.Equal(t, 100, strings.Count(out.String(), "msg=opened"), "no warnings")
		require.Equal(t, 1, strings.Count(out.String(), "component=ingester tenant=a"), "another component")
		require.Equal(t, 1, strings.Count(out.String(), "level=ERROR"), "another level")
		require.NotContains(t, out.String(), "suppressed")
		require.EqualValues(t, 90, l.limiter.suppressed.Load())

		out.Reset()
		time.Sleep(time.Minute)
		recv.Warn("refused", "n", 100)
		recv.Warn("refused", "n", 101)
		require.Equal(t, 1, strings.Count(out.String(), "n=100 suppressed=90"), out.String())
		require.Equal(t, 1, strings.Count(out.String(), "n=101\n"), out.String())
	})
}

// TestAuditRecordsAreAllWritten: neither the level nor the limit on repeated lines
// takes one away.
func TestAuditRecordsAreAllWritten(t *testing.T) {
	who := audit.Actor{Credential: "ops", Source: "192.0.2.1"}
	act := func(cfg LogConfig, out io.Writer) {
		records, done, err := newAudit(cfg, newLog(cfg, out), prometheus.NewRegistry())
		require.NoError(t, err)
		defer done()
		for range 3 * linesPerMinute {
			records.Acted(t.Context(), who, "flush", "team-a")
		}
	}
	var out bytes.Buffer
	act(LogConfig{Level: "error", Format: "logfmt"}, &out)
	require.Equal(t, 3*linesPerMinute, strings.Count(out.String(),
		"level=INFO msg=audit component=audit event=acted credential=ops addr=192.0.2.1 action=flush object=team-a\n"), out.String())

	out.Reset()
	file := filepath.Join(t.TempDir(), "audit.json")
	for range 2 { // a start goes on with the file
		act(LogConfig{Level: "error", Format: "logfmt", AuditFile: file}, &out)
	}
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 6*linesPerMinute, strings.Count(string(written), `"event":"acted","credential":"ops","addr":"192.0.2.1","action":"flush","object":"team-a"}`+"\n"))
	require.Empty(t, out.String())
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	_, _, err = newAudit(LogConfig{AuditFile: t.TempDir()}, newLog(LogConfig{Level: "info"}, &out), nil)
	require.ErrorContains(t, err, "log.audit_file: ")
}

func TestLimiterIsBounded(t *testing.T) {
	l, out := newTestLog()
	for i := range 3 * maxLines {
		l.Warn(fmt.Sprint("message ", i))
	}
	require.LessOrEqual(t, len(l.limiter.seen), maxLines)
	require.Equal(t, 3*maxLines, strings.Count(out.String(), "\n"))
}

func TestLogLevelAtRunTime(t *testing.T) {
	l, out := newTestLog()
	engine := l.component("engine")
	engine.Debug("before")
	l.level.Set(-4)
	engine.Debug("after")
	require.NotContains(t, out.String(), "before")
	require.Contains(t, out.String(), "after")
}

func TestLogNamesTheRequest(t *testing.T) {
	l, out := newTestLog()
	l.component("api").InfoContext(tracing.WithID(context.Background(), "abc"), "hello")
	require.Contains(t, out.String(), `msg=hello component=api request_id=abc`)
}
