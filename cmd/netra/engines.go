package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/netra-ai/netra/embedded"
)

const (
	// enginesStopTimeout is how long the engines are given to close their files before they are ended at once.
	enginesStopTimeout = 40 * time.Second
	// commandStopTimeout is how long a command that was told to end may take.
	commandStopTimeout = 15 * time.Second
)

func newEnginesCommand(cfg *config) *cobra.Command {
	engines := embedded.Config{PostgresBinaries: cfg.PostgresBinaries, ClickHouseLibrary: cfg.ClickHouseLibrary}
	command := &cobra.Command{
		Use:   "engines [-- command [argument ...]]",
		Short: "Run the embedded PostgreSQL and ClickHouse, alone or while a command runs",
		Long: `Starts the embedded engines, prints how to reach them as NETRA_…= lines on standard output and runs until it is
stopped. With a command it prints nothing: the command finds these variables in its environment, and when it ends
the engines are stopped and its exit status is passed on.`,
		Example: `  netra engines --data-dir .netra/test -- go test ./...
  netra engines -- sh -c 'psql "$NETRA_OWNER_DATABASE_URL"'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("unknown argument %q: a command to run is written after --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			engines.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			engines.Progress = func(line string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), "netra:", line) }
			ctx := cmd.Context()
			running, err := embedded.Start(ctx, engines)
			if err != nil {
				return err
			}
			defer func() {
				stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), enginesStopTimeout)
				defer cancel()
				if stopErr := running.Stop(stopping); err == nil {
					err = stopErr
				}
			}()
			if len(args) > 0 {
				return runBeside(ctx, running, args)
			}
			for _, variable := range running.Environment() {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), variable); err != nil {
					return fmt.Errorf("print how to reach the engines: %w", err)
				}
			}
			select {
			case <-ctx.Done():
				return nil
			case <-running.Done():
				return running.Err()
			}
		},
	}
	flags := command.Flags()
	flags.StringVar(&engines.Dir, "data-dir", cfg.DataDir, "where the engines keep their data")
	flags.IntVar(&engines.PostgresPort, "postgres-port", 0, "PostgreSQL's port on 127.0.0.1, 0 for any")
	flags.IntVar(&engines.ClickHousePort, "clickhouse-port", 0, "ClickHouse's port on 127.0.0.1, 0 for any")
	flags.StringVar(&engines.PostgresBuffers, "postgres-buffers", "", "PostgreSQL's shared_buffers, 1GB unless set")
	flags.BoolVar(&engines.Fast, "fast", false, "for tests: a crash of the machine may cost the data")
	return command
}

// runBeside runs a command with the engines in its environment. An engine that ends for good ends the command too.
func runBeside(ctx context.Context, engines *embedded.Engines, args []string) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-engines.Done():
			cancel()
		case <-running.Done():
		}
	}()
	command := exec.CommandContext(running, args[0], args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), engines.Environment()...)
	command.WaitDelay = commandStopTimeout
	// A terminal sends its signals to the command and all its children, and lets only them read from it. Without one the
	// command gets a process group of its own, so that whatever it started ends with it.
	grouped := !onTerminal()
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: grouped}
	signal := func(signal syscall.Signal) error {
		if grouped {
			return syscall.Kill(-command.Process.Pid, signal)
		}
		return command.Process.Signal(signal)
	}
	command.Cancel = func() error { return signal(syscall.SIGTERM) }
	err := command.Run()
	if grouped && command.Process != nil {
		// No such group is the usual answer: nothing was left behind.
		_ = signal(syscall.SIGKILL)
	}
	var exited *exec.ExitError
	switch {
	case engines.Err() != nil:
		return engines.Err()
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exited):
		return exitStatus(shellStatus(exited.ProcessState))
	case err != nil:
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	return nil
}

// shellStatus counts a death by signal as shells do.
func shellStatus(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

func onTerminal() bool {
	_, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// exitStatus ends netra with the status of a command that it ran, which has said itself what went wrong.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }
