package server

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of the CPU times in /proc/PID/stat. Linux fixes it at
// 100 per second for user space, whatever the kernel's own tick.
const clockTick = 10 * time.Millisecond

// Usage is what the operating system says a process used since its start.
type Usage struct {
	CPU         time.Duration // user and system, all threads, in steps of 10 ms
	ResidentMax int64         // bytes: the high-water mark of resident memory, mapped files included
	Resident    int64         // bytes now
}

// Usage reads /proc; it works on Linux only.
func (p *Process) Usage() (Usage, error) {
	dir := "/proc/" + strconv.Itoa(p.PID)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Usage{}, err
	}
	cpu, err := parseStat(stat)
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return Usage{}, err
	}
	peak, err := parseStatus(status, "VmHWM:")
	if err != nil {
		return Usage{}, err
	}
	now, err := parseStatus(status, "VmRSS:")
	return Usage{CPU: cpu, ResidentMax: peak, Resident: now}, err
}

// OpenFiles is the number of open descriptors.
func (p *Process) OpenFiles() (int, error) {
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID) + "/fd")
	return len(fds), err
}

// parseStat returns utime plus stime: fields 14 and 15, counted after the
// command name, which is in parentheses and may hold spaces.
func parseStat(stat []byte) (time.Duration, error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, fmt.Errorf("stat without a command: %q", stat)
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat with %d fields: %q", len(fields), stat)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("utime: %w", err)
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stime: %w", err)
	}
	return time.Duration(user+system) * clockTick, nil
}

// parseStatus returns a line of the status in bytes, such as VmHWM.
func parseStatus(status []byte, name string) (int64, error) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("status without %s the process is gone", name)
}
