package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// referenceJSON is the answer of the reference query made by PostgreSQL alone, with plain ids and times as PostgreSQL writes them. Its
// subqueries use the same indexes as everybody's.
const referenceJSON = `SELECT json_build_object('data', json_build_object('viewer', (SELECT row_to_json(v) FROM (
	SELECT u.id, u.name, json_build_object('nodes', (SELECT json_agg(t) FROM (
		SELECT t.id, t.title, t.status, t.created_at AS "createdAt",
			json_build_object('nodes', (SELECT json_agg(m) FROM (
				SELECT m.id, m.role, m.content, m.created_at AS "createdAt" FROM messages m WHERE m.thread_id = t.id ORDER BY m.created_at, m.id LIMIT 20) m)) AS messages,
			json_build_object('nodes', (SELECT json_agg(r) FROM (
				SELECT r.id, r.status, r.agent_type AS "agentType", r.created_at AS "createdAt" FROM runs r WHERE r.thread_id = t.id ORDER BY r.created_at DESC, r.id DESC LIMIT 5) r)) AS runs
		FROM threads t WHERE t.user_id = u.id AND t.status IN ('active', 'archived') ORDER BY t.created_at DESC, t.id DESC LIMIT 20) t)) AS threads
	FROM users u WHERE u.id = $1::int) v)))`

const setViewer = `SELECT set_config('netra.user_id', %s, true), set_config('netra.superuser', 'off', true)`

// askPostgres is what pgbench's clients get.
func askPostgres(ctx context.Context, data *dataset, user int) ([]byte, error) {
	db, err := sql.Open("pgx", data.appURL)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(setViewer, "$1"), strconv.Itoa(user)); err != nil {
		return nil, err
	}
	var answer []byte
	err = tx.QueryRowContext(ctx, referenceJSON, user).Scan(&answer)
	return answer, err
}

// pgbench runs the statement from as many connections as everybody else's requests come over, as the application role and under row-level
// security: the viewer is set in the same round trip.
type pgbench struct {
	program string
	script  string
	data    *dataset
}

func newPgbench(ctx context.Context, data *dataset, dir string) (*pgbench, error) {
	program, err := findPgbench()
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", version, err)
	}
	script := fmt.Sprintf("\\set viewer random(%d, %d)\n\\startpipeline\n"+setViewer+";\n%s;\n\\endpipeline\n", firstUser, firstUser+data.users-1,
		"CAST(:viewer AS text)", regexp.MustCompile(`\s+`).ReplaceAllString(regexp.MustCompile(`\$1::int`).ReplaceAllString(referenceJSON, "CAST(:viewer AS int)"), " "))
	path := filepath.Join(dir, "reference.pgbench")
	return &pgbench{program, path, data}, os.WriteFile(path, []byte(script), 0o600)
}

func findPgbench() (string, error) {
	if program, err := exec.LookPath("pgbench"); err == nil {
		return program, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("pgbench is not installed: it comes with PostgreSQL (%w)", exec.ErrNotFound)
	}
	return found[len(found)-1], nil
}

var transactions = regexp.MustCompile(`number of transactions actually processed: (\d+)`)

func (p *pgbench) saturate(ctx context.Context, duration time.Duration) (load, error) {
	seconds := max(1, int(duration.Round(time.Second).Seconds()))
	command := exec.CommandContext(ctx, p.program, "--no-vacuum", "--protocol=prepared", "--client="+strconv.Itoa(connections), "--jobs=1",
		"--time="+strconv.Itoa(seconds), "--file="+p.script, p.data.appURL)
	began := time.Now()
	said, err := command.CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("pgbench: %w: %s", err, said)
	}
	match := transactions.FindSubmatch(said)
	if match == nil {
		return load{}, fmt.Errorf("pgbench said no number of transactions: %s", said)
	}
	n, err := strconv.Atoi(string(match[1]))
	return load{requests: n, took: time.Since(began)}, err
}

// serveFile is the other limit: Go's net/http answering every request with the same bytes from memory. It is a process of its own.
func serveFile(ctx context.Context, path string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	server := &http.Server{ReadHeaderTimeout: requestTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that leaves is no concern
	})}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
