package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	writers       = 2                // inserts at a time
	insertTimeout = 30 * time.Second // doubled with each attempt, up to eight times as long
	minBackoff    = 50 * time.Millisecond
	maxBackoff    = 3 * time.Second
	drainTime     = 2 * time.Second
	shipmentRows  = 100_000 // batches that are not larger together are one insert
	shipmentBytes = 32 << 20
)

// shipment is what becomes one insert (one for each block of a batch that has several).
type shipment struct {
	identity string
	batches  []*batch
	group    bool
	sent     int // blocks that ClickHouse has
	attempts int
	after    time.Time
}

func (s *shipment) rows() int {
	rows := 0
	for _, b := range s.batches {
		rows += b.rows
	}
	return rows
}

// queue is what waits for ClickHouse.
type queue struct {
	mu       sync.Mutex
	fresh    []*batch    // never tried, oldest first
	tried    []*shipment // tried, or grouped by an earlier process
	underWay map[*shipment]bool
	pause    time.Time     // nothing is sent before: ClickHouse is away
	held     int           // bytes of blocks in memory
	changed  chan struct{} // closed at the next change
}

func newQueue() *queue {
	return &queue{changed: make(chan struct{}), underWay: map[*shipment]bool{}}
}

func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) add(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fresh = append(q.fresh, b)
	q.wake()
}

// hold keeps a batch's only block in memory where there is room.
func (q *queue) hold(b *batch, only *block) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held+only.size() > heldBytes {
		return false
	}
	q.held += only.size()
	b.held = []*block{only}
	return true
}

func (q *queue) retry(s *shipment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.underWay, s)
	q.tried = append(q.tried, s)
	q.wake()
}

// done forgets a shipment.
func (q *queue) done(s *shipment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.underWay, s)
	for _, b := range s.batches {
		for _, block := range b.held {
			q.held -= block.size()
		}
	}
	q.wake()
}

func (q *queue) leaveOut(s *shipment, batches []*batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.batches = slices.DeleteFunc(s.batches, func(b *batch) bool { return slices.Contains(batches, b) })
}

// sendFirst leaves a shipment its first batch, and puts the others back where they were.
func (q *queue) sendFirst(s *shipment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fresh = slices.Insert(q.fresh, 0, s.batches[1:]...)
	s.batches = s.batches[:1:1]
	q.wake()
}

func (q *queue) away(until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pause = until
}

// back lets everything be tried at once.
func (q *queue) back() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pause.IsZero() {
		return
	}
	q.pause = time.Time{}
	for _, s := range q.tried {
		s.after = time.Time{}
	}
	q.wake()
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.fresh) == 0 && len(q.tried) == 0 && len(q.underWay) == 0
}

// stuck is when what is left will not be written soon.
func (q *queue) stuck() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.pause.IsZero() || len(q.fresh) == 0 && len(q.underWay) == 0
}

func (q *queue) oldest(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	oldest := now
	see := func(b *batch) {
		if b.since.Before(oldest) {
			oldest = b.since
		}
	}
	if len(q.fresh) > 0 {
		see(q.fresh[0])
	}
	for _, s := range slices.Concat(q.tried, slices.Collect(maps.Keys(q.underWay))) {
		for _, b := range s.batches {
			see(b)
		}
	}
	return now.Sub(oldest)
}

// take gives what to send next, or how long until there may be something and what says so earlier.
func (q *queue) take(now time.Time, linger time.Duration) (s *shipment, wait time.Duration, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait = time.Hour
	if q.pause.After(now) {
		return nil, q.pause.Sub(now), q.changed
	}
	for i, s := range q.tried {
		if !s.after.After(now) {
			q.tried = slices.Delete(q.tried, i, i+1)
			q.underWay[s] = true
			return s, 0, nil
		}
		wait = min(wait, s.after.Sub(now))
	}
	if len(q.fresh) == 0 {
		return nil, wait, q.changed
	}
	n, rows, whole := q.alike()
	if until := q.fresh[0].since.Add(linger).Sub(now); !whole && rows < directRows && until > 0 {
		return nil, min(wait, until), q.changed
	}
	s = &shipment{batches: slices.Clone(q.fresh[:n]), identity: q.fresh[0].identity}
	q.fresh = slices.Delete(q.fresh, 0, n)
	q.underWay[s] = true
	return s, 0, nil
}

// alike is how many batches at the front can be one insert, and whether more would not be.
func (q *queue) alike() (n, rows int, whole bool) {
	first := q.fresh[0]
	if first.alone {
		return 1, first.rows, true
	}
	size := int64(0)
	for _, b := range q.fresh {
		if n > 0 && (b.alone || b.table != first.table || rows+b.rows > shipmentRows || size+b.weight > shipmentBytes/4) {
			return n, rows, true
		}
		n, rows, size = n+1, rows+b.rows, size+b.weight
	}
	return n, rows, false
}

// Run writes what is in the spool to ClickHouse until ctx ends, and then for as long as it goes quickly. What is left is written by the next process.
func (i *Ingester) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() { i.ship(working) })
	}
	tick := time.NewTicker(activityEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			i.flushActivity(ctx)
		}
	}
	i.flushActivity(ctx)
	i.drain()
	stop()
	all.Wait()
	return nil
}

func (i *Ingester) drain() {
	until := time.After(drainTime)
	for !i.queue.empty() && !i.queue.stuck() {
		select {
		case <-until:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ship sends one shipment after the other.
func (i *Ingester) ship(ctx context.Context) {
	for ctx.Err() == nil {
		s, wait, changed := i.queue.take(time.Now(), i.linger)
		if s == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			case <-time.After(wait):
			}
			continue
		}
		err := i.send(ctx, s)
		var exception *clickhouse.Exception
		answered := errors.As(err, &exception)
		switch {
		case err == nil:
			i.queue.done(s)
			for _, b := range s.batches {
				i.recycle(b.held...)
			}
			i.queue.back()
		case ctx.Err() != nil:
			i.queue.retry(s)
		case errors.Is(err, errCorrupt), answered && refusedForGood[exception.Code]:
			i.reject(ctx, s, err)
		default:
			s.attempts++
			backoff := backoffFor(s.attempts)
			s.after = time.Now().Add(backoff)
			if !answered {
				i.queue.away(s.after)
			}
			i.log.WarnContext(ctx, "events could not be written to ClickHouse and will be tried again",
				"rows", s.rows(), "attempts", s.attempts, "next", backoff, "error", err)
			i.queue.retry(s)
		}
	}
}

func backoffFor(attempts int) time.Duration {
	longest := min(minBackoff<<min(attempts, 10), maxBackoff)
	return longest/2 + rand.N(longest/2)
}

// refusedForGood are ClickHouse's codes for data that it will never take. Everything else may be put right: a table that is not there yet, a full
// disk, a limit.
var refusedForGood = map[int32]bool{
	6:   true, // CANNOT_PARSE_TEXT
	27:  true, // CANNOT_PARSE_INPUT_ASSERTION_FAILED
	33:  true, // CANNOT_READ_ALL_DATA
	69:  true, // ARGUMENT_OUT_OF_BOUND
	117: true, // INCORRECT_DATA
	128: true, // TOO_LARGE_ARRAY_SIZE
	131: true, // TOO_LARGE_STRING_SIZE
	190: true, // SIZES_OF_ARRAYS_DONT_MATCH
	349: true, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
	469: true, // VIOLATED_CONSTRAINT
}

func (i *Ingester) reject(ctx context.Context, s *shipment, why error) {
	var failures []error
	for _, b := range s.batches {
		i.rejected.Add(int64(b.rows))
		failures = append(failures, i.spool.reject(b))
	}
	if s.group {
		failures = append(failures, i.spool.ungroup(s.identity))
	}
	i.queue.done(s)
	names := make([]string, len(s.batches))
	for n, b := range s.batches {
		names[n] = b.name
	}
	i.log.ErrorContext(ctx, "ClickHouse will never take these events: they are kept in the spool's directory rejected",
		"rows", s.rows(), "files", names, "error", why, "trouble", errors.Join(failures...))
}

// send inserts a shipment and removes its files. It can be repeated.
func (i *Ingester) send(ctx context.Context, s *shipment) error {
	blocks, err := i.prepare(ctx, s)
	if err != nil {
		return err
	}
	for n := s.sent; n < len(blocks); n++ {
		if err := i.insert(ctx, blocks[n], s.identity+"-"+strconv.Itoa(n), s.attempts); err != nil {
			return err
		}
		s.sent++
		i.written.Add(int64(blocks[n].rows))
	}
	if s.group {
		i.recycle(blocks...)
	}
	for _, b := range s.batches {
		if err := i.spool.remove(b); err != nil {
			return err
		}
	}
	if s.group {
		return i.spool.ungroup(s.identity)
	}
	return nil
}

// prepare reads a shipment's blocks. Several batches become a group and one block; one that cannot be read does not become part of it.
func (i *Ingester) prepare(ctx context.Context, s *shipment) ([]*block, error) {
	if !s.group && len(s.batches) == 1 {
		return i.single(s)
	}
	joined := i.blank()
	if t := s.batches[0].table; t != eventTable {
		joined = newBlock(t)
	}
	var unreadable []*batch
	for _, b := range s.batches {
		blocks, err := i.spool.load(b)
		switch {
		case errors.Is(err, errCorrupt) && !s.group:
			unreadable = append(unreadable, b)
			i.reject(ctx, &shipment{batches: []*batch{b}}, err)
		case err != nil:
			return nil, err
		}
		for _, one := range blocks {
			joined.join(one)
		}
	}
	i.queue.leaveOut(s, unreadable)
	if len(s.batches) == 0 {
		return nil, nil
	}
	if !s.group {
		identity, err := i.spool.group(s.batches)
		if errors.Is(err, errFull) {
			// Room comes from what is sent, so that must not need any.
			i.queue.sendFirst(s)
			return i.single(s)
		}
		if err != nil {
			return nil, err
		}
		s.identity, s.group = identity, true
	}
	return []*block{joined}, nil
}

// single reads a shipment of one batch, which stays alone from now on.
func (i *Ingester) single(s *shipment) ([]*block, error) {
	b := s.batches[0]
	blocks, err := i.spool.load(b)
	if err != nil {
		return nil, err
	}
	if err := i.spool.separate(b); err != nil {
		return nil, err
	}
	s.identity = b.identity
	return blocks, nil
}

// insert sends a block. ClickHouse forgets what it is sent again under the same token, in each partition of the table and of those that views fill
// from it, whichever of them had it.
func (i *Ingester) insert(ctx context.Context, b *block, token string, attempts int) error {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout<<min(attempts, 3))
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithColumnNamesAndTypes(b.table.types()), clickhouse.WithSettings(clickhouse.Settings{
		"async_insert":               "0",
		"insert_deduplicate":         "1",
		"insert_deduplication_token": token,
		"deduplicate_blocks_in_dependent_materialized_views": "1",
		// A distributed table would otherwise answer before the shards have anything.
		"distributed_foreground_insert": "1",
		// One block stays one: a token is of a block.
		"max_insert_threads":          "1",
		"min_insert_block_size_rows":  "1048576",
		"min_insert_block_size_bytes": strconv.Itoa(maxBlock),
		"max_insert_block_size":       "1048576",
		// What views make of it stays one block, too: to join several, ClickHouse copies every sketch, which is slower than making it.
		"max_block_size":                     "1048576",
		"group_by_two_level_threshold":       "0",
		"group_by_two_level_threshold_bytes": "0",
		// Rows of one key are added up by merges, and by every question.
		"optimize_on_insert": "0",
	}))
	batch, err := i.conn.PrepareBatch(ctx, b.table.insert())
	if err != nil {
		return fmt.Errorf("begin an insert: %w", err)
	}
	if err := b.fill(batch.Columns()); err != nil {
		return errors.Join(err, batch.Abort())
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	return nil
}

// fill gives the client's columns the block's bytes, which are what they would have been sent by a server.
func (b *block) fill(columns []column.Interface) error {
	if len(columns) != len(b.table.columns) {
		return fmt.Errorf("%s has %d columns", b.table.name, len(columns))
	}
	var parts []io.Reader
	for n, c := range b.table.columns {
		if got := string(columns[n].Type()); got != c.kind {
			return fmt.Errorf("%s.%s is %s, not %s", b.table.name, c.name, got, c.kind)
		}
		for _, section := range c.sections {
			parts = append(parts, bytes.NewReader(b.sections[section]))
		}
	}
	reader := proto.NewReader(io.MultiReader(parts...))
	for n, c := range b.table.columns {
		if err := columns[n].Decode(reader, b.rows); err != nil {
			return fmt.Errorf("%w: %s.%s: %w", errCorrupt, b.table.name, c.name, err)
		}
	}
	return nil
}

func openClickHouse(url string) (driver.Conn, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, fmt.Errorf("parse the URL of ClickHouse: %w", err)
	}
	options.DialTimeout = 2 * time.Second
	options.ReadTimeout = insertTimeout << 3
	options.MaxOpenConns = writers
	options.MaxIdleConns = writers
	options.ClientInfo.Products = append(options.ClientInfo.Products, struct{ Name, Version string }{"netra-ingest", "1"})
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return conn, nil
}
