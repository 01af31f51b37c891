package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	secret, err := loadSecret(dir)
	require.NoError(t, err)
	require.Len(t, secret, secretBytes)
	info, err := os.Stat(filepath.Join(dir, "secret"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")

	again, err := loadSecret(dir)
	require.NoError(t, err)
	require.Equal(t, secret, again)
	other, err := loadSecret(t.TempDir())
	require.NoError(t, err)
	require.NotEqual(t, secret, other)

	for _, text := range []string{"", "00", "not hexadecimal"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte(text), 0o600))
		_, err = loadSecret(dir)
		require.ErrorContains(t, err, "secret: must be 32 bytes in hexadecimal")
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "secret")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "secret"), 0o700))
	_, err = loadSecret(dir)
	require.ErrorContains(t, err, "read the secret of redaction")
}
