package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contender is a server that answers workloads, running as a process of its own.
type contender struct {
	name    string
	dialect dialect
	only    []string // names of the workloads that it takes part in; all when empty
	data    *dataset
	counts  bool // whether /metrics tells of allocations

	address string
	pid     int
	stop    func() error
}

func (c *contender) takesPartIn(w workload) bool {
	return len(c.only) == 0 || slices.Contains(c.only, w.name)
}

// startTimeout is how long a server may take until it says where it listens.
const startTimeout = 30 * time.Second

// stopTimeout is how long it may take to end.
const stopTimeout = 15 * time.Second

// start runs a command that prints where it listens as http://host:port. What else it says goes to the file log.
func (c *contender) start(ctx context.Context, log string, environment []string, program string, arguments ...string) error {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = append(os.Environ(), environment...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = stopTimeout
	file, err := os.Create(log)
	if err != nil {
		return err
	}
	defer file.Close()
	command.Stderr = file
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.pid = command.Process.Pid
	c.stop = func() error {
		_ = command.Process.Signal(syscall.SIGTERM) // it may have ended
		defer time.AfterFunc(stopTimeout, func() { _ = command.Process.Kill() }).Stop()
		var exited *exec.ExitError
		if err := command.Wait(); err != nil && !errors.As(err, &exited) {
			return fmt.Errorf("stop %s: %w", c.name, err)
		}
		return nil
	}
	listening := make(chan string, 1)
	go func() {
		defer close(listening)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, address, found := strings.Cut(lines.Text(), "http://"); found && len(listening) == 0 {
				listening <- address
			}
		}
	}()
	select {
	case address, ok := <-listening:
		if !ok {
			told, _ := os.ReadFile(log)
			return errors.Join(fmt.Errorf("%s did not start: %.2000s", c.name, told), c.stop())
		}
		c.address = address
		return nil
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("%s did not start within %s", c.name, startTimeout), c.stop())
	}
}

// ask is one request on a connection of its own.
func (c *contender) ask(request []byte) ([]byte, error) {
	client, err := dial(c.address, 0)
	if err != nil {
		return nil, err
	}
	defer client.conn.Close()
	answer, err := client.ask(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return append([]byte(nil), answer...), nil
}

// allocations are what the Go process has allocated since it began.
type allocations struct{ objects, bytes float64 }

func (c *contender) allocations(ctx context.Context) (a allocations, err error) {
	if !c.counts {
		return a, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+"/metrics", nil)
	if err != nil {
		return a, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return a, err
	}
	for name, into := range map[string]*float64{"go_memstats_mallocs_total": &a.objects, "go_memstats_alloc_bytes_total": &a.bytes} {
		_, rest, found := strings.Cut(string(text), "\n"+name+" ")
		value, _, _ := strings.Cut(rest, "\n")
		if *into, err = strconv.ParseFloat(value, 64); !found || err != nil {
			return a, fmt.Errorf("/metrics has no %s", name)
		}
	}
	return a, nil
}
