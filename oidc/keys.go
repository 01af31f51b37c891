package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxKeys is how many keys of an issuer are used: a token that does not name
	// its key is tried with each. Issuers have two to four.
	maxKeys = 32

	// Keys below minRSABits can be broken, those above maxRSABits cost too much.
	minRSABits, maxRSABits = 2048, 8192
)

// keySet is one version of the keys of an issuer. It is immutable.
type keySet struct {
	hash [sha256.Size]byte // of the JWKS
	keys []jose.JSONWebKey
}

// parseKeys reads a JWKS (RFC 7517). Keys that are not for us, or of a kind that
// we do not know, are left out.
func parseKeys(src []byte) (*keySet, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(src, &set); err != nil {
		return nil, errors.New("it is no JSON web key set")
	}
	out := &keySet{hash: sha256.Sum256(src)}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := json.Unmarshal(raw, &k); err == nil && usable(&k) && len(out.keys) < maxKeys {
			out.keys = append(out.keys, k.Public())
		}
	}
	if len(out.keys) == 0 {
		return nil, errors.New("it has no key that can verify a signature")
	}
	return out, nil
}

// usable reports whether k can verify signatures, and nobody else can make them.
func usable(k *jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.IsPublic() {
		return false
	}
	if rsaKey, ok := k.Key.(*rsa.PublicKey); ok {
		bits := rsaKey.N.BitLen()
		return bits >= minRSABits && bits <= maxRSABits
	}
	return k.Valid()
}

// candidates returns the keys that may have made a signature: those with its key
// id, or all when it names none.
func (s *keySet) candidates(header jose.Header) []jose.JSONWebKey {
	if s == nil {
		return nil
	}
	var fit []jose.JSONWebKey
	for _, k := range s.keys {
		named := header.KeyID == "" || header.KeyID == k.KeyID
		if named && (k.Algorithm == "" || k.Algorithm == header.Algorithm) && makes(k.Key, header.Algorithm) {
			fit = append(fit, k)
		}
	}
	return fit
}

// makes reports whether a key makes signatures of an algorithm.
func makes(key any, alg string) bool {
	switch key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(alg, "ES")
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
