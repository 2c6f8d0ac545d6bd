package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math"
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
				SELECT m.id, m.role, m.content, m.created_at AS "createdAt" FROM messages m WHERE m.user_id = t.user_id AND m.thread_id = t.id ORDER BY m.created_at, m.id LIMIT 20) m)) AS messages,
			json_build_object('nodes', (SELECT json_agg(r) FROM (
				SELECT r.id, r.status, r.agent_type AS "agentType", r.created_at AS "createdAt" FROM runs r WHERE r.user_id = t.user_id AND r.thread_id = t.id ORDER BY r.created_at DESC, r.id DESC LIMIT 5) r)) AS runs
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

// pgbench runs the statement from half as many connections as everybody else's requests come over, which keep two cores busy, as the application role and under row-level
// security: the viewer is set in the same round trip.
type pgbench struct {
	program string
	script  string
	data    *dataset

	running *exec.Cmd
	said    *bufio.Scanner // a line for each second
	seconds int            // that count
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
	return &pgbench{program: program, script: path, data: data}, os.WriteFile(path, []byte(script), 0o600)
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

// begin starts pgbench and lets its connections do what new ones do: they look into catalogues, plan, and meet the buffers. That does not count.
func (p *pgbench) begin(ctx context.Context, lead, round time.Duration) error {
	leading := int(math.Ceil(lead.Seconds()))
	p.seconds = max(1, int(round.Round(time.Second).Seconds()))
	p.running = exec.CommandContext(ctx, p.program, "--no-vacuum", "--protocol=prepared", "--client="+strconv.Itoa(connections/2), "--jobs=1",
		"--time="+strconv.Itoa(leading+p.seconds), "--progress=1", "--file="+p.script, p.data.appURL)
	said, err := p.running.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.running.Start(); err != nil {
		return err
	}
	p.said = bufio.NewScanner(said)
	for range leading {
		if _, err := p.second(); err != nil {
			return err
		}
	}
	return nil
}

// saturate counts what pgbench does until it ends.
func (p *pgbench) saturate(context.Context) (load, error) {
	began, total := time.Now(), 0.0
	for range p.seconds {
		n, err := p.second()
		if err != nil {
			return load{}, err
		}
		total += n
	}
	l := load{requests: int(total), took: time.Since(began)}
	for p.said.Scan() {
	}
	return l, errors.Join(p.said.Err(), p.running.Wait())
}

var progress = regexp.MustCompile(`^progress: [\d.]+ s, ([\d.]+) tps`)

// second waits for a second's end, and is how many transactions it had.
func (p *pgbench) second() (float64, error) {
	var said []string
	for p.said.Scan() {
		if match := progress.FindStringSubmatch(p.said.Text()); match != nil {
			return strconv.ParseFloat(match[1], 64)
		}
		said = append(said, p.said.Text())
	}
	return 0, fmt.Errorf("pgbench ended early: %w: %q", errors.Join(p.said.Err(), p.running.Wait()), said)
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
	server := &http.Server{ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
