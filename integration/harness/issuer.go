package harness

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// Issuer is an OpenID Connect issuer on loopback, as far as weir asks it.
type Issuer struct {
	t   testing.TB
	URL string

	mu        sync.Mutex
	keys      []jose.JSONWebKey // private; guarded by mu
	published int               // of keys, from the end; guarded by mu
	down      bool              // guarded by mu
	fetches   int               // of keys; guarded by mu
}

// NewIssuer starts an issuer with one key, and stops it when the test ends.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if i.up(w, 0) {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
		}
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		if i.up(w, 1) {
			_, _ = w.Write(i.JWKS())
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	i.URL = srv.URL
	i.NewKey()
	i.Publish(1)
	return i
}

func (i *Issuer) up(w http.ResponseWriter, fetches int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches += fetches
	if i.down {
		http.Error(w, "down", http.StatusBadGateway)
	}
	return !i.down
}

// NewKey makes the key by which the next tokens are signed.
func (i *Issuer) NewKey() {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(i.t, err)
	i.Add(key, "ES256")
}

// Add is NewKey with a key of the caller.
func (i *Issuer) Add(key crypto.Signer, alg string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, jose.JSONWebKey{Key: key, KeyID: fmt.Sprintf("key-%d", len(i.keys)), Algorithm: alg, Use: "sig"})
}

// Publish makes the newest n keys those that everybody gets.
func (i *Issuer) Publish(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published = n
}

// SetDown makes the issuer answer 502, or no longer.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Fetches is how often the keys were asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// JWKS is what is published.
func (i *Issuer) JWKS() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys[len(i.keys)-i.published:] {
		set.Keys = append(set.Keys, k.Public())
	}
	out, err := json.Marshal(set)
	require.NoError(i.t, err)
	return out
}

// Token returns a token for the audience weir, good for an hour, with more claims;
// nil takes one away.
func (i *Issuer) Token(more map[string]any) string {
	i.mu.Lock()
	key := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	return i.TokenBy(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, more)
}

// TokenBy is Token, signed as the caller likes.
func (i *Issuer) TokenBy(by jose.SigningKey, more map[string]any) string {
	i.t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": i.URL, "sub": "alice", "aud": "weir", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	require.NoError(i.t, err)
	signer, err := jose.NewSigner(by, (&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(i.t, err)
	signed, err := signer.Sign(payload)
	require.NoError(i.t, err)
	token, err := signed.CompactSerialize()
	require.NoError(i.t, err)
	return token
}
