package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secretBytes is the length of the secret of a data directory.
const secretBytes = 32

// loadSecret returns the secret in the data directory dir, which is made when
// there is none. Keys of hashes are derived from it: hashes of one value are equal
// as long as the file stays, and who lacks it cannot try values.
func loadSecret(dir string) ([]byte, error) {
	path := filepath.Join(dir, "secret")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecret(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret of redaction: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != secretBytes {
		return nil, fmt.Errorf("%s: must be %d bytes in hexadecimal; restore it, or remove it and redaction makes other hashes from now on", path, secretBytes)
	}
	return secret, nil
}

// makeSecret writes a new secret to path. A crash leaves all of it or nothing.
func makeSecret(path string) ([]byte, error) {
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := writeWhole(path, hex.EncodeToString(secret)+"\n"); err != nil {
		return nil, fmt.Errorf("write the secret of redaction: %w", err)
	}
	return secret, nil
}

// writeWhole writes a file that only its owner may read, beside its place first.
func writeWhole(path, text string) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
