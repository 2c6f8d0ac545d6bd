package embedded

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// engineError is an error of ClickHouse: its text begins with "Code: N. DB::Exception: ".
type engineError struct {
	code int
	text string
}

func (e *engineError) Error() string { return e.text }

// Codes of ClickHouse that this package gives or looks for itself.
const (
	codeCannotReadAllData    = 33
	codeBadArguments         = 36
	codeNotImplemented       = 48
	codeSyntaxError          = 62
	codeQueryTooLarge        = 165
	codeAuthenticationFailed = 516
	codeUnknownException     = 1002
)

var engineErrorPrefix = regexp.MustCompile(`^Code: (\d+)\. `)

func parseEngineError(text string) *engineError {
	if match := engineErrorPrefix.FindStringSubmatch(text); match != nil {
		if code, err := strconv.Atoi(match[1]); err == nil {
			return &engineError{code: code, text: text}
		}
	}
	return newEngineError(codeUnknownException, "UNKNOWN_EXCEPTION", text)
}

func newEngineError(code int, name, message string) *engineError {
	return &engineError{code: code, text: fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, strings.TrimSuffix(message, "."), name)}
}

// findChDB returns the path of libchdb: the one that was named, or what npm installed for this system under a
// chdb directory beside dir, beside the working directory, or beside one of their parents.
func findChDB(named, dir string) (string, error) {
	if named != "" {
		path, err := filepath.Abs(named)
		if err != nil {
			return "", fmt.Errorf("clickhouse library %s: %w", named, err)
		}
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("clickhouse library: %w", err)
		}
		return path, nil
	}
	name, err := chdbPackage(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return "", err
	}
	working, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("clickhouse library: %w", err)
	}
	for _, start := range []string{dir, working} {
		for parent := start; ; parent = filepath.Dir(parent) {
			for _, home := range []string{"chdb", ".netra/chdb"} {
				path := filepath.Join(parent, home, "node_modules", name, "libchdb.so")
				if _, err := os.Stat(path); err == nil {
					return path, nil
				}
			}
			if parent == filepath.Dir(parent) {
				break
			}
		}
	}
	return "", errors.New("the ClickHouse library is not installed: run `make setup`, " +
		"or `npm ci` in a copy of embedded/chdb and set NETRA_CHDB_LIB to its libchdb.so")
}

// chdbPackage names the npm package with the library for one system; embedded/chdb/package.json pins its version.
func chdbPackage(system, architecture string) (string, error) {
	switch system + "/" + architecture {
	case "linux/amd64":
		return "@chdb/lib-linux-x64-gnu", nil
	case "linux/arm64":
		return "@chdb/lib-linux-arm64-gnu", nil
	case "darwin/amd64":
		return "@chdb/lib-darwin-x64", nil
	case "darwin/arm64":
		return "@chdb/lib-darwin-arm64", nil
	}
	return "", fmt.Errorf("there is no embedded ClickHouse for %s/%s: set NETRA_CLICKHOUSE_URL to a server", system, architecture)
}

// chdb is libchdb, the ClickHouse engine behind a C interface. One process can hold one data directory.
type chdb struct {
	setSignalHandlers func(enabled int32)
	connectDirectory  func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConnection   func(conn unsafe.Pointer)
	classifyQuery     func(conn unsafe.Pointer, sql unsafe.Pointer, length uintptr, database unsafe.Pointer, databaseLength uintptr, report unsafe.Pointer) int32
	runQuery          func(conn unsafe.Pointer, sql unsafe.Pointer, length uintptr, format unsafe.Pointer, formatLength uintptr, names, nameLengths, values, valueLengths unsafe.Pointer, count uintptr) unsafe.Pointer
	streamQuery       func(conn unsafe.Pointer, sql unsafe.Pointer, length uintptr, format unsafe.Pointer, formatLength uintptr, names, nameLengths, values, valueLengths unsafe.Pointer, count uintptr) unsafe.Pointer
	streamFetch       func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamCancel      func(conn, stream unsafe.Pointer)
	insertBegin       func(conn unsafe.Pointer, sql unsafe.Pointer, length uintptr, format unsafe.Pointer, formatLength uintptr, names, nameLengths, values, valueLengths unsafe.Pointer, count uintptr) unsafe.Pointer
	insertAppend      func(stream, data unsafe.Pointer, length uintptr) int32
	insertDone        func(stream unsafe.Pointer) unsafe.Pointer
	insertCancel      func(stream unsafe.Pointer)
	insertError       func(stream unsafe.Pointer) unsafe.Pointer
	insertDestroy     func(stream unsafe.Pointer)
	resultBuffer      func(result unsafe.Pointer) unsafe.Pointer
	resultLength      func(result unsafe.Pointer) uintptr
	resultError       func(result unsafe.Pointer) unsafe.Pointer
	resultRowsRead    func(result unsafe.Pointer) uint64
	resultBytesRead   func(result unsafe.Pointer) uint64
	resultRowsWritten func(result unsafe.Pointer) uint64
	resultWritten     func(result unsafe.Pointer) uint64
	resultDestroy     func(result unsafe.Pointer)
}

func loadChDB(path string) (*chdb, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse library: %w", err)
	}
	lib := new(chdb)
	for name, function := range map[string]any{
		"chdb_set_signal_handlers_enabled": &lib.setSignalHandlers,
		"chdb_connect":                     &lib.connectDirectory,
		"chdb_close_conn":                  &lib.closeConnection,
		"chdb_classify_query_n":            &lib.classifyQuery,
		"chdb_query_with_params_n":         &lib.runQuery,
		"chdb_stream_query_with_params_n":  &lib.streamQuery,
		"chdb_stream_fetch_result":         &lib.streamFetch,
		"chdb_stream_cancel_query":         &lib.streamCancel,
		"chdb_stream_insert_with_params_n": &lib.insertBegin,
		"chdb_stream_append":               &lib.insertAppend,
		"chdb_stream_done":                 &lib.insertDone,
		"chdb_stream_cancel_insert":        &lib.insertCancel,
		"chdb_stream_insert_error":         &lib.insertError,
		"chdb_destroy_insert_stream":       &lib.insertDestroy,
		"chdb_result_buffer":               &lib.resultBuffer,
		"chdb_result_length":               &lib.resultLength,
		"chdb_result_error":                &lib.resultError,
		"chdb_result_storage_rows_read":    &lib.resultRowsRead,
		"chdb_result_storage_bytes_read":   &lib.resultBytesRead,
		"chdb_result_rows_written":         &lib.resultRowsWritten,
		"chdb_result_bytes_written":        &lib.resultWritten,
		"chdb_destroy_query_result":        &lib.resultDestroy,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("the ClickHouse library %s is of another version: %w", path, err)
		}
		purego.RegisterFunc(function, symbol)
	}
	// The handlers would take over SIGSEGV and the like, which Go's runtime needs for itself.
	lib.setSignalHandlers(0)
	return lib, nil
}

// chdbSession is one session of the engine: its current database, settings and temporary tables. It runs one
// statement at a time, and all its calls must come from one operating-system thread.
type chdbSession struct {
	lib    *chdb
	opened unsafe.Pointer
	handle unsafe.Pointer
}

// connect opens a session. The first one of a process starts the engine on the --path among the arguments; every
// further one costs about 0.1 ms. The engine gives the reason of a failure only on standard error.
func (l *chdb) connect(arguments []string) (*chdbSession, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	argv := []unsafe.Pointer{}
	for _, argument := range append([]string{"clickhouse"}, arguments...) {
		text := append([]byte(argument), 0)
		pinner.Pin(&text[0])
		argv = append(argv, unsafe.Pointer(&text[0]))
	}
	argc := int32(len(argv))
	argv = append(argv, nil)
	opened := l.connectDirectory(argc, unsafe.Pointer(&argv[0]))
	if opened == nil {
		return nil, errors.New("the ClickHouse engine did not open a session")
	}
	return &chdbSession{lib: l, opened: opened, handle: *(*unsafe.Pointer)(opened)}, nil
}

func (c *chdbSession) close() { c.lib.closeConnection(c.opened) }

// chdbParameters are the values of {name:Type} placeholders.
type chdbParameters map[string]string

// arguments lays the parameters out as the four parallel arrays of the C interface. The pinner keeps them in place
// until the call is over.
func (p chdbParameters) arguments(pinner *runtime.Pinner) (names, nameLengths, values, valueLengths unsafe.Pointer, count uintptr) {
	if len(p) == 0 {
		return nil, nil, nil, nil, 0
	}
	order := slices.Collect(maps.Keys(p))
	texts := make([]unsafe.Pointer, 0, 2*len(p))
	lengths := make([]uintptr, 0, 2*len(p))
	add := func(value string) {
		text, length := cText(pinner, value)
		texts, lengths = append(texts, text), append(lengths, length)
	}
	for _, name := range order {
		add(name)
	}
	for _, name := range order {
		add(p[name])
	}
	pinner.Pin(&texts[0])
	pinner.Pin(&lengths[0])
	n := len(p)
	return unsafe.Pointer(&texts[0]), unsafe.Pointer(&lengths[0]), unsafe.Pointer(&texts[n]), unsafe.Pointer(&lengths[n]), uintptr(n)
}

// cText pins a string's bytes and returns what the C interface takes.
func cText(pinner *runtime.Pinner, value string) (unsafe.Pointer, uintptr) {
	bytes := []byte(value + "\x00")
	pinner.Pin(&bytes[0])
	return unsafe.Pointer(&bytes[0]), uintptr(len(value))
}

// statementClass is what a statement does to anything that outlives it.
type statementClass uint32

const classReadOnly statementClass = 0

// classify parses the text and returns how many statements it holds and the strongest of their classes; 0 statements
// mean that it does not parse.
func (c *chdbSession) classify(sql string) (statements int, class statementClass) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	query, length := cText(&pinner, sql)
	report := struct{ size, statements, flags, class uint32 }{size: 16}
	pinner.Pin(&report)
	if c.lib.classifyQuery(c.handle, query, length, nil, 0, unsafe.Pointer(&report)) != 0 {
		return 0, classReadOnly
	}
	return int(report.statements), statementClass(report.class)
}

// chdbStatistics say what a query has read and written.
type chdbStatistics struct {
	readRows, readBytes, writtenRows, writtenBytes uint64
}

// query runs a statement to its end and then yields its whole output once, if there is any. The bytes are valid
// during the call only.
func (c *chdbSession) query(sql, format string, params chdbParameters, yield func([]byte, chdbStatistics) error) error {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	query, length := cText(&pinner, sql)
	form, formLength := cText(&pinner, format)
	names, nameLengths, values, valueLengths, count := params.arguments(&pinner)
	result := c.lib.runQuery(c.handle, query, length, form, formLength, names, nameLengths, values, valueLengths, count)
	defer c.lib.resultDestroy(result)
	if err := c.lib.failure(result); err != nil {
		return err
	}
	return yield(c.lib.output(result), c.lib.statistics(result))
}

// exec runs a statement for its effect.
func (c *chdbSession) exec(sql string) error {
	return c.query(sql, "Null", nil, func([]byte, chdbStatistics) error { return nil })
}

// errNotStreamable says that the engine can only run this statement to its end; nothing has happened yet.
var errNotStreamable = errors.New("statement cannot be streamed")

// stream runs a SELECT and yields its output block by block as the engine makes it. Each block begins the format
// anew, so only formats without a beginning and an end of their own may be asked for. When yield fails the query is
// cancelled and stream returns that error.
func (c *chdbSession) stream(sql, format string, params chdbParameters, yield func([]byte, chdbStatistics) error) error {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	query, length := cText(&pinner, sql)
	form, formLength := cText(&pinner, format)
	names, nameLengths, values, valueLengths, count := params.arguments(&pinner)
	stream := c.lib.streamQuery(c.handle, query, length, form, formLength, names, nameLengths, values, valueLengths, count)
	defer c.lib.resultDestroy(stream)
	if err := c.lib.failure(stream); err != nil {
		var engine *engineError
		if errors.As(err, &engine) && engine.code == codeBadArguments && strings.Contains(engine.text, "Streaming query is not supported") {
			return errNotStreamable
		}
		return err
	}
	for {
		more, err := c.fetch(stream, yield)
		if err != nil || !more {
			return err
		}
	}
}

func (c *chdbSession) fetch(stream unsafe.Pointer, yield func([]byte, chdbStatistics) error) (more bool, err error) {
	result := c.lib.streamFetch(c.handle, stream)
	defer c.lib.resultDestroy(result)
	if err := c.lib.failure(result); err != nil {
		return false, err
	}
	output := c.lib.output(result)
	if len(output) == 0 {
		return false, nil
	}
	if err := yield(output, chdbStatistics{}); err != nil {
		c.lib.streamCancel(c.handle, stream)
		return false, err
	}
	return true, nil
}

// chdbInsert is an INSERT that takes its rows piece by piece. Nothing is committed before done, apart from whole
// blocks of max_insert_block_size rows. close frees it, cancelling it first if it was not done.
type chdbInsert struct {
	lib    *chdb
	stream unsafe.Pointer
	done   bool
}

func (c *chdbSession) insert(sql, format string, params chdbParameters) (*chdbInsert, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	query, length := cText(&pinner, sql)
	form, formLength := cText(&pinner, format)
	names, nameLengths, values, valueLengths, count := params.arguments(&pinner)
	stream := c.lib.insertBegin(c.handle, query, length, form, formLength, names, nameLengths, values, valueLengths, count)
	if reason := c.lib.insertError(stream); reason != nil {
		defer c.lib.insertDestroy(stream)
		return nil, parseEngineError(goString(reason))
	}
	return &chdbInsert{lib: c.lib, stream: stream}, nil
}

// append reports whether the engine still takes data; when it does not, commit says why.
func (i *chdbInsert) append(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&data[0])
	return i.lib.insertAppend(i.stream, unsafe.Pointer(&data[0]), uintptr(len(data))) == 0
}

func (i *chdbInsert) commit() (chdbStatistics, error) {
	i.done = true
	result := i.lib.insertDone(i.stream)
	defer i.lib.resultDestroy(result)
	if err := i.lib.failure(result); err != nil {
		return chdbStatistics{}, err
	}
	return i.lib.statistics(result), nil
}

func (i *chdbInsert) close() {
	if !i.done {
		i.lib.insertCancel(i.stream)
	}
	i.lib.insertDestroy(i.stream)
}

func (l *chdb) failure(result unsafe.Pointer) error {
	if reason := l.resultError(result); reason != nil {
		return parseEngineError(goString(reason))
	}
	return nil
}

func (l *chdb) output(result unsafe.Pointer) []byte {
	length := l.resultLength(result)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(l.resultBuffer(result)), length)
}

func (l *chdb) statistics(result unsafe.Pointer) chdbStatistics {
	return chdbStatistics{
		readRows: l.resultRowsRead(result), readBytes: l.resultBytesRead(result),
		writtenRows: l.resultRowsWritten(result), writtenBytes: l.resultWritten(result),
	}
}

func goString(text unsafe.Pointer) string {
	length := 0
	for *(*byte)(unsafe.Add(text, length)) != 0 {
		length++
	}
	return strings.Clone(unsafe.String((*byte)(text), length))
}

// quoteName and quoteText write a name and a string as ClickHouse reads them.
func quoteName(name string) string { return "`" + escapeQuoted(name, '`') + "`" }
func quoteText(text string) string { return "'" + escapeQuoted(text, '\'') + "'" }

func escapeQuoted(text string, quote byte) string {
	escaped := make([]byte, 0, len(text)+2)
	for _, b := range []byte(text) {
		if b == quote || b == '\\' {
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, b)
	}
	return string(escaped)
}
