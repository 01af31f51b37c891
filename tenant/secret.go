package tenant

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"regexp"
)

// A secret is what a client shows:
//
//	weir_  32 random bytes, then the CRC-32 (IEEE, big endian) of those 32,
//	       together as 48 characters of base64url
//
// The prefix is for scanners that look for leaked secrets; the checksum tells
// them, and whoever copied half of one, a secret from a string like it. There is
// no other form, so that nobody can choose a secret that can be guessed, and a
// fast hash is enough to keep one.
const (
	secretPrefix = "weir_"
	secretBytes  = 32
	secretLength = len(secretPrefix) + 48
)

// SecretPattern matches every secret, for scanners.
const SecretPattern = `weir_[A-Za-z0-9_-]{48}`

// Hash is how a secret is kept.
type Hash [sha256.Size]byte

// String is the form of the runtime file.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// parseHash reads the form of the runtime file.
func parseHash(text string) (h Hash, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return Hash{}, false
	}
	return Hash(b), true
}

// short names a secret in metrics, pages and records. It tells nothing of it:
// these are 4 of the 32 bytes of its hash.
func (h Hash) short() string { return hex.EncodeToString(h[:4]) }

// NewSecret returns a new secret, which is nowhere kept, and its hash, which is.
func NewSecret() (secret string, hash Hash) {
	var b [secretBytes + crc32.Size]byte
	rand.Read(b[:secretBytes]) // never fails
	binary.BigEndian.PutUint32(b[secretBytes:], crc32.ChecksumIEEE(b[:secretBytes]))
	secret = secretPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return secret, hashOf(secret)
}

func hashOf(secret string) Hash {
	var b [secretLength]byte // on the stack, which a conversion would not be
	copy(b[:], secret)
	return sha256.Sum256(b[:])
}

// looksLikeSecret reports whether s has the prefix and the length of a secret.
func looksLikeSecret(s string) bool {
	return len(s) == secretLength && s[:len(secretPrefix)] == secretPrefix
}

// intact reports whether the checksum of what looks like a secret is right.
func intact(secret string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret[len(secretPrefix):])
	return err == nil && len(b) == secretBytes+crc32.Size && // it is less when there are line breaks, which are skipped
		crc32.ChecksumIEEE(b[:secretBytes]) == binary.BigEndian.Uint32(b[secretBytes:])
}

// likeSecret matches secrets, and most of one.
var likeSecret = regexp.MustCompile(`weir_[A-Za-z0-9_-]{20,}`)

// withoutSecrets hides them in what is said about the runtime file: into which
// one may have been pasted anywhere, for example in place of its hash.
func withoutSecrets(errs []error) []error {
	for i, err := range errs {
		if text := err.Error(); likeSecret.MatchString(text) {
			errs[i] = errors.New(likeSecret.ReplaceAllString(text, secretPrefix+"..."))
		}
	}
	return errs
}
