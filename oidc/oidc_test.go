package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func newVerifier(t testing.TB, issuers ...Issuer) *Verifier {
	t.Helper()
	v, err := New(issuers, quiet, prometheus.NewRegistry())
	require.NoError(t, err)
	return v
}

// verifying runs a verifier until the test ends, and waits until it has keys.
func verifying(t testing.TB, issuers ...Issuer) *Verifier {
	t.Helper()
	v := newVerifier(t, issuers...)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	for _, i := range v.issuers {
		require.Eventually(t, func() bool { return i.keys.Load() != nil }, 10*time.Second, time.Millisecond)
	}
	return v
}

func weir(i *harness.Issuer) Issuer {
	return Issuer{URL: i.URL, Audiences: []string{"weir"}, Algorithms: []string{"ES256", "RS256", "EdDSA", "PS256"}}
}

func unsigned(header, payload string) string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload)) + "."
}

func TestVerify(t *testing.T) {
	issuer, other := harness.NewIssuer(t), harness.NewIssuer(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	issuer.Add(edKey, "EdDSA")
	issuer.Add(rsaKey, "RS256")
	issuer.Publish(3)
	v := verifying(t, weir(issuer))
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	public, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	by := func(alg jose.SignatureAlgorithm, key any, kid string) jose.SigningKey {
		return jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}
	}
	const invalidID, earlyID, expiredID = "weir-credential-invalid", "weir-credential-early", "weir-credential-expired"
	payload := fmt.Sprintf(`{"iss":%q,"aud":"weir","exp":%d}`, issuer.URL, at(time.Hour))
	for _, tc := range []struct {
		name, token string
		id, text    string
	}{
		{"good", issuer.Token(nil), "", ""},
		{"good, by another key", issuer.TokenBy(by("EdDSA", edKey, "key-1"), nil), "", ""},
		{"good, names no key", issuer.TokenBy(by("RS256", rsaKey, ""), nil), "", ""},
		{"one audience of several", issuer.Token(map[string]any{"aud": []string{"grafana", "weir"}}), "", ""},
		{"our clock is behind", issuer.Token(map[string]any{"nbf": at(50 * time.Second), "iat": at(50 * time.Second)}), "", ""},
		{"our clock is ahead", issuer.Token(map[string]any{"exp": at(-50 * time.Second)}), "", ""},
		{"times with fractions", issuer.Token(map[string]any{"exp": float64(at(time.Hour)) + 0.5}), "", ""},

		{"expired", issuer.Token(map[string]any{"exp": at(-61 * time.Second)}), expiredID, "expired at 2"},
		{"not yet", issuer.Token(map[string]any{"nbf": at(2 * time.Minute)}), earlyID, "valid from 2"},
		{"issued in the future", issuer.Token(map[string]any{"iat": at(2 * time.Minute)}), earlyID, "valid from 2"},
		{"for ever", issuer.Token(map[string]any{"exp": nil}), invalidID, "no claim exp"},
		{"a time that is none", issuer.Token(map[string]any{"exp": "soon"}), invalidID, "claim exp that is no time"},
		{"a time beyond reason", issuer.Token(map[string]any{"nbf": 1e300}), invalidID, "claim nbf that is no time"},
		{"another audience", issuer.Token(map[string]any{"aud": "grafana"}), invalidID, "another audience"},
		{"no audience", issuer.Token(map[string]any{"aud": nil}), invalidID, "another audience"},
		{"another issuer", other.Token(nil), invalidID, "issuer that is not trusted"},
		{"no issuer", issuer.Token(map[string]any{"iss": nil}), invalidID, "issuer that is not trusted"},
		{"the issuer in name only", other.Token(map[string]any{"iss": issuer.URL}), invalidID, "not signed by its issuer"},
		{"another's key by the name of one", other.TokenBy(by("RS256", mustRSA(t), "key-2"), map[string]any{"iss": issuer.URL}), invalidID, "not signed by its issuer"},
		{"another's key by no name", other.TokenBy(by("RS256", mustRSA(t), ""), map[string]any{"iss": issuer.URL}), invalidID, "not signed by its issuer"},
		{"a key used by another algorithm", issuer.TokenBy(by("PS256", rsaKey, "key-2"), map[string]any{"iat": at(-time.Hour)}), invalidID, "does not have"},
		{"an algorithm that is not allowed", issuer.TokenBy(by("RS512", rsaKey, "key-2"), nil), invalidID, "algorithm"},
		{"alg none", unsigned(`{"alg":"none"}`, payload), invalidID, "algorithm"},
		{"alg None", unsigned(`{"alg":"None"}`, payload), invalidID, "algorithm"},
		{"the public key as a secret", issuer.TokenBy(by("HS256", publicPEM, "key-2"), nil), invalidID, "algorithm"},
		{"no signature", strings.TrimRight(issuer.Token(nil), "-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"), invalidID, ""},
		{"another payload", swapPayload(issuer.Token(nil), payload), invalidID, "not signed by its issuer"},
		{"payload is no object", unsigned(`{"alg":"RS256"}`, `null`) + "AAAA", invalidID, "not a JSON object"},
		{"nothing", "", invalidID, "no signed JWT"},
		{"dots", "..", invalidID, ""},
		{"JSON serialization", `{"payload":"","signatures":[]}`, invalidID, "no signed JWT"},
		{"too long", strings.Repeat("e", maxTokenBytes+1), invalidID, "the limit is 16384"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 2 { // the second time it may be remembered
				got, err := v.Verify(t.Context(), tc.token)
				if tc.id == "" {
					require.Nil(t, err)
					require.Equal(t, issuer.URL, got.Issuer)
					require.Equal(t, "alice", got.Subject)
					continue
				}
				require.NotNil(t, err)
				require.Nil(t, got)
				require.Equal(t, tc.id, err.ID)
				require.Equal(t, proto.KindUnauthenticated, err.Kind)
				require.Contains(t, err.Msg, tc.text)
				require.NotContains(t, err.Msg, "alice")
			}
		})
	}
}

func mustRSA(t *testing.T) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

func swapPayload(token, payload string) string {
	parts := strings.Split(token, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(payload))
	return strings.Join(parts, ".")
}

// TestRememberedTokenExpires: what was verified once is looked at again.
func TestRememberedTokenExpires(t *testing.T) {
	issuer := harness.NewIssuer(t)
	v := verifying(t, weir(issuer))
	token := issuer.Token(map[string]any{"exp": time.Now().Add(-clockSkew + 2*time.Second).Unix()})
	_, err := v.Verify(t.Context(), token)
	require.Nil(t, err)
	require.Eventually(t, func() bool {
		_, err := v.Verify(t.Context(), token)
		return err != nil && err.ID == "weir-credential-expired"
	}, 10*time.Second, 10*time.Millisecond)
}

// fetchNow makes a verifier fetch the keys as if the pause were over.
func fetchNow(t *testing.T, v *Verifier) {
	t.Helper()
	for _, i := range v.issuers {
		_ = i.fetch(t.Context())
	}
}

// TestKeyIsTakenOut: tokens by a key that its issuer takes out are refused, also
// those that were verified already.
func TestKeyIsTakenOut(t *testing.T) {
	issuer := harness.NewIssuer(t)
	v := verifying(t, weir(issuer))
	old := issuer.Token(map[string]any{"iat": time.Now().Add(-time.Hour).Unix()})
	issuer.NewKey()
	issuer.Publish(2)
	fetchNow(t, v)
	for _, token := range []string{old, issuer.Token(nil)} {
		_, err := v.Verify(t.Context(), token)
		require.Nil(t, err, "both are published")
	}
	issuer.Publish(1)
	fetchNow(t, v)
	_, err := v.Verify(t.Context(), old)
	require.NotNil(t, err)
	require.Equal(t, "weir-credential-invalid", err.ID)
	_, err = v.Verify(t.Context(), issuer.Token(nil))
	require.Nil(t, err)
}

// TestRotationUnderLoad: an issuer that signs with a key as soon as it has it,
// unpublished before, and clients that use new tokens at once. None is answered
// 401.
func TestRotationUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two pauses")
	}
	issuer := harness.NewIssuer(t)
	v := verifying(t, weir(issuer))
	deadline := time.Now().Add(2*pause + time.Second)
	var clients sync.WaitGroup
	var good, later, rotations int
	var mu sync.Mutex
	for range 4 {
		clients.Go(func() {
			for time.Now().Before(deadline) {
				_, err := v.Verify(t.Context(), issuer.Token(nil))
				mu.Lock()
				switch {
				case err == nil:
					good++
				case err.Kind == proto.KindUnavailable:
					require.Equal(t, pause, err.RetryAfter)
					later++
				default:
					t.Errorf("a valid token: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	for time.Now().Before(deadline) {
		time.Sleep(pause / 2)
		issuer.NewKey()
		rotations++
		issuer.Publish(2)
	}
	clients.Wait()
	require.Positive(t, good)
	t.Logf("%d rotations: %d good, %d told to come back", rotations, good, later)
	require.Eventually(t, func() bool {
		_, err := v.Verify(t.Context(), issuer.Token(nil))
		return err == nil
	}, 2*pause, 100*time.Millisecond)
}

// TestMadeUpKeys: a flood of tokens with key ids that nobody has costs the issuer
// one fetch in a pause.
func TestMadeUpKeys(t *testing.T) {
	issuer := harness.NewIssuer(t)
	v := verifying(t, weir(issuer))
	key := ecKey(t)
	before := issuer.Fetches()
	start := time.Now()
	var flood sync.WaitGroup
	for n := range 8 {
		flood.Go(func() {
			for m := range 50 {
				_, err := v.Verify(t.Context(), issuer.TokenBy(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: fmt.Sprint(n, m)}}, nil))
				require.NotNil(t, err)
			}
		})
	}
	flood.Wait()
	require.LessOrEqual(t, issuer.Fetches()-before, 1+int(time.Since(start)/pause))
	_, err := v.Verify(t.Context(), issuer.Token(nil))
	require.Nil(t, err, "others go on")
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// TestIssuerDown: with keys, everything goes on; without, senders are told to come
// back.
func TestIssuerDown(t *testing.T) {
	issuer := harness.NewIssuer(t)
	v := verifying(t, weir(issuer))
	issuer.SetDown(true)
	fetchNow(t, v)
	i := v.issuers[issuer.URL]
	require.Equal(t, 1.0, testutil.ToFloat64(i.metrics.fetches.WithLabelValues(issuer.URL, "failed")))
	_, err := v.Verify(t.Context(), issuer.Token(nil))
	require.Nil(t, err, "its key is known")

	fresh, stale := map[string]any{"sub": "bob"}, map[string]any{"iat": time.Now().Add(-time.Hour).Unix()}
	issuer.NewKey()
	_, err = v.Verify(t.Context(), issuer.Token(fresh))
	require.NotNil(t, err)
	require.Equal(t, "weir-issuer-unavailable", err.ID, "the key may be new")
	require.Equal(t, proto.KindUnavailable, err.Kind)
	_, err = v.Verify(t.Context(), issuer.Token(stale))
	require.NotNil(t, err)
	require.Equal(t, "weir-credential-invalid", err.ID, "the keys are newer than the token")

	never := newVerifier(t, weir(issuer)) // and nobody runs it
	_, err = never.Verify(t.Context(), issuer.Token(stale))
	require.NotNil(t, err)
	require.Equal(t, "weir-issuer-unavailable", err.ID, "there were no keys ever")
}

// TestUnknownKeyIsFetched: a token with a key that was published after our last
// fetch is good at once when a fetch may begin.
func TestUnknownKeyIsFetched(t *testing.T) {
	issuer := harness.NewIssuer(t)
	v := verifying(t, weir(issuer))
	i := v.issuers[issuer.URL]
	issuer.NewKey()
	issuer.Publish(2)
	i.mu.Lock()
	i.began = i.began.Add(-pause)
	i.mu.Unlock()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := v.Verify(t.Context(), issuer.Token(nil))
			require.Nil(t, err)
		})
	}
	all.Wait()
	require.Equal(t, 2, issuer.Fetches())
}

// TestRefreshes looks at run alone, by a fake clock: how often it fetches.
func TestRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, Issuer{URL: "https://issuer.example", Audiences: []string{"weir"}, KeysURL: "https://issuer.example/keys"})
		i := v.issuers["https://issuer.example"]
		var fetches []time.Duration
		start := time.Now()
		var up atomic.Bool
		i.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			fetches = append(fetches, time.Since(start))
			w := httptest.NewRecorder()
			if !up.Load() {
				w.WriteHeader(500)
			}
			_, _ = w.Write(jwks(t, ecKey(t).Public()))
			return w.Result(), nil
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		time.Sleep(2*pause + time.Second)
		up.Store(true)
		time.Sleep(pause)
		i.await(ctx)             // too early
		time.Sleep(refreshEvery) // by itself
		time.Sleep(time.Minute)
		i.await(ctx)
		stop()
		require.NoError(t, <-done)
		require.Equal(t, []time.Duration{
			0, pause, 2 * pause, 3 * pause, 3*pause + refreshEvery, 3*pause + time.Second + refreshEvery + time.Minute,
		}, fetches)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func jwks(t *testing.T, keys ...any) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for n, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k, KeyID: fmt.Sprint(n)})
	}
	out, err := json.Marshal(set)
	require.NoError(t, err)
	return out
}

func TestKeysFile(t *testing.T) {
	issuer := harness.NewIssuer(t)
	file := filepath.Join(t.TempDir(), "keys.json")
	cfg := weir(issuer)
	cfg.KeysFile = file
	_, err := New([]Issuer{cfg}, quiet, nil)
	require.ErrorContains(t, err, "keys of the issuer "+issuer.URL)
	require.NoError(t, os.WriteFile(file, issuer.JWKS(), 0o600))
	v := newVerifier(t, cfg)
	_, refusal := v.Verify(t.Context(), issuer.Token(nil))
	require.Nil(t, refusal)
	require.Zero(t, issuer.Fetches())
}

// TestDiscovery: what an issuer may say of itself.
func TestDiscovery(t *testing.T) {
	for _, tc := range []struct{ name, answer, want string }{
		{"another issuer", `{"issuer":"https://other.example","jwks_uri":"URL/keys"}`, `it says to be the issuer "https://other.example"`},
		{"keys without TLS", `{"issuer":"URL","jwks_uri":"http://192.0.2.1/keys"}`, "not an https URL"},
		{"no keys", `{"issuer":"URL"}`, "not an https URL"},
		{"a file", `{"issuer":"URL","jwks_uri":"file:///etc/passwd"}`, "not an https URL"},
		{"not JSON", `<html>`, "is not JSON"},
		{"too long", strings.Repeat(" ", maxAnswerBytes+1), "longer than"},
		{"redirects away from TLS", "", "redirects too often, or away from https"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var srv *httptest.Server
			srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tc.answer == "" {
					http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
					return
				}
				_, _ = w.Write([]byte(strings.ReplaceAll(tc.answer, "URL", srv.URL)))
			}))
			defer srv.Close()
			v := newVerifier(t, Issuer{URL: srv.URL, Audiences: []string{"weir"}})
			i := v.issuers[srv.URL]
			defer i.client.CloseIdleConnections()
			require.ErrorContains(t, i.fetch(t.Context()), tc.want)
			require.Nil(t, i.keys.Load())
		})
	}
}

func TestParseKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	good := string(jwks(t, ecKey(t).Public()))
	add := func(key string) string { return strings.Replace(good, `{"keys":[`, `{"keys":[`+key+`,`, 1) }
	for _, tc := range []struct {
		name, src string
		keys      int
	}{
		{"one", good, 1},
		{"of a kind that is not known", add(`{"kty":"OKP","crv":"Ed448","x":"AA"}`), 1},
		{"not a key at all", add(`{"kty":"EC"}`), 1},
		{"a secret", add(`{"kty":"oct","k":"c2VjcmV0"}`), 1},
		{"to encrypt", strings.Replace(good, `"kty"`, `"use":"enc","kty"`, 1), 0},
		{"weak", string(jwks(t, small.Public())), 0},
		{"none", `{"keys":[]}`, 0},
		{"no set", `[]`, 0},
		{"too many", string(jwks(t, many(t)...)), maxKeys},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, err := parseKeys([]byte(tc.src))
			if tc.keys == 0 {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Len(t, set.keys, tc.keys)
		})
	}
	private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey(t)}}})
	require.NoError(t, err)
	_, err = parseKeys(private)
	require.Error(t, err, "a private key that was published is nobody's")
}

func many(t *testing.T) []any {
	var keys []any
	for range maxKeys + 1 {
		keys = append(keys, ecKey(t).Public())
	}
	return keys
}

func TestValidate(t *testing.T) {
	good := Issuer{URL: "https://sso.example/realms/a", Audiences: []string{"weir"}}
	require.Empty(t, good.Validate("auth.issuers[0]"))
	for _, tc := range []struct {
		name   string
		change func(*Issuer)
		want   string
	}{
		{"no TLS", func(i *Issuer) { i.URL = "http://sso.example" }, `auth.issuers[0].url: "http://sso.example": must be an https URL`},
		{"no URL", func(i *Issuer) { i.URL = "" }, "url"},
		{"a password in it", func(i *Issuer) { i.URL = "https://a:b@sso.example" }, "url"},
		{"no audience", func(i *Issuer) { i.Audiences = nil }, "audiences"},
		{"alg none", func(i *Issuer) { i.Algorithms = []string{"none"} }, "algorithms"},
		{"a shared secret", func(i *Issuer) { i.Algorithms = []string{"ES256", "HS256"} }, `"HS256": must be one of`},
		{"keys without TLS", func(i *Issuer) { i.KeysURL = "http://sso.example/keys" }, "keys_url"},
		{"two sources", func(i *Issuer) { i.KeysURL, i.KeysFile = "https://sso.example/keys", "keys" }, "keys_file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := good
			tc.change(&i)
			errs := i.Validate("auth.issuers[0]")
			require.Len(t, errs, 1)
			require.ErrorContains(t, errs[0], tc.want)
		})
	}
	_, err := New([]Issuer{good, good}, quiet, nil)
	require.ErrorContains(t, err, "twice")
}

// TestRecentIsBounded by the length of what it remembers, and keeps what is asked
// for.
func TestRecentIsBounded(t *testing.T) {
	r := newRecent()
	want := &Token{}
	r.put("kept", want)
	long := strings.Repeat("x", maxTokenBytes-8)
	perGeneration := recentBytes / maxTokenBytes
	for n := range 10 * perGeneration {
		r.put(fmt.Sprintf("%08d%s", n, long), &Token{})
		require.Same(t, want, r.get("kept"))
		require.LessOrEqual(t, len(r.young)+len(r.old), 2*(perGeneration+1))
		require.LessOrEqual(t, r.bytes, recentBytes)
	}
	require.Nil(t, r.get(fmt.Sprintf("%08d%s", 0, long)), "long ago")
}

// FuzzUnverified: what anybody may send is parsed before it is verified.
func FuzzUnverified(f *testing.F) {
	for _, seed := range []string{`{"iss":"a","exp":1}`, `{"aud":["a",1],"exp":1e400,"nbf":-1}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if c, err := parseClaims(src); err == nil {
			require.False(t, c.expires.IsZero())
			require.NotNil(t, c.all)
		}
		if set, err := parseKeys(src); err == nil {
			for _, k := range set.keys {
				require.True(t, k.IsPublic())
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	issuer := harness.NewIssuer(b)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	issuer.Add(rsaKey, "RS256")
	issuer.Publish(2)
	v := verifying(b, weir(issuer))
	groups := make([]string, 30)
	for n := range groups {
		groups[n] = fmt.Sprintf("/teams/team-%d", n)
	}
	tokens := make([]string, 1000)
	for n := range tokens {
		tokens[n] = issuer.Token(map[string]any{"sub": fmt.Sprint(n), "groups": groups})
	}
	b.Logf("tokens of %d bytes", len(tokens[0]))
	b.Run("shown before", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			_, _ = v.Verify(b.Context(), tokens[n%len(tokens)])
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			v.recent = newRecent()
			_, _ = v.Verify(b.Context(), tokens[n%len(tokens)])
		}
	})
}
