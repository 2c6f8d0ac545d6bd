package embedded_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embedded"
)

// TestMain lets this binary be the child that StartClickHouse calls, and a parent that a test can kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "clickhouse-engine" {
		os.Exit(engineChild(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "clickhouse-parent" {
		os.Exit(engineParent(os.Args[2]))
	}
	code := m.Run()
	sharedEngine.stop()
	os.Exit(code)
}

func engineChild(arguments []string) int {
	var cfg embedded.ClickHouseConfig
	flags := flag.NewFlagSet("clickhouse-engine", flag.ExitOnError)
	flags.StringVar(&cfg.Dir, "dir", "", "")
	flags.IntVar(&cfg.Port, "port", 0, "")
	flags.StringVar(&cfg.Library, "library", "", "")
	_ = flags.Parse(arguments)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := embedded.ClickHouseChild(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func engineParent(dir string) int {
	engine, err := embedded.StartClickHouse(context.Background(), engineConfig(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(engine.PID())
	<-engine.Done()
	return 0
}

func engineConfig(dir string) embedded.ClickHouseConfig {
	return embedded.ClickHouseConfig{Dir: dir, Library: os.Getenv("NETRA_CHDB_LIB")}
}

// sharedEngine serves all tests that do not hurt it; each has a database of its own there.
var sharedEngine engineOnce

type engineOnce struct {
	once   sync.Once
	engine *embedded.ClickHouse
	dir    string
	err    error
}

func (s *engineOnce) get(t *testing.T) *embedded.ClickHouse {
	t.Helper()
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "clickhouse"); s.err == nil {
			s.engine, s.err = embedded.StartClickHouse(context.Background(), engineConfig(s.dir))
		}
	})
	require.NoError(t, s.err)
	return s.engine
}

func (s *engineOnce) stop() {
	if s.engine != nil {
		_ = s.engine.Stop(context.Background())
	}
	_ = os.RemoveAll(s.dir)
}

func startEngine(t *testing.T, cfg embedded.ClickHouseConfig) *embedded.ClickHouse {
	t.Helper()
	engine, err := embedded.StartClickHouse(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Stop(context.Background())) })
	return engine
}

// openAnalytics makes a database for the test on the shared engine and connects to it.
func openAnalytics(t *testing.T, change ...func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	options := engineOptions(t, sharedEngine.get(t))
	admin := openEngine(t, options)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	require.NoError(t, admin.Exec(t.Context(), "CREATE DATABASE "+name+" ENGINE = Atomic"))
	t.Cleanup(func() { require.NoError(t, admin.Exec(context.Background(), "DROP DATABASE "+name+" SYNC")) })
	options = engineOptions(t, sharedEngine.get(t))
	options.Auth.Database = name
	for _, apply := range change {
		apply(options)
	}
	return openEngine(t, options)
}

func engineOptions(t *testing.T, engine *embedded.ClickHouse) *clickhouse.Options {
	t.Helper()
	options, err := clickhouse.ParseDSN(engine.URL())
	require.NoError(t, err)
	require.Equal(t, clickhouse.HTTP, options.Protocol)
	return options
}

func openEngine(t *testing.T, options *clickhouse.Options) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestClickHouse_RoundTripsTheTypesOfTheSpecification(t *testing.T) {
	t.Parallel()
	for name, compression := range map[string]*clickhouse.Compression{
		"plain": nil,
		"lz4":   {Method: clickhouse.CompressionLZ4},
		"zstd":  {Method: clickhouse.CompressionZSTD},
		"gzip":  {Method: clickhouse.CompressionGZIP, Level: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := openAnalytics(t, func(options *clickhouse.Options) {
				options.Compression = compression
				options.Settings = clickhouse.Settings{"enable_http_compression": 1}
			})
			require.NoError(t, conn.Exec(t.Context(), `CREATE TABLE events (
				id UUID, at DateTime64(3), user UInt32, kind LowCardinality(String), note Nullable(String), tags Array(String),
				metrics Nested(name String, value Float64, unit LowCardinality(Nullable(String))),
				dimensions Map(String, String), price Decimal(18, 4), big UInt128, day Date, flag Bool, shade Enum8('light' = 1, 'dark' = 2),
				address IPv6, pair Tuple(a Int8, b String)
			) ENGINE = MergeTree ORDER BY (user, at, id)`))
			batch, err := conn.PrepareBatch(t.Context(), `INSERT INTO events (id, at, user, kind, note, tags, metrics.name, metrics.value,
				metrics.unit, dimensions, flag, shade)`)
			require.NoError(t, err)
			id, at, note, unit := uuid.New(), time.Date(2024, 2, 29, 23, 59, 59, 999_000_000, time.UTC), "tab\tnewline\nquote'ü\\", "ms"
			require.NoError(t, batch.Append(id, at, uint32(7), "metric", &note, []string{"a", ""}, []string{"latency", "tokens"},
				[]float64{1.5, 2}, []*string{&unit, nil}, map[string]string{"region": "eu", "": "empty"}, true, "dark"))
			require.NoError(t, batch.Append(uuid.Nil, at, uint32(8), "", (*string)(nil), []string{}, []string{}, []float64{}, []*string{},
				map[string]string{}, false, "light"))
			require.NoError(t, batch.Send())

			rows, err := conn.Query(t.Context(), `SELECT id, at, kind, note, tags, metrics.name, metrics.value, metrics.unit, dimensions,
				flag, shade FROM events ORDER BY user`)
			require.NoError(t, err)
			defer func() { require.NoError(t, rows.Close()) }()
			require.True(t, rows.Next())
			var (
				gotID         uuid.UUID
				gotAt         time.Time
				kind, shade   string
				gotNote       *string
				tags, names   []string
				values        []float64
				units         []*string
				gotDimensions map[string]string
				flag          bool
			)
			require.NoError(t, rows.Scan(&gotID, &gotAt, &kind, &gotNote, &tags, &names, &values, &units, &gotDimensions, &flag, &shade))
			require.Equal(t, id, gotID)
			require.True(t, at.Equal(gotAt), gotAt)
			require.Equal(t, "metric", kind)
			require.Equal(t, note, *gotNote)
			require.Equal(t, []string{"a", ""}, tags)
			require.Equal(t, []string{"latency", "tokens"}, names)
			require.Equal(t, []float64{1.5, 2}, values)
			require.Equal(t, []*string{&unit, nil}, units)
			require.Equal(t, map[string]string{"region": "eu", "": "empty"}, gotDimensions)
			require.True(t, flag)
			require.Equal(t, "dark", shade)
			require.True(t, rows.Next())
			require.NoError(t, rows.Scan(&gotID, &gotAt, &kind, &gotNote, &tags, &names, &values, &units, &gotDimensions, &flag, &shade))
			require.Nil(t, gotNote)
			require.Empty(t, names)
			require.False(t, rows.Next())
			require.NoError(t, rows.Err())
		})
	}
}

func TestClickHouse_HandsOnEveryTypeUnchanged(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	for _, expression := range []string{
		"NULL", "[NULL, NULL]", "tuple(NULL, 1)", "INTERVAL 3 DAY", "[INTERVAL 2 HOUR, INTERVAL 1 HOUR]", "toInt256(-5)", "toDecimal256(1.5, 7)",
		"toIPv4('1.2.3.4')", "toFixedString('ab', 3)", "(1, 2.0)::Point", "toBFloat16(1)", "toDate32('2100-01-01')", "now64(9)",
		"toDateTime('2024-01-01 00:00:00', 'Europe/Berlin')", "CAST('a', 'Enum16(''a'' = 300)')", "map('k', [(1, 'x'), (2, 'y')])",
		"[toLowCardinality(toNullable('x')), NULL]", "map(toLowCardinality('k'), toLowCardinality(1))", "(toLowCardinality('a'), toLowCardinality('b'))",
		"[[], [1]]", "map()", "'{\"a\": 1, \"b\": {\"c\": [1, 2]}}'::JSON", "1::Variant(UInt8, String)", "'x'::Dynamic", "repeat('x', 300000)",
	} {
		// What follows a value is readable only if the value was left whole, in each of several blocks.
		rows, err := conn.Query(t.Context(), "SELECT number, "+expression+" AS value, 'end' FROM numbers(6) SETTINGS max_block_size = 2")
		require.NoError(t, err, expression)
		read := 0
		for rows.Next() {
			read++
		}
		require.NoError(t, errors.Join(rows.Err(), rows.Close()), expression)
		require.Equal(t, 6, read, expression)
	}
	var interval string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT INTERVAL 3 DAY").Scan(&interval))
	require.Equal(t, "3 Days", interval)
	var exception *clickhouse.Exception
	require.ErrorAs(t, conn.Exec(t.Context(), "SELECT sumState(number) FROM numbers(3)"), &exception)
	require.EqualValues(t, 48, exception.Code)
}

func TestClickHouse_TakesTheSpecificationsSchema(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	for _, statement := range []string{
		`CREATE TABLE workload_events (
			event_id UUID DEFAULT generateUUIDv4(), timestamp DateTime64(3) DEFAULT now(), user_id UInt32, workload_id String,
			event_type String, event_category String, metrics Nested(name String, value Float64, unit String),
			dimensions Map(String, String), metadata String,
			INDEX idx_user_id user_id TYPE minmax GRANULARITY 8192,
			INDEX idx_workload_id workload_id TYPE bloom_filter GRANULARITY 1,
			INDEX idx_event_type event_type TYPE set(100) GRANULARITY 1
		) ENGINE = MergeTree() PARTITION BY toYYYYMM(timestamp) ORDER BY (user_id, timestamp, event_id)
		TTL toDateTime(timestamp) + INTERVAL 90 DAY SETTINGS non_replicated_deduplication_window = 100`,
		`CREATE TABLE aggregated_metrics (
			hour DateTime, user_id UInt32, workload_id String, metric_name String,
			total_value SimpleAggregateFunction(sum, Float64), event_count SimpleAggregateFunction(sum, UInt64),
			min_value SimpleAggregateFunction(min, Float64), max_value SimpleAggregateFunction(max, Float64),
			digest AggregateFunction(quantilesTDigest(0.5, 0.99), Float64)
		) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(hour) ORDER BY (user_id, workload_id, hour, metric_name)
		TTL hour + INTERVAL 1 YEAR SETTINGS non_replicated_deduplication_window = 100`,
		`CREATE MATERIALIZED VIEW aggregated_metrics_mv TO aggregated_metrics AS
		SELECT toStartOfHour(timestamp) AS hour, user_id, workload_id, name AS metric_name, sum(value) AS total_value, count() AS event_count,
			min(value) AS min_value, max(value) AS max_value, quantilesTDigestState(0.5, 0.99)(value) AS digest
		FROM workload_events ARRAY JOIN metrics.name AS name, metrics.value AS value WHERE event_type = 'metric'
		GROUP BY hour, user_id, workload_id, metric_name`,
		`CREATE TABLE user_activity (
			date Date DEFAULT today(), user_id UInt32, action String, count UInt64, total_duration_ms UInt64
		) ENGINE = SummingMergeTree() PARTITION BY toYYYYMM(date) ORDER BY (date, user_id, action) TTL date + INTERVAL 6 MONTH`,
		`CREATE VIEW recent_workloads AS SELECT workload_id, user_id, max(timestamp) AS last_seen, count() AS event_count
		FROM workload_events WHERE timestamp > now() - INTERVAL 7 DAY GROUP BY workload_id, user_id`,
	} {
		require.NoError(t, conn.Exec(t.Context(), statement))
	}
	insert := func(token string, from, to int) {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1,
		}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit)")
		require.NoError(t, err)
		for i := from; i < to; i++ {
			require.NoError(t, batch.Append(time.Now(), uint32(1), "w", "metric", []string{"latency", "tokens"}, []float64{float64(i), 10}, []string{"ms", ""}))
		}
		require.NoError(t, batch.Send())
	}
	insert("one", 0, 50)
	insert("one", 0, 50)
	insert("two", 50, 100)
	require.NoError(t, conn.Exec(t.Context(), "OPTIMIZE TABLE aggregated_metrics FINAL"))

	var (
		total, smallest, largest float64
		events                   uint64
		quantiles                []float32
	)
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT sum(total_value), sum(event_count), min(min_value), max(max_value),
		quantilesTDigestMerge(0.5, 0.99)(digest) FROM aggregated_metrics WHERE metric_name = 'latency'`).
		Scan(&total, &events, &smallest, &largest, &quantiles))
	require.Equal(t, []any{4950.0, uint64(100), 0.0, 99.0}, []any{total, events, smallest, largest})
	require.InDelta(t, 49.5, quantiles[0], 2)

	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO user_activity (user_id, action, count) VALUES (1, 'login', 1), (1, 'login', 2)"))
	require.NoError(t, conn.Exec(t.Context(), "OPTIMIZE TABLE user_activity FINAL"))
	var count uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count FROM user_activity").Scan(&count))
	require.EqualValues(t, 3, count)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT event_count FROM recent_workloads").Scan(&count))
	require.EqualValues(t, 100, count)
}

func TestClickHouse_DropsRowsPastTheirTTL(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE old (at DateTime) ENGINE = MergeTree ORDER BY at TTL at + INTERVAL 90 DAY"))
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO old VALUES (now()), (now() - INTERVAL 91 DAY)"))
	require.NoError(t, conn.Exec(t.Context(), "OPTIMIZE TABLE old FINAL"))
	require.EqualValues(t, 1, countOf(t, conn, "old"))
}

func TestClickHouse_TakesALargeBatch(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	require.NoError(t, conn.Exec(t.Context(), `CREATE TABLE events (id UUID, at DateTime64(3), name LowCardinality(String), dimensions Map(String, String))
		ENGINE = MergeTree ORDER BY (at, id)`))
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO events")
	require.NoError(t, err)
	at := time.Now()
	for i := range 200_000 {
		require.NoError(t, batch.Append(uuid.New(), at, "event", map[string]string{"n": strconv.Itoa(i % 7)}))
	}
	require.NoError(t, batch.Send())
	require.EqualValues(t, 200_000, countOf(t, conn, "events"))

	rows, err := conn.Query(t.Context(), "SELECT id, at, name, dimensions FROM events")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	read := 0
	for rows.Next() {
		read++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 200_000, read)
}

func TestClickHouse_BindsParameters(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE {name:Identifier} (a String, n UInt64) ENGINE = MergeTree ORDER BY n",
		clickhouse.Named("name", "odd`name")))
	hostile := "x' OR 1=1; -- \t\n\\ ü"
	ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"a": "x' OR 1=1; -- ü", "n": "18446744073709551615"}))
	require.NoError(t, conn.Exec(ctx, "INSERT INTO `odd\\`name` VALUES ({a:String}, {n:UInt64})"))
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO `odd\\`name` VALUES (?, ?)", hostile, 1))

	var got string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT a FROM `odd\\`name` WHERE n = ?", uint64(18446744073709551615)).Scan(&got))
	require.Equal(t, "x' OR 1=1; -- ü", got)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT a FROM `odd\\`name` WHERE a = @a", clickhouse.Named("a", hostile)).Scan(&got))
	require.Equal(t, hostile, got)
	var sum uint64
	ctx = clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"ids": "[1,2,3]", "at": "2024-01-02 03:04:05.678"}))
	require.NoError(t, conn.QueryRow(ctx, "SELECT arraySum({ids:Array(UInt32)})").Scan(&sum))
	require.EqualValues(t, 6, sum)
	var at time.Time
	require.NoError(t, conn.QueryRow(ctx, "SELECT {at:DateTime64(3)}").Scan(&at))
	require.Equal(t, 678_000_000, at.Nanosecond())
	require.Equal(t, time.UTC.String(), at.Location().String())
}

func TestClickHouse_WorksThroughDatabaseSQL(t *testing.T) {
	t.Parallel()
	db := clickhouse.OpenDB(engineOptions(t, sharedEngine.get(t)))
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, db.PingContext(t.Context()))
	name := "sql_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err := db.ExecContext(t.Context(), "CREATE TABLE "+name+" (id UUID, at DateTime64(3)) ENGINE = MergeTree ORDER BY id")
	require.NoError(t, err)
	defer func() { _, _ = db.ExecContext(context.Background(), "DROP TABLE "+name+" SYNC") }()

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	insert, err := tx.PrepareContext(t.Context(), "INSERT INTO "+name)
	require.NoError(t, err)
	id := uuid.New()
	_, err = insert.ExecContext(t.Context(), id, time.UnixMilli(1700000000123))
	require.NoError(t, err)
	require.NoError(t, tx.Commit())

	var got uuid.UUID
	var at time.Time
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT id, at FROM "+name).Scan(&got, &at))
	require.Equal(t, id, got)
	require.EqualValues(t, 1700000000123, at.UnixMilli())
	require.ErrorIs(t, db.QueryRowContext(t.Context(), "SELECT id FROM "+name+" WHERE 0").Scan(&got), sql.ErrNoRows)
	var database string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT currentDatabase()").Scan(&database))
	require.Equal(t, "netra_analytics", database)
}

func TestClickHouse_ErrorsCarryTheirCode(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n"))
	for _, test := range []struct {
		query  string
		code   int32
		status int
	}{
		{"SELECT * FROM missing", 60, http.StatusNotFound},
		{"SELECT missing FROM t", 47, http.StatusNotFound},
		{"INSERT INTO missing VALUES (1)", 60, http.StatusNotFound},
		{"INSERT INTO t VALUES ('x')", 6, http.StatusBadRequest},
		{"INSERT INTO t FORMAT JSONEachRow {\"n\": \"x\"}", 27, http.StatusBadRequest},
		{"INSERT INTO t FORMAT Missing 1", 73, http.StatusNotFound},
		{"SELEC 1", 62, http.StatusBadRequest},
		{"SELECT 1; SELECT 2", 62, http.StatusBadRequest},
		{"WITH ';' AS n SELECT n -- ;\n; DROP TABLE t", 62, http.StatusBadRequest},
		{"SELECT ';", 62, http.StatusBadRequest},
		{"SELECT 1 INTO", 62, http.StatusBadRequest},
		{"exit", 62, http.StatusBadRequest},
		{"", 62, http.StatusBadRequest},
		{"SELECT throwIf(number = 3) FROM numbers(10)", 395, http.StatusInternalServerError},
		{"SELECT sleep(3) SETTINGS max_execution_time = 0.2", 159, http.StatusRequestTimeout},
		{"CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n", 57, http.StatusInternalServerError},
		{"SELECT * FROM numbers(1e8) ORDER BY number DESC SETTINGS max_memory_usage = 1000000", 241, http.StatusInternalServerError},
	} {
		err := conn.Exec(t.Context(), test.query)
		var exception *clickhouse.Exception
		require.ErrorAs(t, err, &exception, test.query)
		require.Equal(t, test.code, exception.Code, "%s: %v", test.query, err)
		var status *clickhouse.HTTPError
		require.ErrorAs(t, err, &status, test.query)
		require.Equal(t, test.status, status.StatusCode, test.query)
	}
	require.Zero(t, countOf(t, conn, "t"))

	for setting, code := range map[string]int32{"no_such_setting": 115, "max_threads": 27} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{setting: "many"}))
		var exception *clickhouse.Exception
		require.ErrorAs(t, conn.Exec(ctx, "SELECT 1"), &exception)
		require.Equal(t, code, exception.Code, exception)
	}
}

func TestClickHouse_AnErrorAmongTheRowsIsNotLost(t *testing.T) {
	t.Parallel()
	for name, compression := range map[string]*clickhouse.Compression{
		"plain": nil, "lz4": {Method: clickhouse.CompressionLZ4}, "gzip": {Method: clickhouse.CompressionGZIP, Level: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := openAnalytics(t, func(options *clickhouse.Options) {
				options.Compression = compression
				options.Settings = clickhouse.Settings{"enable_http_compression": 1}
			})
			rows, err := conn.Query(t.Context(), "SELECT throwIf(number = 290000), generateUUIDv4(number) FROM numbers(300000) SETTINGS max_threads = 1, max_block_size = 10000")
			require.NoError(t, err)
			read := 0
			for rows.Next() {
				read++
			}
			var exception *clickhouse.Exception
			require.ErrorAs(t, errors.Join(rows.Err(), rows.Close()), &exception)
			require.EqualValues(t, 395, exception.Code)
			require.Positive(t, read)
			require.Less(t, read, 300_000)
		})
	}
}

func TestClickHouse_StreamsResultsLargerThanItsMemory(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_memory_usage": 16 << 20, "max_threads": 1}))
	rows, err := conn.Query(ctx, "SELECT repeat('x', 2000) FROM numbers(20000) SETTINGS max_block_size = 500")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	read := 0
	for rows.Next() {
		read++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 20_000, read)
}

func TestClickHouse_LeavesNothingForTheNextQuery(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 17, "log_comment": "it's \\ mine"}))
	var size uint64
	var comment string
	require.NoError(t, conn.QueryRow(ctx, "SELECT toUInt64(getSetting('max_block_size')), getSetting('log_comment')").Scan(&size, &comment))
	require.Equal(t, []any{uint64(17), "it's \\ mine"}, []any{size, comment})
	require.NoError(t, conn.Exec(t.Context(), "SET max_block_size = 18"))
	require.NoError(t, conn.Exec(t.Context(), "USE system"))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TEMPORARY TABLE left_over (n UInt8)"))
	for range 2 * 16 {
		var database string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT toUInt64(getSetting('max_block_size')), currentDatabase()").Scan(&size, &database))
		require.NotContains(t, []uint64{17, 18}, size)
		require.Contains(t, database, "test_")
	}
	var exception *clickhouse.Exception
	require.ErrorAs(t, conn.Exec(t.Context(), "SELECT * FROM left_over"), &exception)
	require.EqualValues(t, 60, exception.Code)
}

func TestClickHouse_KeepsDatabasesAndClientsApart(t *testing.T) {
	t.Parallel()
	one, other := openAnalytics(t), openAnalytics(t)
	for i, conn := range []driver.Conn{one, other} {
		require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (client UInt32, n UInt32) ENGINE = MergeTree ORDER BY n"))
		require.NoError(t, conn.Exec(t.Context(), "INSERT INTO t SELECT 0, number FROM numbers(?)", i))
	}
	var clients sync.WaitGroup
	failures := make(chan error, 24)
	for client := range 24 {
		clients.Go(func() { failures <- insertAndRead(t.Context(), []driver.Conn{one, other}[client%2], uint32(client+1)) })
	}
	clients.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	require.EqualValues(t, 12*5*100, countOf(t, one, "t"))
	require.EqualValues(t, 12*5*100+1, countOf(t, other, "t"))
}

func insertAndRead(ctx context.Context, conn driver.Conn, client uint32) error {
	for round := range 5 {
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
		if err != nil {
			return err
		}
		for n := range 100 {
			if err := batch.Append(client, uint32(n)); err != nil {
				return err
			}
		}
		if err := batch.Send(); err != nil {
			return err
		}
		var count uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM t WHERE client = ?", client).Scan(&count); err != nil {
			return err
		}
		if count != uint64(round+1)*100 {
			return fmt.Errorf("client %d sees %d rows after %d inserts", client, count, round+1)
		}
	}
	return nil
}

func TestClickHouse_StopsAQueryWhoseClientHasGone(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	for name, query := range map[string]string{
		"computing":  "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
		"streaming":  "SELECT number, sleepEachRow(0.001) FROM numbers(1000000) SETTINGS max_block_size = 100",
		"describing": "EXPLAIN PIPELINE SELECT (SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 2)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := uuid.NewString()
			ctx, cancel := context.WithCancel(t.Context())
			ctx = clickhouse.Context(ctx, clickhouse.WithQueryID(id), clickhouse.WithSettings(clickhouse.Settings{
				"cancel_http_readonly_queries_on_client_close": 1,
			}))
			ended := make(chan error, 1)
			go func() {
				rows, err := conn.Query(ctx, query)
				if err == nil {
					for rows.Next() {
					}
					err = errors.Join(rows.Err(), rows.Close())
				}
				ended <- err
			}()
			running := func() bool {
				var count uint64
				err := conn.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE Settings['log_comment'] = ?", id).Scan(&count)
				return err == nil && count > 0
			}
			require.Eventually(t, running, 2*time.Minute, 20*time.Millisecond, "the query never ran")
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
			require.Eventually(t, func() bool { return !running() }, 2*time.Minute, 20*time.Millisecond, "the query goes on without its client")
		})
	}
}

func TestClickHouse_EndsAQueryAtTheDeadline(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_execution_time": 0.3}))
	started := time.Now()
	var exception *clickhouse.Exception
	require.ErrorAs(t, conn.QueryRow(ctx, "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1").Scan(new(uint64)), &exception)
	require.EqualValues(t, 159, exception.Code)
	require.Less(t, time.Since(started), time.Minute)
}

func TestClickHouse_JoinsExternalTables(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	keys, err := ext.NewTable("keys", ext.Column("id", "UInt64"), ext.Column("name", "String"))
	require.NoError(t, err)
	require.NoError(t, keys.Append(uint64(2), "two"))
	require.NoError(t, keys.Append(uint64(5), "five"))
	ctx := clickhouse.Context(t.Context(), clickhouse.WithExternalTable(keys))
	var names []string
	require.NoError(t, conn.QueryRow(ctx, "SELECT groupArray(name) FROM numbers(4) AS n JOIN keys ON keys.id = n.number").Scan(&names))
	require.Equal(t, []string{"two"}, names)
}

// raw sends a request as curl would.
func raw(t *testing.T, method string, parameters url.Values, body io.Reader, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	address, err := url.Parse(sharedEngine.get(t).URL())
	require.NoError(t, err)
	password, _ := address.User.Password()
	target := url.URL{Scheme: "http", Host: address.Host, Path: "/", RawQuery: parameters.Encode()}
	request, err := http.NewRequestWithContext(t.Context(), method, target.String(), body)
	require.NoError(t, err)
	request.SetBasicAuth(address.User.Username(), password)
	for _, apply := range change {
		apply(request)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(content)
}

func TestClickHouse_SpeaksHTTPAsCurlDoes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, method string
		parameters   url.Values
		body         string
		want         string
		contentType  string
	}{
		{"get", "GET", url.Values{"query": {"SELECT 1, 'a'"}}, "", "1\ta\n", "text/tab-separated-values; charset=UTF-8"},
		{"post", "POST", nil, "SELECT 1 -- comment", "1\n", ""},
		{"both", "POST", url.Values{"query": {"SELECT"}}, "42", "42\n", ""},
		{"format in the statement", "POST", nil, "SELECT 1 AS a FORMAT JSONEachRow", "{\"a\":1}\n", "application/x-ndjson; charset=UTF-8"},
		{"default format", "POST", url.Values{"default_format": {"CSVWithNames"}}, "SELECT 1 AS a", "\"a\"\n1\n", "text/csv; charset=UTF-8"},
		{"format wins", "POST", url.Values{"default_format": {"JSON"}}, "SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "1\n", ""},
		{"parameters", "POST", url.Values{"param_a": {"x"}, "param_b": {"[1,2]"}}, "SELECT {a:String}, {b:Array(UInt8)}", "x\t[1,2]\n", ""},
		{"database", "POST", url.Values{"database": {"system"}}, "SELECT currentDatabase()", "system\n", ""},
		{"describe", "POST", url.Values{"default_format": {"TSV"}}, "DESCRIBE (SELECT 1 AS a)", "a\tUInt8\t\t\t\t\t\n", ""},
		{"many blocks with one heading", "POST", url.Values{"default_format": {"CSVWithNames"}, "max_block_size": {"1"}}, "SELECT number AS n FROM numbers(3)", "\"n\"\n0\n1\n2\n", ""},
		{"nothing", "POST", url.Values{"default_format": {"TSV"}}, "SELECT 1 WHERE 0", "", ""},
		{"heredoc", "POST", nil, "SELECT $a$ FORMAT CSV; $a$", " FORMAT CSV; \n", ""},
		{"wait", "POST", url.Values{"wait_end_of_query": {"1"}, "default_format": {"RowBinary"}}, "SELECT toUInt8(7)", "\a", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			response, body := raw(t, test.method, test.parameters, strings.NewReader(test.body))
			require.Equal(t, http.StatusOK, response.StatusCode, body)
			require.Equal(t, test.want, body)
			if test.contentType != "" {
				require.Equal(t, test.contentType, response.Header.Get("Content-Type"))
			}
			require.NotEmpty(t, response.Header.Get("X-ClickHouse-Query-Id"))
		})
	}
	response, _ := raw(t, "POST", url.Values{"query_id": {"mine"}}, strings.NewReader("SELECT 1 FORMAT JSON"))
	require.Equal(t, "mine", response.Header.Get("X-ClickHouse-Query-Id"))
	require.Equal(t, "JSON", response.Header.Get("X-ClickHouse-Format"))
	for path, want := range map[string]string{"/ping": "Ok.\n", "/": "Ok.\n"} {
		_, body := raw(t, "GET", nil, nil, func(request *http.Request) { request.URL.Path = path; request.Header.Del("Authorization") })
		require.Equal(t, want, body)
	}
	response, body := raw(t, "GET", url.Values{"query": {"CREATE DATABASE by_get"}}, nil)
	require.Equal(t, "164", response.Header.Get("X-ClickHouse-Exception-Code"), body)
}

func TestClickHouse_TakesRowsInManyWays(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	var database string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT currentDatabase()").Scan(&database))
	gzipped := func(text string) string {
		var buffer bytes.Buffer
		writer := gzip.NewWriter(&buffer)
		_, err := io.WriteString(writer, text)
		require.NoError(t, errors.Join(err, writer.Close()))
		return buffer.String()
	}
	for i, test := range []struct {
		query, body, encoding string
		want                  string
	}{
		{"INSERT INTO %s FORMAT CSV", "1,\"a\"\n2,b\n", "", "1a 2b"},
		{"INSERT INTO %s (n, s) FORMAT JSONEachRow", `{"n":1,"s":"a;"}{"n":2}`, "", "1a; 2"},
		{"INSERT INTO %s (s, n) VALUES", "('a', 1), (concat('b', 'c'), 1 + 1);", "", "1a 2bc"},
		{"INSERT INTO %s SETTINGS input_format_parallel_parsing = 0 FORMAT TSV", "1\ta\n2\tb", "gzip", "1a 2b"},
		{"", "INSERT INTO %s VALUES (1, 'a FORMAT CSV'), (2, 'b')", "", "1a FORMAT CSV 2b"},
		{"", "insert into %s format JSONEachRow\n{\"n\":1,\"s\":\"SELECT\"}\n", "", "1SELECT"},
		{"", "/* why */ INSERT INTO TABLE %s (n) -- here\n FORMAT CSV\r\n1\n2\n", "", "1 2"},
		{"", "INSERT INTO %s SELECT number + 1, 'FORMAT CSV' FROM numbers(1)", "", "1FORMAT CSV"},
		{"", "INSERT INTO %s WITH 2 AS two SELECT two, 'x'", "", "2x"},
		{"", "INSERT INTO FUNCTION remote('', '', '') SELECT 1", "", "error"},
	} {
		table := database + ".`rows " + strconv.Itoa(i) + "`"
		require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE "+table+" (n UInt32, s String) ENGINE = MergeTree ORDER BY n"))
		fill := func(text string) string { return strings.Replace(text, "%s", table, 1) }
		parameters := url.Values{}
		if test.query != "" {
			parameters.Set("query", fill(test.query))
		}
		body := fill(test.body)
		if test.encoding == "gzip" {
			body = gzipped(body)
		}
		response, answer := raw(t, "POST", parameters, strings.NewReader(body), func(request *http.Request) {
			if test.encoding != "" {
				request.Header.Set("Content-Encoding", test.encoding)
			}
		})
		if test.want == "error" {
			require.NotEqual(t, http.StatusOK, response.StatusCode)
			continue
		}
		require.Equal(t, http.StatusOK, response.StatusCode, "%s%s: %s", test.query, test.body, answer)
		require.Empty(t, answer)
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT arrayStringConcat(groupArray(concat(toString(n), s)), ' ') FROM (SELECT * FROM "+table+" ORDER BY n)").Scan(&got))
		require.Equal(t, test.want, got)
	}

	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, err := writer.CreateFormFile("letters", "letters.tsv")
	require.NoError(t, err)
	_, err = io.WriteString(part, "a\nb\n")
	require.NoError(t, errors.Join(err, writer.WriteField("query", "SELECT max(l) FROM letters"), writer.Close()))
	_, answer := raw(t, "POST", url.Values{"letters_structure": {"l String"}}, &form, func(request *http.Request) {
		request.Header.Set("Content-Type", writer.FormDataContentType())
	})
	require.Equal(t, "b\n", answer)
}

func TestClickHouse_CommitsNoPartOfAnInsertThatBreaksOff(t *testing.T) {
	t.Parallel()
	conn := openAnalytics(t)
	var database string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT currentDatabase()").Scan(&database))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n"))
	address, err := url.Parse(sharedEngine.get(t).URL())
	require.NoError(t, err)
	password, _ := address.User.Password()

	client, err := net.Dial("tcp", address.Host)
	require.NoError(t, err)
	rows := strings.Repeat("1\n", 50_000)
	_, err = fmt.Fprintf(client, "POST /?%s HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: default\r\nX-ClickHouse-Key: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n",
		url.Values{"query": {"INSERT INTO t FORMAT CSV"}, "database": {database}}.Encode(), password, len(rows), rows)
	require.NoError(t, err)
	running := func() bool {
		var count uint64
		err := conn.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE current_database = currentDatabase() AND query LIKE 'INSERT INTO t%'").Scan(&count)
		return err == nil && count > 0
	}
	require.Eventually(t, running, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, client.Close())
	require.Eventually(t, func() bool { return !running() }, 2*time.Minute, 10*time.Millisecond)
	require.Zero(t, countOf(t, conn, "t"))

	response, body := raw(t, "POST", url.Values{"query": {"INSERT INTO t FORMAT CSV"}, "database": {database}}, strings.NewReader("not gzip"),
		func(request *http.Request) { request.Header.Set("Content-Encoding", "gzip") })
	require.Equal(t, "33", response.Header.Get("X-ClickHouse-Exception-Code"), body)
	response, body = raw(t, "POST", url.Values{"query": {"INSERT INTO t FORMAT CSV"}, "database": {database}}, strings.NewReader("1\n2\nthree\n"))
	require.Equal(t, "117", response.Header.Get("X-ClickHouse-Exception-Code"), body)
	require.Zero(t, countOf(t, conn, "t"))
}

func TestClickHouse_RefusesAWrongPassword(t *testing.T) {
	t.Parallel()
	options := engineOptions(t, sharedEngine.get(t))
	options.Auth.Password = "wrong"
	err := openEngine(t, options).Ping(t.Context())
	var exception *clickhouse.Exception
	require.ErrorAs(t, err, &exception)
	require.EqualValues(t, 516, exception.Code)
	var status *clickhouse.HTTPError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusForbidden, status.StatusCode)

	address, err := url.Parse(sharedEngine.get(t).URL())
	require.NoError(t, err)
	password, _ := address.User.Password()
	without := func(request *http.Request) { request.Header.Del("Authorization") }
	response, _ := raw(t, "POST", nil, strings.NewReader("SELECT 1"), without)
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	response, _ = raw(t, "POST", url.Values{"user": {"default"}, "password": {password}}, strings.NewReader("SELECT 1"), without)
	require.Equal(t, http.StatusOK, response.StatusCode)
	response, _ = raw(t, "POST", nil, strings.NewReader("SELECT 1"), without, func(request *http.Request) {
		request.Header.Set("X-ClickHouse-User", "default")
		request.Header.Set("X-ClickHouse-Key", password)
	})
	require.Equal(t, http.StatusOK, response.StatusCode)
}

func TestClickHouse_KeepsDataAndPasswordOverARestart(t *testing.T) {
	t.Parallel()
	cfg := engineConfig(t.TempDir())
	var progress []string
	cfg.Progress = func(line string) { progress = append(progress, line) }
	engine, err := embedded.StartClickHouse(t.Context(), cfg)
	require.NoError(t, err)
	require.NotEmpty(t, progress)
	conn := openEngine(t, engineOptions(t, engine))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n"))
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO kept VALUES (1)"))
	before, err := url.Parse(engine.URL())
	require.NoError(t, err)
	require.NoError(t, engine.Stop(t.Context()))
	require.False(t, processExists(engine.PID()))
	select {
	case <-engine.Done():
	default:
		require.Fail(t, "Stop returned before Done")
	}
	require.Error(t, conn.Ping(t.Context()))

	again := startEngine(t, cfg)
	after, err := url.Parse(again.URL())
	require.NoError(t, err)
	require.Equal(t, before.User, after.User)
	require.EqualValues(t, 1, countOf(t, openEngine(t, engineOptions(t, again)), "kept"))
	info, err := os.Stat(filepath.Join(cfg.Dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestClickHouse_ComesBackWithItsDataWhenTheEngineIsKilled(t *testing.T) {
	t.Parallel()
	engine := startEngine(t, engineConfig(t.TempDir()))
	conn := openEngine(t, engineOptions(t, engine))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE kept (n UInt32) ENGINE = MergeTree ORDER BY n"))
	for round := 1; round <= 2; round++ {
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO kept")
		require.NoError(t, err)
		for n := range 1000 {
			require.NoError(t, batch.Append(uint32(n)))
		}
		require.NoError(t, batch.Send())
		killed := engine.PID()
		require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
		require.Eventually(t, func() bool {
			return engine.PID() != killed && conn.Ping(t.Context()) == nil
		}, 2*time.Minute, 20*time.Millisecond, "the engine did not come back")
		require.EqualValues(t, round*1000, countOf(t, conn, "kept"))
	}
	select {
	case <-engine.Done():
		require.Fail(t, "Done is closed although the engine runs")
	default:
	}
}

func TestClickHouse_EndsWithAParentThatIsKilled(t *testing.T) {
	t.Parallel()
	cfg := engineConfig(t.TempDir())
	parent := exec.Command(os.Args[0], "clickhouse-parent", cfg.Dir)
	output, err := parent.StdoutPipe()
	require.NoError(t, err)
	parent.Stderr = os.Stderr
	require.NoError(t, parent.Start())
	var child int
	_, err = fmt.Fscan(output, &child)
	require.NoError(t, err)
	require.True(t, processExists(child))
	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	startEngine(t, cfg)
	require.Eventually(t, func() bool { return !processExists(child) }, time.Minute, 20*time.Millisecond)
}

func TestClickHouse_SaysInOneLineWhyItCannotStart(t *testing.T) {
	t.Parallel()
	lines := func(cfg embedded.ClickHouseConfig) string {
		_, err := embedded.StartClickHouse(t.Context(), cfg)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "\n")
		return err.Error()
	}

	missing := engineConfig(t.TempDir())
	missing.Library = filepath.Join(t.TempDir(), "libchdb.so")
	require.Contains(t, lines(missing), "clickhouse library")

	broken := engineConfig(t.TempDir())
	broken.Library = filepath.Join(t.TempDir(), "libchdb.so")
	require.NoError(t, os.WriteFile(broken.Library, []byte("not a library"), 0o600))
	require.Contains(t, lines(broken), "load the ClickHouse library")

	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	taken := engineConfig(t.TempDir())
	taken.Port = listener.Addr().(*net.TCPAddr).Port
	require.Contains(t, lines(taken), "another program listens on 127.0.0.1:"+strconv.Itoa(taken.Port))

	held := engineConfig(t.TempDir())
	holder := startEngine(t, held)
	require.Contains(t, lines(held), held.Dir+" is in use by another netra (process "+strconv.Itoa(holder.PID())+")")

	file := engineConfig(filepath.Join(t.TempDir(), "file", "clickhouse"))
	require.NoError(t, os.WriteFile(filepath.Dir(file.Dir), nil, 0o600))
	require.Contains(t, lines(file), "not a directory")
}

func TestClickHouse_StartsNothingWhenTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := embedded.StartClickHouse(ctx, engineConfig(t.TempDir()))
	require.ErrorIs(t, err, context.Canceled)
}

func countOf(t *testing.T, conn driver.Conn, table string) uint64 {
	t.Helper()
	var count uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count() FROM "+table).Scan(&count))
	return count
}

func processExists(pid int) bool { return syscall.Kill(pid, 0) == nil }
