// Package migrations holds the schema of both databases as SQL files, embedded in the binary, and applies them.
// Files are in goose's format; a file is one version, named by the UTC time of its creation, and is never edited once released.
package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed postgres/*.sql clickhouse/*.sql
var files embed.FS

// Database is one of the two databases, by the name of its directory here.
type Database string

const (
	Postgres   Database = "postgres"
	ClickHouse Database = "clickhouse"
)

// Migration is one version of one database.
type Migration struct {
	Database  Database
	Version   int64     // the time of creation as yyyymmddhhmmss
	Name      string    // empty when a newer program has applied it and this one does not know it
	AppliedAt time.Time // zero while pending
}

// Pending says that the database does not have the migration yet.
func (m Migration) Pending() bool { return m.AppliedAt.IsZero() }

func (m Migration) String() string {
	return fmt.Sprintf("%s %d_%s", m.Database, m.Version, m.Name)
}

// Option changes how migrations are applied.
type Option func(*settings)

type settings struct{ cluster string }

func settle(options []Option) (s settings) {
	for _, option := range options {
		option(&s)
	}
	return s
}

// OnCluster makes ClickHouse's tables replicated and distributed over the cluster of that name; empty for a single server. goose's table of
// versions stays on the server that the URL names: always migrate through the same one.
func OnCluster(cluster string) Option {
	return func(s *settings) { s.cluster = cluster }
}

// ErrNothingToUndo is returned by Down when no migration is applied.
var ErrNothingToUndo = errors.New("no migration is applied")

// lockID is the advisory lock that migrating holds in the PostgreSQL database; any fixed number that nothing else takes.
const lockID = 0x6e65747261 // "netra"

// Up applies what is pending, first to PostgreSQL, then to ClickHouse, whose database must exist (see OpenClickHouse). Several
// processes may do so at once: one works, the others wait up to ten minutes and then find nothing left to do.
//
// owner is connected as the role that is to own the tables, and needs two connections. A PostgreSQL migration that fails leaves
// nothing behind, a ClickHouse migration may stop half-way; run again, both continue where they stopped.
func Up(ctx context.Context, owner, clickhouse *sql.DB, log *slog.Logger, options ...Option) error {
	return locked(ctx, owner, func() error {
		for database, db := range both(owner, clickhouse) {
			provider, err := newProvider(database, db, options...)
			if err != nil {
				return err
			}
			results, err := provider.Up(ctx)
			if partial := new(goose.PartialError); errors.As(err, &partial) {
				results = partial.Applied
				err = fmt.Errorf("%s: %w", path.Base(partial.Failed.Source.Path), partial.Err)
			}
			for _, result := range results {
				log.InfoContext(ctx, "migrated", "database", database, "file", path.Base(result.Source.Path), "took", result.Duration)
			}
			if err != nil {
				return fmt.Errorf("migrate %s: %w", database, err)
			}
		}
		return nil
	})
}

// Down undoes one migration and says which: the newest that is applied, by version, in the given database, or of both when database is
// empty. It returns ErrNothingToUndo when there is none, and refuses when a newer program has applied that one. Data in what it drops is lost.
func Down(ctx context.Context, owner, clickhouse *sql.DB, database Database, log *slog.Logger, options ...Option) (Migration, error) {
	var newest Migration
	err := locked(ctx, owner, func() error {
		all, err := Status(ctx, owner, clickhouse)
		if err != nil {
			return err
		}
		for _, m := range all {
			if !m.Pending() && m.Version >= newest.Version && (database == "" || database == m.Database) {
				newest = m
			}
		}
		if newest.Pending() {
			return ErrNothingToUndo
		}
		if newest.Name == "" {
			return fmt.Errorf("undo %s %d: this program is older than the schema and does not have that migration", newest.Database, newest.Version)
		}
		db := owner
		if newest.Database == ClickHouse {
			db = clickhouse
		}
		provider, err := newProvider(newest.Database, db, options...)
		if err != nil {
			return err
		}
		result, err := provider.ApplyVersion(ctx, newest.Version, false)
		if err != nil {
			return fmt.Errorf("undo %s: %w", newest, err)
		}
		log.InfoContext(ctx, "undone", "database", newest.Database, "file", path.Base(result.Source.Path), "took", result.Duration)
		return nil
	})
	return newest, err
}

// Status lists the migrations of both databases in the order of Up, with those that only the database knows. It changes nothing; a database that has never been migrated, or a
// ClickHouse database that does not exist, has everything pending.
func Status(ctx context.Context, owner, clickhouse *sql.DB) ([]Migration, error) {
	var all []Migration
	for database, db := range both(owner, clickhouse) {
		applied, err := appliedVersions(ctx, database, db)
		if err != nil {
			return nil, fmt.Errorf("status of %s: %w", database, err)
		}
		provider, err := newProvider(database, db)
		if err != nil {
			return nil, err
		}
		for _, source := range provider.ListSources() {
			_, name, _ := strings.Cut(strings.TrimSuffix(path.Base(source.Path), ".sql"), "_")
			all = append(all, Migration{
				Database:  database,
				Version:   source.Version,
				Name:      name,
				AppliedAt: applied[source.Version],
			})
			delete(applied, source.Version)
		}
		delete(applied, 0) // goose's mark that the table of versions exists
		for _, version := range slices.Sorted(maps.Keys(applied)) {
			all = append(all, Migration{Database: database, Version: version, AppliedAt: applied[version]})
		}
	}
	return all, nil
}

// Fingerprint changes when any migration does. It is short and fits into an identifier.
func Fingerprint() string {
	hash := sha256.New()
	// Walking an embedded file system in its fixed order cannot fail.
	_ = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			content, _ := files.ReadFile(name)
			fmt.Fprintf(hash, "%s %d\n%s", name, len(content), content)
		}
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)[:6])
}

// OpenClickHouse opens the database that rawURL names and creates it when it does not exist. The URL is http://, https:// or clickhouse://.
func OpenClickHouse(ctx context.Context, rawURL string, options ...Option) (*sql.DB, error) {
	s := settle(options)
	dsn, err := clickhouse.ParseDSN(rawURL)
	if err != nil {
		return nil, fmt.Errorf("parse the ClickHouse URL: %w", err)
	}
	if dsn.Auth.Database == "" {
		return nil, errors.New("parse the ClickHouse URL: it names no database")
	}
	name, on := dsn.Auth.Database, ""
	if s.cluster != "" {
		on = " ON CLUSTER " + quoteIdentifier(s.cluster)
	}

	// Every query names its connection's database, even the one that is to create it.
	withoutDatabase := *dsn
	withoutDatabase.Auth.Database = "default"
	db := clickhouse.OpenDB(&withoutDatabase)
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteIdentifier(name)+on+" ENGINE = Atomic"); err != nil {
		return nil, fmt.Errorf("create ClickHouse database %s: %w", name, err)
	}
	return clickhouse.OpenDB(dsn), nil
}

// quoteIdentifier quotes a name for ClickHouse.
func quoteIdentifier(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// both gives the two databases in the order in which they are migrated.
func both(owner, clickhouse *sql.DB) iter.Seq2[Database, *sql.DB] {
	return func(yield func(Database, *sql.DB) bool) {
		_ = yield(Postgres, owner) && yield(ClickHouse, clickhouse)
	}
}

func newProvider(database Database, db *sql.DB, options ...Option) (*goose.Provider, error) {
	s := settle(options)
	directory, err := fs.Sub(files, string(database))
	if err == nil && database == ClickHouse && s.cluster != "" {
		directory, err = clustered(directory, s.cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", database, err)
	}
	// goose knows the databases by the names of our directories.
	provider, err := goose.NewProvider(goose.Dialect(database), db, directory,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", database, err)
	}
	return provider, nil
}

// locked runs work while this process alone may migrate. ClickHouse has no locks, so PostgreSQL's serves for both, on a connection of
// its own: it is a session's lock and ends with the connection, however the process ends.
//
// goose's locker tries once a second instead of waiting inside the server: a session that waits there holds a snapshot, and CREATE INDEX
// CONCURRENTLY in a migration would wait for it for ever.
func locked(ctx context.Context, owner *sql.DB, work func() error) (err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID), lock.WithLockTimeout(1, 600))
	if err != nil {
		return fmt.Errorf("lock the migrations: %w", err)
	}
	conn, err := owner.Conn(ctx)
	if err != nil {
		return fmt.Errorf("lock the migrations: %w", err)
	}
	defer conn.Close()
	if err := locker.SessionLock(ctx, conn); err != nil {
		return fmt.Errorf("lock the migrations: %w", err)
	}
	defer func() {
		if unlockErr := locker.SessionUnlock(context.WithoutCancel(ctx), conn); unlockErr != nil && err == nil {
			err = fmt.Errorf("unlock the migrations: %w", unlockErr)
		}
	}()
	return work()
}

// unknownDatabase is ClickHouse's error code for a database that does not exist.
const unknownDatabase = 81

// appliedVersions reads goose's table of versions. goose itself would create it.
func appliedVersions(ctx context.Context, database Database, db *sql.DB) (map[int64]time.Time, error) {
	exists := "SELECT to_regclass($1) IS NOT NULL"
	versions := "SELECT version_id, tstamp AT TIME ZONE current_setting('TimeZone') FROM " + goose.DefaultTablename
	if database == ClickHouse {
		exists = "SELECT count() > 0 FROM system.tables WHERE database = currentDatabase() AND name = $1"
		versions = "SELECT version_id, tstamp FROM " + goose.DefaultTablename
	}

	var migrated bool
	err := db.QueryRowContext(ctx, exists, goose.DefaultTablename).Scan(&migrated)
	if exception := new(clickhouse.Exception); errors.As(err, &exception) && exception.Code == unknownDatabase {
		return nil, nil
	}
	if err != nil || !migrated {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, versions)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	applied := make(map[int64]time.Time)
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		applied[version] = at
	}
	return applied, rows.Err()
}
