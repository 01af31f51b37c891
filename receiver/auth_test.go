package receiver_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/tenant"
)

// unread is a body that must not be read: who sends it has no right to our memory.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a request that is refused was read")
	return 0, errors.New("not for you")
}

// untouched is an ingester that nothing reaches.
type untouched struct{ t *testing.T }

func (u untouched) Write(context.Context, string, *proto.Frame, *proto.Reply) error {
	u.t.Error("a request that is refused was stored")
	return nil
}

// TestAnswersToCredentials is what each protocol is told about a credential that
// does not do, with nothing read and nothing stored. Where it is sure whose request
// it was, the ledger of that tenant has it.
func TestAnswersToCredentials(t *testing.T) {
	credential := func(id, scope, expires string) (string, tenant.Credential) {
		secret, hash := tenant.NewSecret()
		return "Bearer " + secret, tenant.Credential{
			ID: id, Tenants: []string{"a"}, Scopes: []string{scope}, Secrets: []tenant.Secret{{SHA256: hash.String(), Expires: expires}},
		}
	}
	writer, writerEntry := credential("writer", "write", "")
	reader, readerEntry := credential("reader", "read", "")
	expired, expiredEntry := credential("expired", "write", "2026-01-01T00:00:00Z")
	unknown, _ := credential("", "", "")
	for _, tc := range []struct {
		name, shown string
		other       string // tenant that is named
		state       tenant.State
		guesses     int // before
		status      int
		id          string
		retry       string
		credential  string // whose it is, when that is sure
	}{
		{name: "missing", status: 401, id: "weir-credential-missing"},
		{name: "unknown", shown: unknown, status: 401, id: "weir-credential-invalid"},
		{name: "expired", shown: expired, status: 401, id: "weir-credential-expired", credential: "expired"},
		{name: "without the scope", shown: reader, status: 403, id: "weir-scope-missing", credential: "reader"},
		{name: "of another tenant", shown: writer, other: "b", status: 403, id: "weir-tenant-forbidden", credential: "writer"},
		{name: "suspended", shown: writer, state: tenant.StateSuspended, status: 403, id: "weir-tenant-suspended", credential: "writer"},
		{name: "read-only", shown: writer, state: tenant.StateReadOnly, status: 403, id: "weir-tenant-suspended", credential: "writer"},
		{name: "held", shown: writer, state: tenant.StateHeld, status: 503, id: "weir-tenant-held", retry: "^30[0-4]$", credential: "writer"},
		{name: "too many guesses", shown: unknown, guesses: 30, status: 429, id: "weir-auth-throttled", retry: "^[1-9]$"},
	} {
		for _, protocol := range []string{"1.0", "2.0", "1.0 in a type that is not known", "otlp", "handshake"} {
			if protocol == "handshake" && tc.state != "" {
				continue // it is about no tenant
			}
			t.Run(tc.name+"/"+protocol, func(t *testing.T) {
				settings := tenant.DefaultSettings()
				if tc.state != "" {
					settings.State = tc.state
				}
				cs, errs := tenant.NewCredentials("credentials", []tenant.Credential{writerEntry, readerEntry, expiredEntry}, nil)
				require.Empty(t, errs)
				directory := tenant.NewDirectory(tenant.ModeRequired, settings)
				directory.SetCredentials(cs)
				refusals := ledger.New(nil)
				recv := receiver.New(receiver.DefaultConfig(), receiver.Deps{
					Ingester: untouched{t}, Tenants: directory, Settings: directory.Settings, Ledger: refusals, Logger: slog.New(slog.DiscardHandler),
				})
				send := func(body io.Reader) *httptest.ResponseRecorder {
					hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", body)
					h := http.Handler(recv)
					switch protocol {
					case "2.0":
						hr.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
					case "1.0 in a type that is not known":
						hr.Header.Set("Content-Type", "text/html")
					case "otlp":
						hr.Header.Set("Content-Type", "application/x-protobuf")
						h = recv.OTLP()
					case "handshake":
						hr.URL.RawQuery = "get_vm_proto_version=1"
					}
					if tc.shown != "" {
						hr.Header.Set("Authorization", tc.shown)
					}
					if tc.other != "" {
						hr.Header.Set(tenant.Header, tc.other)
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, hr)
					return w
				}
				for range tc.guesses {
					send(http.NoBody)
				}
				w := send(unread{t})
				require.Equal(t, tc.status, w.Code, w.Body)
				require.Contains(t, w.Body.String(), tc.id+": ")
				require.Equal(t, tc.status == 401, len(w.Header().Values("WWW-Authenticate")) == 2)
				require.Regexp(t, tc.retry, w.Header().Get("Retry-After"))
				if tc.retry == "" {
					require.Empty(t, w.Header().Get("Retry-After"))
				}
				if protocol == "2.0" {
					got, told := written(t, w.Header())
					require.True(t, told)
					require.Equal(t, proto.Counts{}, got)
				}
				var remembered []string
				for _, x := range refusals.Refusals("a") {
					remembered = append(remembered, x.Reason+" "+x.Sender.Credential)
					require.NotEmpty(t, x.Example.Detail)
				}
				if tc.credential == "" || protocol == "handshake" {
					require.Empty(t, remembered)
				} else {
					require.Equal(t, []string{tc.id + " " + tc.credential}, remembered)
				}
				require.Empty(t, refusals.Refusals("b"), "nobody fills the ledger of another tenant")
			})
		}
	}
}
