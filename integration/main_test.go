package integration

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/weir-metrics/weir/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// protocols are what every round trip is made by.
var protocols = []harness.Protocol{harness.V1, harness.V2}

// progress prints at once what a slow test is doing; t.Log would keep it until
// the end.
func progress(t *testing.T, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", time.Now().Format("15:04:05"), t.Name(), fmt.Sprintf(format, args...))
}
