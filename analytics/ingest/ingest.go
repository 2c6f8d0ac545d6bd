// Package ingest takes workload events in. An event is acknowledged when it is durable in a spool on the local disk; from there it goes into
// ClickHouse, exactly once, whichever of the processes and machines on the way fails meanwhile.
//
// The spool holds blocks as ClickHouse's Native format has them, so that an event is parsed once and copied from then on. Every insert
// carries a deduplication token that is on disk before the insert begins, and is repeated with it until ClickHouse has said yes.
package ingest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/netra-ai/netra/models"
)

// Config says where events go, and within which bounds.
type Config struct {
	URL       string        // of ClickHouse: http://user:password@host:port/database, or clickhouse://
	Dir       string        // the spool, which belongs to one process at a time
	Limit     int64         // bytes that the spool may take; 1 GiB unless set
	Linger    time.Duration // how long few events wait for others, so that ClickHouse gets few inserts; 250 ms unless set
	BlockRows int           // what ClickHouse inserts at once, and what a request holds in memory; 50,000 events unless set
	Log       *slog.Logger  // nil discards
}

const (
	// blockBytes bounds a block beside its rows.
	blockBytes = 16 << 20
	// directRows is from when on a request is not worth being joined with others in one file.
	directRows = 2_000
	// heldBytes bounds the blocks that wait for ClickHouse in memory besides being on disk.
	heldBytes = 64 << 20
	// maxMistakes is how many events of a request are told what is wrong with them.
	maxMistakes = 20
	// MaxKey is how long an idempotency key may be, in bytes.
	MaxKey = 255
)

// Ingester takes events in, and writes them to ClickHouse while Run runs.
type Ingester struct {
	conn      driver.Conn
	spool     *spool
	linger    time.Duration
	blockRows int
	log       *slog.Logger
	activity  *activity
	queue     *queue

	small struct {
		sync.Mutex
		gathering *gathering
	}
	writing sync.Mutex // of small batches

	accepted, written, rejected atomic.Int64
	failures                    atomic.Int64
	blocks                      sync.Pool // of *block, of eventTable
	readers                     sync.Pool // of *lineReader
}

// New opens the spool. It fails when another process has it, and does not connect to ClickHouse: that may be away, and come back.
func New(cfg Config) (*Ingester, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	conn, err := openClickHouse(cfg.URL)
	if err != nil {
		return nil, err
	}
	s, err := openSpool(cfg.Dir, cmp.Or(cfg.Limit, 1<<30), cfg.Log)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	i := &Ingester{
		conn: conn, spool: s, linger: cmp.Or(cfg.Linger, 250*time.Millisecond), blockRows: cmp.Or(cfg.BlockRows, 50_000), log: cfg.Log,
		activity: newActivity(), queue: newQueue(),
	}
	i.blocks.New = func() any { return newBlock(eventTable) }
	i.readers.New = func() any { return &lineReader{bufio.NewReaderSize(nil, MaxLine+1), newReader()} }
	batches, groups, err := s.recover()
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	rows := 0
	for identity, members := range groups {
		i.queue.retry(&shipment{identity: identity, batches: members, group: true})
		for _, b := range members {
			rows += b.rows
		}
	}
	for _, b := range batches {
		i.queue.add(b)
		rows += b.rows
	}
	if rows > 0 {
		i.log.Info("events were left in the spool and will be written", "rows", rows, "files", s.files.Load())
	}
	return i, nil
}

// Close gives the spool back. What is in it stays there.
func (i *Ingester) Close() error {
	return errors.Join(i.spool.close(), i.conn.Close())
}

// Record takes events of the graph for the viewer of ctx, all or none. They are durable when it returns nil. Events with the same key from
// the same user count once, as far back as ClickHouse remembers inserts: a client that has lost an answer sends the same again. It fails with
// EventErrors, BadUserInput, Unauthenticated, Forbidden for an API key that may not, or AnalyticsUnavailable when the spool is full.
func (i *Ingester) Record(ctx context.Context, events []*models.EventInput, key string) error {
	viewer, identity, err := i.sender(ctx, key)
	if err != nil {
		return err
	}
	batch := i.intake(identity)
	defer batch.close()
	in := newReader().of(viewer, time.Now())
	for n, input := range events {
		e, err := in.readInput(input)
		if err != nil {
			if !batch.refuse(n+1, fmt.Sprintf("events[%d]", n), err) {
				break
			}
			continue
		}
		if err := batch.put(e); err != nil {
			return i.unavailable(ctx, err)
		}
	}
	_, err = batch.commit(ctx)
	return err
}

// RecordLines takes events as NDJSON, an event a line, with the promises of Record. It reads until the end of lines, keeping no more than a block
// in memory, and says how many events it has taken. An error of lines itself is returned as it is.
func (i *Ingester) RecordLines(ctx context.Context, lines io.Reader, key string) (accepted int, err error) {
	viewer, identity, err := i.sender(ctx, key)
	if err != nil {
		return 0, err
	}
	batch := i.intake(identity)
	defer batch.close()
	from := i.readers.Get().(*lineReader)
	defer func() {
		from.Reset(nil)
		i.readers.Put(from)
	}()
	from.Reset(lines)
	in := from.of(viewer, time.Now())
	for place, ended := 1, false; !ended; place++ {
		line, err := from.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			ended = true
		case errors.Is(err, bufio.ErrBufferFull):
			batch.refuse(place, fmt.Sprintf("line %d", place), errLongLine)
			return batch.commit(ctx) // which says so
		case err != nil:
			return 0, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		e, err := in.readLine(line)
		if err != nil {
			if !batch.refuse(place, fmt.Sprintf("line %d", place), err) {
				break
			}
			continue
		}
		if err := batch.put(e); err != nil {
			return 0, i.unavailable(ctx, err)
		}
	}
	return batch.commit(ctx)
}

// lineReader is what reading a request takes.
type lineReader struct {
	*bufio.Reader
	*reader
}

// sender is who sends, and the identity of a batch with a key: the same for the same user and key in every process.
func (i *Ingester) sender(ctx context.Context, key string) (viewer models.Viewer, identity string, err error) {
	if viewer, err = models.ViewerFrom(ctx); err != nil {
		return viewer, "", err
	}
	if !viewer.May(models.PermissionIngest) {
		return viewer, "", models.Errorf(models.Forbidden, "this API key may not record events")
	}
	if key == "" {
		return viewer, "", nil
	}
	if len(key) > MaxKey {
		return viewer, "", models.Errorf(models.BadUserInput, "the idempotency key may have %d bytes", MaxKey)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s", viewer.UserID, key))
	return viewer, keyMark + hex.EncodeToString(sum[:16]), nil
}

func (i *Ingester) unavailable(ctx context.Context, err error) error {
	i.failures.Add(1)
	if errors.Is(err, errFull) {
		return models.Wrap(err, models.AnalyticsUnavailable, "too many events are waiting to be written: try again later")
	}
	i.log.ErrorContext(ctx, "events could not be spooled", "error", err)
	return models.Wrap(err, models.AnalyticsUnavailable, "events cannot be taken now: try again later")
}

// intake is the events of one request on their way to the spool.
type intake struct {
	*Ingester
	identity string // with a key
	block    *block
	draft    *draft // from the second block on
	rows     int
	mistakes models.EventErrors
}

func (i *Ingester) intake(identity string) *intake {
	return &intake{Ingester: i, identity: identity, block: i.blank()}
}

// blank is an empty block of events, which may have been used before.
func (i *Ingester) blank() *block {
	b := i.blocks.Get().(*block)
	b.reset()
	return b
}

// recycle takes blocks that nobody will look at again.
func (i *Ingester) recycle(blocks ...*block) {
	for _, b := range blocks {
		if b.table == eventTable {
			i.blocks.Put(b)
		}
	}
}

// refuse notes what is wrong with an event; false when enough has been noted.
func (in *intake) refuse(place int, where string, err error) bool {
	m := &mistake{code: models.BadUserInput, what: err.Error()}
	errors.As(err, &m)
	if len(in.mistakes.Errors) == maxMistakes {
		in.mistakes.More = true
		return false
	}
	in.mistakes.Errors = append(in.mistakes.Errors, &models.EventError{Place: place, Column: m.column, What: m.what, Err: models.Errorf(m.code, "%s: %s", where, m)})
	return true
}

func (in *intake) put(e *event) error {
	if len(in.mistakes.Errors) > 0 {
		return nil // nothing of the request will be recorded
	}
	in.block.putEvent(e)
	in.rows++
	if in.block.rows < in.blockRows && in.block.size() < blockBytes {
		return nil
	}
	err := in.spill()
	in.block.reset()
	return err
}

func (in *intake) spill() (err error) {
	if in.draft == nil {
		identity := in.identity
		if identity == "" {
			identity = newIdentity()
		}
		if in.draft, err = in.spool.begin(eventTable, identity, time.Now()); err != nil {
			return err
		}
	}
	return in.draft.add(in.block)
}

// commit makes the request's events durable, or says what is wrong with them.
func (in *intake) commit(ctx context.Context) (int, error) {
	switch {
	case len(in.mistakes.Errors) > 0:
		return 0, &in.mistakes
	case in.rows == 0:
		return 0, models.Errorf(models.BadUserInput, "there are no events")
	}
	if in.draft == nil && in.identity == "" && in.rows < directRows {
		if err := in.gather(in.block); err != nil {
			return 0, in.unavailable(ctx, err)
		}
		in.accepted.Add(int64(in.rows))
		return in.rows, nil
	}
	if in.block.rows > 0 {
		if err := in.spill(); err != nil {
			return 0, in.unavailable(ctx, err)
		}
	}
	d := in.draft
	in.draft = nil
	b, err := d.commit()
	if err != nil {
		return 0, in.unavailable(ctx, err)
	}
	if b.blocks == 1 && in.queue.hold(b, in.block) {
		in.block = nil
	}
	in.queue.add(b)
	in.accepted.Add(int64(in.rows))
	return in.rows, nil
}

func (in *intake) close() {
	if in.draft != nil {
		in.draft.discard()
	}
	if in.block != nil {
		in.recycle(in.block)
	}
}

// gathering is a small batch that several requests share. Whoever began it writes it; while an earlier one is being written, others join.
type gathering struct {
	block *block
	done  chan struct{}
	err   error
}

// gather returns when the block's rows are durable.
func (i *Ingester) gather(b *block) error {
	i.small.Lock()
	if g := i.small.gathering; g != nil && g.block.rows+b.rows <= i.blockRows && g.block.size()+b.size() <= blockBytes {
		g.block.join(b)
		i.small.Unlock()
		<-g.done
		return g.err
	}
	g := &gathering{block: i.blank(), done: make(chan struct{})}
	g.block.join(b)
	i.small.gathering = g
	i.small.Unlock()

	i.writing.Lock()
	defer i.writing.Unlock()
	i.small.Lock()
	if i.small.gathering == g {
		i.small.gathering = nil
	}
	i.small.Unlock()
	g.err = i.write(g.block)
	close(g.done)
	return g.err
}

// write makes a batch of one block, which is not to be used afterwards.
func (i *Ingester) write(b *block) error {
	d, err := i.spool.begin(b.table, newIdentity(), time.Now())
	if err != nil {
		return err
	}
	if err := d.add(b); err != nil {
		d.discard()
		return err
	}
	written, err := d.commit()
	if err != nil {
		return err
	}
	if !i.queue.hold(written, b) {
		i.recycle(b)
	}
	i.queue.add(written)
	return nil
}

// Stats is what has come in and gone out since New, in events, and what the spool holds now.
type Stats struct {
	Accepted, Written, Rejected int64 // rows, those of user_activity included
	Refusals                    int64 // requests that the spool could not take
	Bytes, Files                int64 // that wait for ClickHouse
	RejectedBytes               int64
	Oldest                      time.Duration // the age of what waits longest
}

// Stats is cheap enough for every scrape.
func (i *Ingester) Stats() Stats {
	return Stats{
		Accepted: i.accepted.Load(), Written: i.written.Load(), Rejected: i.rejected.Load(), Refusals: i.failures.Load(),
		Bytes: i.spool.used.Load(), Files: i.spool.files.Load(), RejectedBytes: i.spool.failed.Load(), Oldest: i.queue.oldest(time.Now()),
	}
}
