package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// progressEvery is how often a build in progress says so.
const progressEvery = 5 * time.Second

// Build compiles k from the module that pins it to the file out. It reports the
// packages compiled so far to progress, because a cold build of a peer takes
// minutes. flags are added to go build.
func Build(ctx context.Context, k Kind, root, out string, progress io.Writer, flags ...string) error {
	start := time.Now()
	args := append([]string{"build", "-C", filepath.Join(root, k.Module), "-v", "-o", out}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, k.Package)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "build %s\n", k.Name)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", k.Name, err)
	}
	var done steps
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				fmt.Fprintf(progress, "build %s: %d modules fetched, %d packages compiled, %s\n",
					k.Name, done.modules.Load(), done.packages.Load(), time.Since(start).Round(time.Second))
			}
		}
	}()
	failure := done.scan(stderr)
	err = cmd.Wait()
	close(stop)
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", k.Name, err, failure)
	}
	fmt.Fprintf(progress, "build %s: done in %s\n", k.Name, time.Since(start).Round(100*time.Millisecond))
	return nil
}

// steps counts what a build has done so far.
type steps struct{ modules, packages atomic.Int64 }

// scan counts the lines of go build -v and returns those that are no progress:
// what went wrong.
func (d *steps) scan(r io.Reader) string {
	var rest strings.Builder
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			d.modules.Add(1)
		case strings.ContainsAny(line, " \t"):
			rest.WriteString(line)
			rest.WriteByte('\n')
		default:
			d.packages.Add(1)
		}
	}
	return rest.String()
}

// Ensure returns the path of k's binary in dir, building it when it is missing.
// Weir itself is always built: a binary of yesterday would be measured as if it
// were the working tree.
func Ensure(ctx context.Context, k Kind, root, dir string, progress io.Writer) (string, error) {
	out, err := filepath.Abs(filepath.Join(dir, k.Name))
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(out); err == nil && st.Mode().IsRegular() && k.Module != "." {
		return out, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return out, Build(ctx, k, root, out, progress)
}
