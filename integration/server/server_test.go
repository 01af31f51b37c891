package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	stat := []byte("4242 (a (strange) name) S 1 4242 4242 0 -1 4194560 5 0 0 0 123 77 0 0 20 0 9 0 100 1 1")
	cpu, err := parseStat(stat)
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, cpu)

	for _, bad := range []string{"", "1 (x) S 1", "1 x S 1 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		_, err := parseStat([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestParseHighWater(t *testing.T) {
	peak, err := parseStatus([]byte("Name:\tx\nVmPeak:\t  100 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 10 kB\n"), "VmHWM:")
	require.NoError(t, err)
	require.Equal(t, int64(2<<20), peak)

	_, err = parseStatus([]byte("Name:\tx\nState:\tZ (zombie)\n"), "VmHWM:")
	require.Error(t, err)
}

func TestScanBuild(t *testing.T) {
	var done steps
	rest := done.scan(strings.NewReader("go: downloading example.org/m v1.0.0\ninternal/abi\nexample.org/m\n# example.org/p\np.go:1:1: syntax error\n"))
	require.Equal(t, int64(1), done.modules.Load())
	require.Equal(t, int64(2), done.packages.Load())
	require.Equal(t, "# example.org/p\np.go:1:1: syntax error\n", rest)
}
