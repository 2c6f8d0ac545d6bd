package embedded

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// secretsFile lives inside the data directory, so that the passwords and the roles they belong to appear and vanish
// together.
const secretsFile = "netra.passwords"

// refuge holds the data directories that cannot be where they were asked for; see openPostgresHome.
const refuge = "/var/lib/netra"

// postgresHome is a locked directory with everything of one server:
//
//	lock           held while a process is in charge of the server
//	data/          PostgreSQL's data directory, complete or absent
//	data.new-…/    a data directory in the making
//	postgres.log   what the server wrote
//	.s.PGSQL.…     the server's socket
type postgresHome struct {
	dir     string // absolute, without symbolic links
	account *account
	lock    *os.File
}

// account is the unprivileged user that PostgreSQL, which refuses to run as root, runs as. nil is the current user.
type account struct {
	name     string
	uid, gid uint32
}

func (a *account) String() string {
	if a == nil {
		return "the current user"
	}
	return "user " + a.name
}

// own gives a file that root made to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// attributes makes a command run as the account, out of reach of the terminal's signals.
func (a *account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attributes
}

// openPostgresHome makes the directory where necessary and takes its lock. Where root asks for a directory that the
// unprivileged account cannot reach, as below /root, the directory becomes a symbolic link to one below /var/lib/netra.
func openPostgresHome(dir string, log *slog.Logger) (_ *postgresHome, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, unwritable(dir, err)
	}
	runAs, err := accountFor(dir)
	if err != nil {
		return nil, err
	}
	if err := makeHome(dir, runAs); err != nil {
		return nil, unwritable(dir, err)
	}
	place, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if runAs != nil && !runAs.reaches(place) {
		place = refugeFor(dir)
		log.Info("PostgreSQL cannot reach the directory asked for and lives elsewhere", "user", runAs.name, "asked", dir, "lives", place)
		if err := moveToRefuge(dir, place, runAs); err != nil {
			return nil, err
		}
	}
	home := &postgresHome{dir: place, account: runAs}
	if home.lock, err = lockFile(home.path("lock"), runAs); err != nil {
		return nil, err
	}
	return home, nil
}

// close gives the lock back.
func (h *postgresHome) close() {
	// The file stays, because removing it would let two processes hold locks on two files of that name.
	unlockFile(h.lock)
}

func (h *postgresHome) path(name string) string { return filepath.Join(h.dir, name) }

func (h *postgresHome) data() string { return h.path("data") }

// accountFor returns nil for an ordinary user. For root it is the owner of an existing directory, or else postgres or nobody.
func accountFor(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(dir); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			return &account{name: ownerName(stat.Uid), uid: stat.Uid, gid: stat.Gid}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root and this machine has neither a user postgres nor a user nobody")
}

func ownerName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if found, err := user.LookupId(id); err == nil {
		return found.Username
	}
	return id
}

// makeHome makes dir, or takes an empty one over, for the account. A link to a directory that is gone counts for nothing.
func makeHome(dir string, runAs *account) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		return runAs.own(dir)
	case !errors.Is(err, fs.ErrExist):
		return err
	case runAs == nil:
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return os.Chown(dir, int(runAs.uid), int(runAs.gid))
}

// reaches reports whether the account can enter dir, by trying: permission bits alone do not tell.
func (a *account) reaches(dir string) bool {
	probe := exec.Command("/bin/sh", "-c", "test -w .")
	probe.Dir = dir
	probe.SysProcAttr = a.attributes()
	return probe.Run() == nil
}

func refugeFor(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(refuge, filepath.Base(dir)+"-"+hex.EncodeToString(sum[:6]))
}

// moveToRefuge replaces the empty dir by a link to place. Where place exists its link has been deleted, as `rm -r .netra`
// does: whoever did that wanted the data gone.
func moveToRefuge(dir, place string, runAs *account) error {
	if entries, err := os.ReadDir(dir); err != nil {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("%s cannot be reached by %s; choose a data directory elsewhere", dir, runAs)
	}
	if err := os.MkdirAll(refuge, 0o755); err != nil {
		return err
	}
	abandoned, err := lockFile(filepath.Join(place, "lock"), runAs)
	switch {
	case err == nil:
		defer unlockFile(abandoned)
		if err := os.RemoveAll(place); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeHome(place, runAs); err != nil {
		return err
	}
	if !runAs.reaches(place) {
		return fmt.Errorf("neither %s nor %s can be reached by %s; choose a data directory elsewhere", dir, place, runAs)
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	return os.Symlink(place, dir)
}

// lockFile takes the lock that makes this process the only one in charge of a directory. The kernel releases it when the
// process ends, however it ends; server processes do not inherit it.
func lockFile(path string, runAs *account) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unwritable(filepath.Dir(path), err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%s is in use by another netra (process %s)", filepath.Dir(path), strings.TrimSpace(string(holder)))
	}
	if err := errors.Join(file.Truncate(0), runAs.own(path)); err != nil {
		_ = file.Close()
		return nil, err
	}
	if _, err := fmt.Fprintln(file, os.Getpid()); err != nil {
		_ = file.Close()
		return nil, diskFull(filepath.Dir(path), err)
	}
	return file, nil
}

// unlockFile gives a lock back. Closing the file alone would not while a process that is being started has a copy of it, which is closed when its program begins.
func unlockFile(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	_ = file.Close()
}

// unwritable explains an error from making something in dir.
func unwritable(dir string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return diskFull(dir, err)
	}
	if info, statErr := os.Stat(dir); statErr == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %s; choose another data directory or delete this one", dir, ownerName(stat.Uid))
		}
	}
	return err
}

func diskFull(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("the disk that holds %s is full", dir)
	}
	return err
}

func isAddressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// major is the PostgreSQL version that made the data directory, 0 when there is none yet.
func (h *postgresHome) major() (int, error) {
	if _, err := os.Lstat(h.data()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	text, err := os.ReadFile(filepath.Join(h.data(), "PG_VERSION"))
	if err == nil {
		_, err = os.Stat(filepath.Join(h.data(), "global", "pg_control"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s is not a complete data directory; delete it to start afresh", h.data())
	}
	if err != nil {
		return 0, unwritable(h.data(), err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the version of %s: %w", h.data(), err)
	}
	return major, nil
}

// initialise makes the data directory under another name and renames it when it is complete: a directory called data is
// never a half-made one.
func (h *postgresHome) initialise(ctx context.Context, bin postgresBinaries, cfg PostgresConfig) (err error) {
	leftovers, err := filepath.Glob(h.path("data.new-*"))
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		cfg.Log.Info("removing a half-initialised data directory", "dir", leftover)
		if err := os.RemoveAll(leftover); err != nil {
			// An initdb that outlived its parent may still write there. It does no harm, and the next start tries again.
			cfg.Log.Warn("cannot remove a half-initialised data directory yet", "dir", leftover, "error", err)
		}
	}
	draft, err := os.MkdirTemp(h.dir, "data.new-")
	if err != nil {
		return diskFull(h.dir, err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(draft)
		}
	}()
	if err := h.account.own(draft); err != nil {
		return err
	}
	secrets := newPostgresSecrets()
	passwordFile := draft + ".password"
	defer func() { _ = os.Remove(passwordFile) }()
	if err := h.write(passwordFile, []byte(secrets.Superuser+"\n")); err != nil {
		return err
	}
	locale := chooseLocale(ctx, cfg.Log)
	arguments := []string{"--pgdata=" + draft, "--username=" + superuser, "--pwfile=" + passwordFile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=" + locale, "--lc-messages=C", "--no-instructions"}
	if cfg.Fast {
		arguments = append(arguments, "--no-sync")
	}
	initdb := exec.CommandContext(ctx, bin.initdb(), arguments...)
	initdb.Dir, initdb.Env, initdb.SysProcAttr = h.dir, serverEnvironment(), h.account.attributes()
	initdb.Cancel = func() error { return syscall.Kill(-initdb.Process.Pid, syscall.SIGKILL) }
	if output, err := initdb.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return h.explain(string(output), fmt.Errorf("initdb: %w", err))
	}
	encoded, err := json.Marshal(secrets)
	if err != nil {
		return err
	}
	if err := h.write(filepath.Join(draft, secretsFile), encoded); err != nil {
		return err
	}
	return os.Rename(draft, h.data())
}

// write makes a file that only the account may read.
func (h *postgresHome) write(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return diskFull(h.dir, err)
	}
	return h.account.own(path)
}

// postgresSecrets are the passwords of the roles.
type postgresSecrets struct {
	Superuser string `json:"superuser"`
	Owner     string `json:"owner"`
	App       string `json:"app"`
}

func newPostgresSecrets() postgresSecrets {
	return postgresSecrets{Superuser: rand.Text(), Owner: rand.Text(), App: rand.Text()}
}

func (h *postgresHome) secrets() (postgresSecrets, error) {
	var secrets postgresSecrets
	text, err := os.ReadFile(filepath.Join(h.data(), secretsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return secrets, fmt.Errorf("%s was not made by netra: it has no %s", h.data(), secretsFile)
	}
	if err != nil {
		return secrets, unwritable(h.data(), err)
	}
	if err := json.Unmarshal(text, &secrets); err != nil {
		return secrets, fmt.Errorf("read %s: %w", filepath.Join(h.data(), secretsFile), err)
	}
	return secrets, nil
}

// chooseLocale is the specification's collation where the machine has it, else one that sorts by code point.
func chooseLocale(ctx context.Context, log *slog.Logger) string {
	const wanted = "en_US.UTF-8"
	chosen := "C"
	// A machine without the program, as musl's, has no locales to list.
	listing, _ := exec.CommandContext(ctx, "locale", "-a").Output()
	for _, candidate := range []string{"C.UTF-8", wanted} {
		for name := range strings.Lines(string(listing)) {
			if sameLocale(strings.TrimSpace(name), candidate) {
				chosen = candidate
			}
		}
	}
	if chosen != wanted {
		log.Info("this machine lacks the locale wanted: PostgreSQL sorts by code point", "wanted", wanted, "locale", chosen)
	}
	return chosen
}

// sameLocale compares names of locales: en_US.utf8 is en_US.UTF-8.
func sameLocale(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "-", ""), strings.ReplaceAll(b, "-", ""))
}

// serverEnvironment is this process's without the variables that PostgreSQL's programs would obey.
func serverEnvironment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") && !strings.HasPrefix(variable, "LANG") {
			kept = append(kept, variable)
		}
	}
	return kept
}
