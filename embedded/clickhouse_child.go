package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	clickHouseUser     = "default" // the library's only user
	clickHouseDatabase = "netra_analytics"

	// passwordFile, in the data directory, holds the password of clickHouseUser.
	passwordFile = "password"

	// lockPatience is how long a child waits for the data directory: the child of a netra that was killed needs a moment
	// to end.
	lockPatience = 5 * time.Second
	// drainPatience is how long queries may go on after the engine was told to stop.
	drainPatience = 5 * time.Second

	// A child says one of these on standard output once it is clear how its start went.
	saysReady  = "ready "
	saysFailed = "failed "
)

// ClickHouseChild is the body of the child process: it loads the library on cfg.Dir and serves ClickHouse's HTTP
// interface on 127.0.0.1 until ctx ends, or until its standard input does, which is how it learns that its parent has
// gone. StartClickHouse has made cfg.Dir and the password in it. The process must hold nothing else: the engine has
// threads of its own and may take the process down with it.
func ClickHouseChild(ctx context.Context, cfg ClickHouseConfig) error {
	err := serveClickHouse(ctx, cfg)
	if err != nil {
		fmt.Println(saysFailed + strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return err
}

func serveClickHouse(ctx context.Context, cfg ClickHouseConfig) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	password, err := os.ReadFile(filepath.Join(cfg.Dir, passwordFile))
	if err != nil {
		return unwritable(cfg.Dir, err)
	}
	lock, err := lockDirectory(ctx, cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort(loopback, strconv.Itoa(cfg.Port)))
	if err != nil {
		if isAddressInUse(err) {
			return portInUse(cfg.Port)
		}
		return fmt.Errorf("listen on port %d: %w", cfg.Port, err)
	}
	defer func() { _ = listener.Close() }()

	engine, err := loadChDB(cfg.Library)
	if err != nil {
		return err
	}
	configFile := filepath.Join(cfg.Dir, "config.xml")
	if err := os.WriteFile(configFile, []byte(engineConfig), 0o600); err != nil {
		return unwritable(cfg.Dir, err)
	}
	arguments := append([]string{"--path=" + filepath.Join(cfg.Dir, "data"), "--config-file=" + configFile}, sessionSettings()...)
	// The engine runs for as long as any session is open.
	keeper, err := engine.connect(arguments)
	if err != nil {
		return err
	}
	defer keeper.close()
	if err := keeper.exec("CREATE DATABASE IF NOT EXISTS " + clickHouseDatabase + " ENGINE = Atomic"); err != nil {
		return fmt.Errorf("create database %s: %w", clickHouseDatabase, err)
	}

	server := &http.Server{
		Handler:           newClickHouseServer(engine, arguments, clickHouseUser, strings.TrimSpace(string(password)), cfg.Log),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	fmt.Printf("%s%d\n", saysReady, listener.Addr().(*net.TCPAddr).Port)
	select {
	case err := <-ended:
		return fmt.Errorf("serve ClickHouse's HTTP interface: %w", err)
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
	defer cancel()
	if err := server.Shutdown(draining); err != nil {
		// Queries that still run hold their sessions: closing the engine under them is not safe, ending the process is.
		cfg.Log.Warn("ClickHouse queries were cut off by the stop", "error", err)
		os.Exit(0)
	}
	return nil
}

// lockDirectory makes this process the only one with an engine on dir. The lock ends with the process.
func lockDirectory(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			holder, _ := io.ReadAll(file)
			return nil, errors.Join(fmt.Errorf("%s is in use by another netra (process %s)", dir, strings.TrimSpace(string(holder))), file.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(unwritable(dir, err), file.Close())
	}
	if _, err := fmt.Fprintln(file, os.Getpid()); err != nil {
		return nil, errors.Join(diskFull(dir, err), file.Close())
	}
	return file, nil
}
