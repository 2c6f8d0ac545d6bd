package ingest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A spool is a directory in the way of a maildir: a file is written under tmp, made durable, and renamed into queue, after which it is never changed.
//
//	lock      held by the process that the spool belongs to
//	tmp       what is being written; a crash leaves what nobody was told of
//	queue     batches for ClickHouse, oldest first, and groups: lists of batches that are sent as one insert
//	rejected  what ClickHouse will never take
//
// A batch's name is <time>-<identity>-<rows>-<blocks>.<table>; the identity is what ClickHouse knows its inserts by. The file is a header and blocks,
// each a length and a zstd frame with a checksum.
//
// A group is removed after its batches, so one that lacks a batch is known to have been inserted.
type spool struct {
	dir    string
	limit  int64
	lock   *os.File
	log    *slog.Logger
	zip    *zstd.Encoder
	unzip  *zstd.Decoder
	papers sync.Pool    // of *paper
	used   atomic.Int64 // bytes in tmp and queue, by weight
	files  atomic.Int64
	failed atomic.Int64 // bytes in rejected
}

const (
	tmpDir      = "tmp"
	queueDir    = "queue"
	rejectedDir = "rejected"

	header      = "netra spool 1\n"
	groupSuffix = ".group"

	// minWeight is what a small file takes on most disks, and bounds their number.
	minWeight = 4096
	// maxBlock bounds a block in memory: ours are far below.
	maxBlock = 256 << 20
)

var (
	errFull = errors.New("the spool is full")

	tables = map[string]*table{".events": eventTable, ".activity": activityTable}
)

func suffixOf(t *table) string {
	for suffix, of := range tables {
		if of == t {
			return suffix
		}
	}
	panic("unknown table " + t.name)
}

func openSpool(dir string, limit int64, log *slog.Logger) (s *spool, err error) {
	s = &spool{dir: dir, limit: limit, log: log}
	for _, name := range []string{tmpDir, queueDir, rejectedDir} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, fmt.Errorf("make the spool: %w", err)
		}
	}
	if s.lock, err = lockSpool(dir); err != nil {
		return nil, err
	}
	s.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the spool's encoder: %w", err), unlockSpool(s.lock))
	}
	s.unzip, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the spool's decoder: %w", err), unlockSpool(s.lock))
	}
	return s, nil
}

// lockSpool makes this process the only one that writes to the spool. The lock ends with the process.
func lockSpool(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the spool's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			holder, _ := io.ReadAll(io.LimitReader(file, 20)) // only for the message
			err = fmt.Errorf("the spool %s is in use by another netra (process %s): give each its own directory", dir, bytes.TrimSpace(holder))
		} else {
			err = fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, errors.Join(err, file.Close())
	}
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), file.Close())
	}
	if _, err := fmt.Fprintln(file, os.Getpid()); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), file.Close())
	}
	return file, nil
}

// unlockSpool gives the lock back. Closing the file alone would not while a process that is being started has a copy of it.
func unlockSpool(lock *os.File) error {
	return errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_UN), lock.Close())
}

func (s *spool) close() error {
	s.unzip.Close()
	return errors.Join(s.zip.Close(), unlockSpool(s.lock))
}

// batch is a file of the queue.
type batch struct {
	name     string
	identity string
	table    *table
	rows     int
	blocks   int
	alone    bool // it is never part of a group
	weight   int64
	since    time.Time
	held     []*block // its blocks, where they are still in memory
}

// newIdentity is never that of another batch, of whatever process.
func newIdentity() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// What an identity begins with when its batch is never part of a group: its sender gave it a key, or it has been sent alone.
const (
	keyMark   = "k"
	aloneMark = "s"
)

func isAlone(identity string) bool {
	return strings.HasPrefix(identity, keyMark) || strings.HasPrefix(identity, aloneMark)
}

func (b *batch) setName() {
	b.name = fmt.Sprintf("%016x-%s-%d-%d%s", b.since.UnixNano(), b.identity, b.rows, b.blocks, suffixOf(b.table))
}

func parseName(name string) (*batch, bool) {
	suffix := filepath.Ext(name)
	parts := strings.Split(strings.TrimSuffix(name, suffix), "-")
	t := tables[suffix]
	if t == nil || len(parts) != 4 {
		return nil, false
	}
	at, err1 := strconv.ParseInt(parts[0], 16, 64)
	rows, err2 := strconv.Atoi(parts[2])
	blocks, err3 := strconv.Atoi(parts[3])
	if errors.Join(err1, err2, err3) != nil || parts[1] == "" || rows < 1 || blocks < 1 {
		return nil, false
	}
	return &batch{
		name: name, identity: parts[1], table: t, rows: rows, blocks: blocks, alone: blocks > 1 || isAlone(parts[1]), since: time.Unix(0, at),
	}, true
}

func weightOf(size int64) int64 { return max(size, minWeight) }

// draft is a batch that is being written. Either commit or discard ends it.
type draft struct {
	spool *spool
	file  *os.File
	batch *batch
	size  int64
}

// paper is what a block is written on before it is in its file.
type paper struct{ raw, packed []byte }

// begin fails with errFull.
func (s *spool) begin(t *table, identity string, now time.Time) (*draft, error) {
	if s.used.Load() >= s.limit {
		return nil, errFull
	}
	file, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "batch-")
	if err != nil {
		return nil, full(fmt.Errorf("begin a batch: %w", err))
	}
	d := &draft{spool: s, file: file, batch: &batch{table: t, identity: identity, alone: isAlone(identity), since: now}}
	return d, d.write([]byte(header))
}

// full tells a disk that has no room, which is like a spool that has none.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", errFull, err)
	}
	return err
}

func (d *draft) write(data []byte) error {
	n, err := d.file.Write(data)
	d.size += int64(n)
	d.spool.used.Add(int64(n))
	if err != nil {
		return full(fmt.Errorf("write a batch: %w", err))
	}
	return nil
}

// add writes a block. It fails with errFull.
func (d *draft) add(b *block) error {
	p, _ := d.spool.papers.Get().(*paper)
	if p == nil {
		p = &paper{}
	}
	defer d.spool.papers.Put(p)
	p.raw = b.marshal(p.raw[:0])
	p.packed = d.spool.zip.EncodeAll(p.raw, append(p.packed[:0], 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(p.packed, uint32(len(p.packed)-4))
	if d.spool.used.Load()+int64(len(p.packed)) > d.spool.limit {
		return errFull
	}
	d.batch.rows += b.rows
	d.batch.blocks++
	return d.write(p.packed)
}

// commit makes the batch durable and part of the queue. After an error it may or may not be there after a crash of the machine.
func (d *draft) commit() (*batch, error) {
	b, s := d.batch, d.spool
	if err := d.file.Sync(); err != nil {
		d.discard()
		return nil, full(fmt.Errorf("make a batch durable: %w", err))
	}
	if err := d.file.Close(); err != nil {
		d.discard()
		return nil, full(fmt.Errorf("close a batch: %w", err))
	}
	b.alone = b.alone || b.blocks > 1
	b.setName()
	if err := os.Rename(d.file.Name(), s.queued(b.name)); err != nil {
		d.discard()
		return nil, full(fmt.Errorf("queue a batch: %w", err))
	}
	b.weight = weightOf(d.size)
	s.used.Add(b.weight - d.size)
	s.files.Add(1)
	if err := s.sync(queueDir); err != nil {
		// Nobody will be told that it is durable, so it must not be counted either.
		return nil, full(errors.Join(err, s.remove(b)))
	}
	return b, nil
}

func (d *draft) discard() {
	d.spool.used.Add(-d.size)
	_ = d.file.Close() // it may be closed
	if err := os.Remove(d.file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.spool.log.Warn("remove an unfinished batch", "error", err)
	}
}

func (s *spool) queued(name string) string { return filepath.Join(s.dir, queueDir, name) }

// sync makes a directory's names durable.
func (s *spool) sync(name string) error {
	dir, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return fmt.Errorf("open the spool's %s: %w", name, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("make the spool's %s durable: %w", name, err)
	}
	return nil
}

// remove takes a batch that has been inserted out of the queue.
func (s *spool) remove(b *batch) error {
	if err := os.Remove(s.queued(b.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a batch: %w", err)
	}
	s.forget(b)
	return nil
}

func (s *spool) forget(b *batch) {
	s.used.Add(-b.weight)
	s.files.Add(-1)
}

// reject takes a batch out of the way. It stays on disk until somebody looks at it.
func (s *spool) reject(b *batch) error {
	if err := os.Rename(s.queued(b.name), filepath.Join(s.dir, rejectedDir, b.name)); err != nil {
		return fmt.Errorf("reject a batch: %w", err)
	}
	s.forget(b)
	s.failed.Add(b.weight)
	return errors.Join(s.sync(rejectedDir), s.sync(queueDir))
}

// load gives the blocks of a batch, from memory where they are. It fails with errCorrupt for a file that is not what was written.
func (s *spool) load(b *batch) ([]*block, error) {
	if b.held != nil {
		return b.held, nil
	}
	file, err := os.Open(s.queued(b.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is gone", errCorrupt, b.name)
	}
	if err != nil {
		return nil, fmt.Errorf("read a batch: %w", err)
	}
	defer file.Close() // it was only read
	blocks, err := s.read(bufio.NewReaderSize(file, 64<<10), b.table)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, b.name)
	}
	rows := 0
	for _, one := range blocks {
		rows += one.rows
	}
	if rows != b.rows || len(blocks) != b.blocks {
		return nil, fmt.Errorf("%w: %s has %d rows in %d blocks", errCorrupt, b.name, rows, len(blocks))
	}
	return blocks, nil
}

func (s *spool) read(from io.Reader, t *table) ([]*block, error) {
	start := make([]byte, len(header))
	if _, err := io.ReadFull(from, start); err != nil || string(start) != header {
		return nil, errCorrupt
	}
	var blocks []*block
	for {
		var length [4]byte
		if _, err := io.ReadFull(from, length[:]); errors.Is(err, io.EOF) {
			return blocks, nil
		} else if err != nil {
			return nil, errCorrupt
		}
		n := binary.LittleEndian.Uint32(length[:])
		if n > maxBlock {
			return nil, errCorrupt
		}
		packed := make([]byte, n)
		if _, err := io.ReadFull(from, packed); err != nil {
			return nil, errCorrupt
		}
		raw, err := s.unzip.DecodeAll(packed, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errCorrupt, err)
		}
		b, err := t.unmarshal(raw)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, b)
	}
}

// group makes durable that these batches are one insert, whatever happens until it has worked. It gives the group's identity, or fails with errFull
// on a disk that has no room.
func (s *spool) group(batches []*batch) (identity string, err error) {
	identity = newIdentity()
	var names strings.Builder
	for _, b := range batches {
		fmt.Fprintln(&names, b.name)
	}
	file, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "group-")
	if err != nil {
		return "", full(fmt.Errorf("begin a group: %w", err))
	}
	_, err = file.WriteString(names.String())
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), s.queued(identity+groupSuffix))
	}
	if err == nil {
		err = s.sync(queueDir)
	}
	if err != nil {
		_ = os.Remove(file.Name())                      // one of the two is there
		_ = os.Remove(s.queued(identity + groupSuffix)) // and nothing was inserted under that name
		return "", full(fmt.Errorf("write a group: %w", err))
	}
	return identity, nil
}

// separate makes durable that a batch is sent alone: after a crash it must not become part of a group, whose insert would have another token. It takes
// no room on the disk.
func (s *spool) separate(b *batch) error {
	if b.alone {
		return nil
	}
	renamed := *b
	renamed.identity = aloneMark + b.identity
	renamed.setName()
	if err := os.Rename(s.queued(b.name), s.queued(renamed.name)); err != nil {
		return fmt.Errorf("separate a batch: %w", err)
	}
	b.name, b.identity = renamed.name, renamed.identity
	if err := s.sync(queueDir); err != nil {
		return err
	}
	b.alone = true
	return nil
}

// ungroup forgets a group whose batches are gone. They must be gone for good before: one that came back without its group would be sent again.
func (s *spool) ungroup(identity string) error {
	if err := s.sync(queueDir); err != nil {
		return err
	}
	if err := os.Remove(s.queued(identity + groupSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a group: %w", err)
	}
	return nil
}

// recover finds what an earlier process left: batches in the order of their names, and groups of them by identity.
func (s *spool) recover() (batches []*batch, groups map[string][]*batch, err error) {
	leftovers, err := os.ReadDir(filepath.Join(s.dir, tmpDir))
	if err != nil {
		return nil, nil, fmt.Errorf("read the spool: %w", err)
	}
	for _, entry := range leftovers {
		if err := os.Remove(filepath.Join(s.dir, tmpDir, entry.Name())); err != nil {
			return nil, nil, fmt.Errorf("clear the spool: %w", err)
		}
	}
	if err := s.weighRejected(); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, queueDir))
	if err != nil {
		return nil, nil, fmt.Errorf("read the spool: %w", err)
	}
	byName := map[string]*batch{}
	for _, entry := range entries {
		b, ok := parseName(entry.Name())
		if !ok {
			if filepath.Ext(entry.Name()) != groupSuffix {
				s.log.Error("a file in the spool is not ours", "file", entry.Name())
			}
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, nil, fmt.Errorf("read the spool: %w", err)
		}
		b.weight = weightOf(info.Size())
		s.used.Add(b.weight)
		s.files.Add(1)
		byName[b.name] = b
	}
	groups = map[string][]*batch{}
	for _, entry := range entries {
		if identity, ok := strings.CutSuffix(entry.Name(), groupSuffix); ok {
			members, err := s.regroup(identity, byName)
			if err != nil {
				return nil, nil, err
			}
			if members != nil {
				groups[identity] = members
			}
		}
	}
	for _, entry := range entries {
		if b := byName[entry.Name()]; b != nil {
			batches = append(batches, b)
		}
	}
	return batches, groups, nil
}

// regroup takes a group's batches out of all. A group that has lost some was inserted: what is left of it goes.
func (s *spool) regroup(identity string, all map[string]*batch) ([]*batch, error) {
	text, err := os.ReadFile(s.queued(identity + groupSuffix))
	if err != nil {
		return nil, fmt.Errorf("read a group: %w", err)
	}
	var members []*batch
	complete := true
	for name := range strings.Lines(string(text)) {
		b := all[strings.TrimSpace(name)]
		if b == nil {
			complete = false
			continue
		}
		delete(all, b.name)
		members = append(members, b)
	}
	if complete && len(members) > 0 {
		return members, nil
	}
	for _, b := range members {
		if err := s.remove(b); err != nil {
			return nil, err
		}
	}
	return nil, s.ungroup(identity)
}

func (s *spool) weighRejected() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, rejectedDir))
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("read the spool: %w", err)
		}
		s.failed.Add(weightOf(info.Size()))
	}
	return nil
}
