// Package proc reads what Linux says of processes: benchmarks know from it what a server costs that is not their own process.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc's times, the same on every Linux that Go runs on.
const ticksPerSecond = 100

// stat is what /proc says of one process.
type stat struct {
	pid, parent int
	cpu         time.Duration // of its own threads and of children that have ended
}

// tree lists the process and all that descend from it. It fails with os.ErrProcessDone when there is no such process.
func tree(root int) ([]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	byParent := map[int][]stat{}
	var found []stat
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if s.pid == root {
			found = append(found, s)
		} else {
			byParent[s.parent] = append(byParent[s.parent], s)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("process %d: %w", root, os.ErrProcessDone)
	}
	for i := 0; i < len(found); i++ {
		found = append(found, byParent[found[i].pid]...)
	}
	return found, nil
}

func parse(raw []byte) (stat, error) {
	open, closed := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')') // the name between them may hold anything
	if open < 0 || closed < open {
		return stat{}, fmt.Errorf("no name in %q", raw)
	}
	fields := strings.Fields(string(raw[closed+1:]))
	numbers := make([]int, 15)
	for i := 1; i < len(numbers); i++ {
		var err error
		if numbers[i], err = strconv.Atoi(fields[i]); err != nil {
			return stat{}, err
		}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:open])))
	ticks := numbers[11] + numbers[12] + numbers[13] + numbers[14]
	return stat{pid: pid, parent: numbers[1], cpu: time.Duration(ticks) * time.Second / ticksPerSecond}, err
}

// CPU is the processor time that the process and its descendants have used.
func CPU(root int) (time.Duration, error) {
	all, err := tree(root)
	var sum time.Duration
	for _, s := range all {
		sum += s.cpu
	}
	return sum, err
}

// Tree is the process and all that descend from it.
func Tree(root int) ([]int, error) {
	all, err := tree(root)
	pids := make([]int, len(all))
	for i, s := range all {
		pids[i] = s.pid
	}
	return pids, err
}

// Status adds up a line of /proc/PID/status over the process and its descendants: memory is in kB.
func Status(root int, line string) (int, error) {
	all, err := tree(root)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, s := range all {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(raw), "\n"+line+":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			n, err := strconv.Atoi(fields[0])
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// Parent is the process that started pid.
func Parent(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	s, err := parse(raw)
	return s.parent, err
}

// Stolen is the processor time that the host took from this virtual machine since it started, of all cores.
func Stolen() (time.Duration, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw)) // cpu user nice system idle iowait irq softirq steal
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat begins with %.100q", raw)
	}
	ticks, err := strconv.Atoi(fields[8])
	return time.Duration(ticks) * time.Second / ticksPerSecond, err
}
