package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/tracing"
)

// record is a line of the log.
type record struct {
	Time       time.Time
	Level, Msg string
	Event      string
	Credential string
	Tenant     string
	Addr       string
	UserAgent  string `json:"user_agent"`
	Method     string
	Path       string
	RequestID  string `json:"request_id"`
	Action     string
	Object     string
	Reason     string
	Count      int
	Changes    []string
}

func recordsOf(t *testing.T, out string) []record {
	var all []record
	for line := range strings.Lines(out) {
		var r record
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		r.Time = time.Time{}
		all = append(all, r)
	}
	return all
}

// TestChanges: what was changed is told, but not without bounds.
func TestChanges(t *testing.T) {
	var out bytes.Buffer
	reg := prometheus.NewRegistry()
	l := audit.New(slog.NewJSONHandler(&out, nil), reg)
	l.Changed(t.Context(), "change tenant", "a", []string{"limits.max_exemplars: 1 -> 2", strings.Repeat("x", 1000)})
	l.Changed(t.Context(), "remove tenant", "b", nil)
	l.Changed(t.Context(), "add tenant", "c", make([]string, 1000))
	all := recordsOf(t, out.String())
	require.Len(t, all, 3)
	require.Equal(t, []string{"limits.max_exemplars: 1 -> 2", strings.Repeat("x", 200)}, all[0].Changes)
	require.Equal(t, []any{"changed", "remove tenant", "b", 0}, []any{all[1].Event, all[1].Action, all[1].Object, all[1].Count})
	require.Empty(t, all[1].Changes)
	require.Len(t, all[2].Changes, 100)
	require.Equal(t, 1000, all[2].Count)
}

func TestRecords(t *testing.T) {
	var out bytes.Buffer
	reg := prometheus.NewRegistry()
	// The level of the log is no reason to hide a record.
	l := audit.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}), reg)
	ctx := tracing.WithID(t.Context(), "id-1")
	who := audit.Actor{Credential: "ops", Tenant: "a", Source: "192.0.2.1", UserAgent: "curl", Method: "POST", Path: "/ingester/flush"}
	l.Acted(ctx, who, "flush", "a")
	l.Used(t.Context(), who)
	l.Refused(ctx, audit.Actor{Source: "192.0.2.2", Path: strings.Repeat("x", 10_000)}, "weir-credential-missing")
	require.Equal(t, []record{
		{Level: "INFO", Msg: "audit", Event: "acted", Credential: "ops", Tenant: "a", Addr: "192.0.2.1", UserAgent: "curl", Method: "POST", Path: "/ingester/flush", RequestID: "id-1", Action: "flush", Object: "a"},
		{Level: "INFO", Msg: "audit", Event: "used", Credential: "ops", Tenant: "a", Addr: "192.0.2.1", UserAgent: "curl", Method: "POST", Path: "/ingester/flush"},
		{Level: "INFO", Msg: "audit", Event: "refused", Addr: "192.0.2.2", Path: strings.Repeat("x", 200), RequestID: "id-1", Reason: "weir-credential-missing", Count: 1},
	}, recordsOf(t, out.String()))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP weir_audit_records_total Audit records, by what they tell of.
# TYPE weir_audit_records_total counter
weir_audit_records_total{event="acted"} 1
weir_audit_records_total{event="refused"} 1
weir_audit_records_total{event="used"} 1
`), "weir_audit_records_total"))
}

type brokenHandler struct{ slog.Handler }

func (brokenHandler) Handle(context.Context, slog.Record) error { return errors.New("disk full") }

func TestFailuresAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := audit.New(brokenHandler{}, reg)
	l.Used(t.Context(), audit.Actor{})
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP weir_audit_failures_total Audit records that could not be written.
# TYPE weir_audit_failures_total counter
weir_audit_failures_total 1
`), "weir_audit_failures_total"))
}

// TestFlood: refusals from more addresses than are told apart, by several at once,
// are few records whose counts are exact.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sources, each, senders = 5000, 3, 4
		var out bytes.Buffer
		l := audit.New(slog.NewJSONHandler(&out, nil), nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = l.Run(ctx); close(done) }()
		flood := func() {
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for i := range sources * each {
						l.Refused(ctx, audit.Actor{Source: fmt.Sprint("10.0.0.", i%sources)}, "weir-credential-invalid")
					}
				})
			}
			wg.Wait()
		}
		count := func() (n, lines int) {
			for _, r := range recordsOf(t, out.String()) {
				require.Equal(t, "weir-credential-invalid", r.Reason)
				require.Positive(t, r.Count)
				n += r.Count
				lines++
			}
			return n, lines
		}
		flood()
		_, lines := count()
		require.Equal(t, 1000, lines, "the first of each kind that there is room for")
		time.Sleep(61 * time.Second)
		synctest.Wait()
		n, lines := count()
		require.Equal(t, sources*each*senders, n)
		require.Equal(t, 2001, lines, "a summary of each, and one of the rest")

		flood()
		stop()
		<-done
		n, _ = count()
		require.Equal(t, 2*sources*each*senders, n, "also of what was not summed up yet at the end")
	})
}

// TestRefusalsThatGoOn are a record a minute, and news when they come back after a
// pause.
func TestRefusalsThatGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := audit.New(slog.NewJSONHandler(&out, nil), nil)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go l.Run(ctx)
		lines := func() int { return strings.Count(out.String(), "\n") }
		refuse := func() { l.Refused(ctx, audit.Actor{Source: "192.0.2.1", Credential: "c"}, "weir-scope-missing") }
		refuse()
		require.Equal(t, 1, lines(), "at once")
		for minute := range 5 {
			for range 100 {
				refuse()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, 2+minute, lines())
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		require.Equal(t, 6, lines(), "nothing to say")
		refuse()
		require.Equal(t, 7, lines(), "news again")
	})
}
