package tenant_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

func TestAuthenticate(t *testing.T) {
	header := func(values ...string) http.Header {
		h := http.Header{}
		for _, v := range values {
			h.Add(tenant.Header, v)
		}
		return h
	}
	for _, c := range []struct {
		name   string
		mode   tenant.Mode
		header http.Header
		want   string
		kind   proto.Kind // of the refusal
		id     string     // of the refusal
	}{
		{name: "none", mode: tenant.ModeNone, want: tenant.Anonymous},
		{name: "none, header ignored", mode: tenant.ModeNone, header: header("team-a"), want: tenant.Anonymous},
		{name: "none, bad header ignored", mode: tenant.ModeNone, header: header("../x"), want: tenant.Anonymous},
		{name: "header", mode: tenant.ModeHeader, header: header("team-a"), want: "team-a"},
		{name: "header as another program spells it", mode: tenant.ModeHeader, header: http.Header{"X-Scope-Orgid": {"team-a"}}, want: "team-a"},
		{name: "header twice", mode: tenant.ModeHeader, header: header("team-a", "team-b"), kind: proto.KindBadData, id: "weir-tenant-invalid"},
		{name: "header missing", mode: tenant.ModeHeader, kind: proto.KindUnauthenticated, id: "weir-tenant-missing"},
		{name: "header empty", mode: tenant.ModeHeader, header: header(""), kind: proto.KindUnauthenticated, id: "weir-tenant-missing"},
		{name: "header invalid", mode: tenant.ModeHeader, header: header("team/a"), kind: proto.KindBadData, id: "weir-tenant-invalid"},
		{name: "several tenants in one", mode: tenant.ModeHeader, header: header("a|b"), kind: proto.KindBadData, id: "weir-tenant-federation-unsupported"},
		// A directory nobody configured lets nobody in.
		{name: "no mode", kind: proto.KindUnauthenticated, id: "weir-tenant-missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hr := httptest.NewRequest(http.MethodPost, "/", nil)
			hr.Header = c.header
			got, err := tenant.NewDirectory(c.mode, tenant.DefaultSettings()).Authenticate(hr, tenant.ScopeWrite)
			if c.id != "" {
				var e *proto.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.id, e.ID)
				require.Equal(t, c.kind, e.Kind)
				require.Empty(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got.Tenant)
		})
	}
}

func TestValidateID(t *testing.T) {
	for _, c := range []struct {
		name, id string
		ok       bool
		says     string // in the refusal
	}{
		{name: "letters, digits and every mark", id: "Team-1_a!b.c*d'e(f)", ok: true},
		{name: "one byte", id: "a", ok: true},
		{name: "150 bytes", id: strings.Repeat("a", 150), ok: true},
		{name: "151 bytes", id: strings.Repeat("a", 151), says: "151 bytes, the limit is 150"},
		{name: "empty", says: "empty"},
		{name: "this directory", id: ".", says: "path component"},
		{name: "the directory above", id: "..", says: "path component"},
		{name: "three dots are a name", id: "...", ok: true},
		{name: "hidden", id: ".a", ok: true},
		{name: "one underscore", id: "_a", ok: true},
		{name: "reserved", id: "__weir", says: "reserved"},
		{name: "reserved, nothing behind", id: "__", says: "reserved"},
		{name: "underscores inside", id: "a__b", ok: true},
		{name: "slash", id: "a/b", says: `'/' at offset 1`},
		{name: "backslash", id: `a\b`, says: "offset 1"},
		{name: "bar, which joins tenants elsewhere", id: "a|b", says: "offset 1"},
		{name: "colon", id: "a:b", says: "offset 1"},
		{name: "blank", id: " a", says: "offset 0"},
		{name: "newline", id: "a\n", says: "offset 1"},
		{name: "NUL", id: "a\x00", says: "offset 1"},
		{name: "percent", id: "a%2fb", says: "offset 1"},
		{name: "not ASCII", id: "größe", says: "offset 2"},
		{name: "not UTF-8", id: "\xff", says: "offset 0"},
		{name: "DEL", id: "\x7f", says: "offset 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := tenant.ValidateID(c.id)
			if c.ok {
				require.NoError(t, err)
				return
			}
			var e *proto.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, proto.KindBadData, e.Kind)
			require.Equal(t, "weir-tenant-invalid", e.ID)
			require.Contains(t, e.Msg, c.says)
			require.True(t, utf8.ValidString(e.Msg))
			require.Less(t, len(e.Msg), 300)
		})
	}
	require.NoError(t, tenant.ValidateID(tenant.Anonymous))
}

// TestValidateIDBytes checks every byte against the documented set.
func TestValidateIDBytes(t *testing.T) {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!-_.*'()"
	for b := range 256 {
		err := tenant.ValidateID("x" + string([]byte{byte(b)}))
		require.Equal(t, strings.IndexByte(allowed, byte(b)) >= 0, err == nil, "byte %#x: %v", b, err)
	}
}
