package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startAttempts bounds the retries after another process took the port that
// was free a moment ago.
const startAttempts = 5

// Process is one running server.
type Process struct {
	Kind   Kind
	URL    string // http://127.0.0.1:port, or https
	PID    int
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{} // closed once the process is gone
	err    error         // of Wait; read after exited
}

// Start starts binary and returns when it is ready. The caller must Stop or
// Kill the process.
func Start(ctx context.Context, k Kind, binary string, opt Options) (*Process, error) {
	if k.Prepare != nil {
		if err := k.Prepare(opt.DataDir); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", k.Name, err)
		}
	}
	within := opt.ReadyWithin
	if within == 0 {
		within = time.Minute
	}
	var err error
	for range startAttempts {
		var p *Process
		if p, err = launch(k, binary, opt); err != nil {
			return nil, err
		}
		if err = p.waitReady(ctx, opt.Client, within); err == nil {
			return p, nil
		}
		p.Kill()
		if !strings.Contains(Tail(opt.LogPath, 4<<10), "address already in use") {
			return nil, err
		}
	}
	return nil, err
}

// launch starts the process on a port that is free now.
func launch(k Kind, binary string, opt Options) (*Process, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(opt.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	args := append(k.Args(listen, opt.DataDir), opt.ExtraArgs...)
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = opt.DataDir
	cmd.Env = append(os.Environ(), opt.Env...)
	if opt.MemoryLimit > 0 {
		cmd.Env = append(cmd.Env, "GOMEMLIMIT="+strconv.FormatInt(opt.MemoryLimit, 10))
	}
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", k.Name, err)
	}
	scheme := "http://"
	if opt.Client != nil {
		scheme = "https://"
	}
	p := &Process{Kind: k, URL: scheme + listen, PID: cmd.Process.Pid, cmd: cmd, log: log, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		log.Close()
		close(p.exited)
	}()
	if opt.MemoryLimit > 0 {
		if err := limitAddressSpace(p.PID, uint64(max(4*opt.MemoryLimit, 4<<30))); err != nil {
			p.Kill()
			return nil, fmt.Errorf("limit address space of %s: %w", k.Name, err)
		}
	}
	return p, nil
}

// freeAddress returns a loopback address whose port was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// waitReady polls the ready path until it answers 200.
func (p *Process) waitReady(ctx context.Context, client *http.Client, within time.Duration) error {
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+p.Kind.ReadyPath, nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it was ready: %w", p.Kind.Name, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", p.Kind.Name, errors.Join(ErrNotReady, context.Cause(ctx)))
		case <-tick.C:
		}
	}
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop asks the process to end with SIGTERM and waits. When it has not ended
// within the time it is killed, and that is an error, as is an exit code.
func (p *Process) Stop(within time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.Kind.Name, p.err)
		}
		return nil
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s still ran %s after SIGTERM", p.Kind.Name, within)
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	// The only error is that it ended by itself, which is what we want.
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// Tail returns the last n bytes of a log file, or why it cannot be read.
func Tail(path string, n int64) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
