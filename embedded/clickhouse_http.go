package embedded

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// queryLimit bounds a statement's text; the rows of an INSERT do not count.
	queryLimit = 16 << 20
	// insertTextLimit is how far into a body an INSERT's own text may reach.
	insertTextLimit = 256 << 10
	// answerBuffer is how much of a result is kept back, so that an error until then is still an error status.
	answerBuffer = 1 << 20
	// tagSetting labels a running query so that it can be found and killed: the library chooses query ids itself. It has
	// no effect of its own while the query cache is off.
	tagSetting = "query_cache_tag"
)

// requestParameters are the URL parameters of ClickHouse's HTTP interface that are not settings.
var requestParameters = map[string]bool{
	"query": true, "database": true, "default_format": true, "query_id": true, "quota_key": true, "stacktrace": true,
	"user": true, "password": true, "compress": true, "decompress": true, "client_protocol_version": true,
	"buffer_size": true, "wait_end_of_query": true, "session_timeout": true, "session_check": true, "close_session": true,
}

// clickHouseServer is ClickHouse's HTTP interface in front of the library. Every request has a session of its own, so
// that nothing of one (settings, database, temporary tables) is left for the next.
type clickHouseServer struct {
	engine    *chdb
	arguments []string // of every session
	user      string
	password  string
	places    chan struct{}
	log       *slog.Logger
}

func newClickHouseServer(engine *chdb, arguments []string, user, password string, log *slog.Logger) *clickHouseServer {
	return &clickHouseServer{
		engine: engine, arguments: arguments, user: user, password: password,
		places: make(chan struct{}, queriesAtOnce), log: log,
	}
}

func (s *clickHouseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ping", "/replicas_status":
		_, _ = io.WriteString(w, "Ok.\n")
		return
	case "", "/":
	default:
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
		return
	}
	given := r.URL.Query()
	if r.Method == http.MethodGet && !given.Has("query") {
		_, _ = io.WriteString(w, "Ok.\n")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		http.Error(w, "The embedded engine answers GET and POST", http.StatusMethodNotAllowed)
		return
	}
	answer := &clickHouseAnswer{w: w, limit: answerBuffer, exceptionTag: rand.Text()[:16]}
	if given.Get("wait_end_of_query") == "1" {
		answer.limit = -1
	}
	w.Header().Set("X-ClickHouse-Server-Display-Name", "netra")
	w.Header().Set("X-ClickHouse-Timezone", "UTC")
	w.Header().Set("X-ClickHouse-Exception-Tag", answer.exceptionTag)
	if err := s.serve(answer, r, given); err != nil {
		answer.fail(err)
		return
	}
	answer.finish()
}

func (s *clickHouseServer) serve(answer *clickHouseAnswer, r *http.Request, given url.Values) error {
	if err := s.authenticate(r, given); err != nil {
		return err
	}
	if given.Has("session_id") {
		return newEngineError(codeNotImplemented, "NOT_IMPLEMENTED", "the embedded engine keeps no sessions: leave session_id out")
	}
	query, err := readQuery(r, given)
	if err != nil {
		return err
	}
	answer.w.Header().Set("X-ClickHouse-Query-Id", query.id)

	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	// The library keeps a query's bookkeeping in the thread that it was started from.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	session, err := s.engine.connect(s.arguments)
	if err != nil {
		return newEngineError(codeUnknownException, "UNKNOWN_EXCEPTION", err.Error())
	}
	defer session.close()
	if err := session.exec(query.prelude()); err != nil {
		return err
	}
	for _, table := range query.external {
		if err := table.fill(session); err != nil {
			return err
		}
	}
	if query.rows != nil {
		return runInsert(answer, session, query)
	}
	return s.runQuery(r.Context(), answer, session, query)
}

func (s *clickHouseServer) authenticate(r *http.Request, given url.Values) error {
	user, password, ok := r.BasicAuth()
	if !ok {
		user, password = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	}
	if user == "" {
		user, password = given.Get("user"), given.Get("password")
	}
	if user == "" {
		user = "default"
	}
	sameUser := subtle.ConstantTimeCompare([]byte(user), []byte(s.user))
	samePassword := subtle.ConstantTimeCompare([]byte(password), []byte(s.password))
	if sameUser&samePassword == 1 {
		return nil
	}
	return newEngineError(codeAuthenticationFailed, "AUTHENTICATION_FAILED",
		user+": Authentication failed: password is incorrect, or there is no user with such name")
}

// clickHouseQuery is what a request asks for.
type clickHouseQuery struct {
	id, tag     string
	sql         string
	format      string // default_format, or what an INSERT's rows are in
	params      chdbParameters
	database    string
	settings    map[string]string
	revision    uint64 // of the Native format, 0 for the plain one
	frames      bool   // answer in ClickHouse's compressed frames
	gzip        bool
	stoppable   bool      // kill the query when the client goes away and nothing was to be written
	rows        io.Reader // an INSERT's rows; nil for any other statement
	external    []externalTable
	compression string
}

func readQuery(r *http.Request, given url.Values) (*clickHouseQuery, error) {
	query := &clickHouseQuery{
		id: given.Get("query_id"), tag: rand.Text(),
		format:   firstOf(given.Get("default_format"), r.Header.Get("X-ClickHouse-Format"), "TabSeparated"),
		database: firstOf(given.Get("database"), r.Header.Get("X-ClickHouse-Database")),
		params:   chdbParameters{}, settings: map[string]string{},
		frames:      given.Get("compress") == "1",
		compression: given.Get("network_compression_method"),
		stoppable:   isOn(given.Get("cancel_http_readonly_queries_on_client_close")),
		gzip:        isOn(given.Get("enable_http_compression")) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"),
	}
	if version := given.Get("client_protocol_version"); version != "" {
		revision, err := strconv.ParseUint(version, 10, 32)
		if err != nil {
			return nil, newEngineError(codeBadArguments, "BAD_ARGUMENTS", "client_protocol_version is not a number")
		}
		query.revision = revision
	}
	multipart := strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
	body, err := decodedBody(r.Body, r.Header.Get("Content-Encoding"), given.Get("decompress") == "1")
	if err != nil {
		return nil, unreadable(err)
	}
	if multipart {
		text, err := query.readExternal(r, given)
		if err != nil {
			return nil, err
		}
		body = strings.NewReader(text)
	}
	for name := range given {
		switch {
		case strings.HasPrefix(name, "param_"):
			query.params[strings.TrimPrefix(name, "param_")] = given.Get(name)
		case !requestParameters[name] && !query.describesExternal(name):
			query.settings[name] = given.Get(name)
		}
	}
	query.settings[tagSetting] = query.tag
	if query.id == "" {
		query.id = query.tag
	}
	if _, set := query.settings["log_comment"]; !set {
		query.settings["log_comment"] = query.id
	}
	if _, set := query.settings["readonly"]; !set && r.Method == http.MethodGet {
		query.settings["readonly"] = "2"
	}
	return query, query.readText(given.Get("query"), body)
}

// readText takes the statement from the URL and the body. What follows an INSERT's text is left in the body.
func (q *clickHouseQuery) readText(text string, body io.Reader) error {
	if text != "" {
		text += "\n"
		body = io.MultiReader(strings.NewReader(text), body)
	}
	reader := bufio.NewReaderSize(body, max(insertTextLimit, len(text)))
	start := []byte(text)
	if insert, ok := parseInsert(text); !ok || insert.data == len(text) && insert.format == "" {
		var err error
		if start, err = reader.Peek(reader.Size()); err != nil && !errors.Is(err, io.EOF) {
			return unreadable(err)
		}
	}
	if insert, ok := parseInsert(string(start)); ok {
		q.sql, q.rows = insert.head, reader
		if insert.format != "" {
			q.format = insert.format
		}
		if _, err := reader.Discard(insert.data); err != nil {
			return unreadable(err)
		}
		return nil
	}
	sql, err := io.ReadAll(io.LimitReader(reader, queryLimit+1))
	if err != nil {
		return unreadable(err)
	}
	if len(sql) > queryLimit {
		return newEngineError(codeQueryTooLarge, "QUERY_IS_TOO_LARGE", fmt.Sprintf("the query is longer than %d bytes", queryLimit))
	}
	q.sql = string(sql)
	return nil
}

// prelude brings a new session to where the query starts.
func (q *clickHouseQuery) prelude() string {
	var sql strings.Builder
	if q.database != "" {
		fmt.Fprintf(&sql, "USE %s; ", quoteName(q.database))
	}
	for i, name := range slices.Sorted(maps.Keys(q.settings)) {
		if i == 0 {
			sql.WriteString("SET ")
		} else {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "%s = %s", quoteName(name), quoteText(q.settings[name]))
	}
	return sql.String()
}

// externalTable is a temporary table that a client sends along with its query.
type externalTable struct {
	name, structure, format string
	rows                    []byte
}

func (q *clickHouseQuery) readExternal(r *http.Request, given url.Values) (text string, err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return "", unreadable(err)
	}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return text, nil
		}
		if err != nil {
			return "", unreadable(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return "", unreadable(err)
		}
		name := part.FormName()
		if part.FileName() == "" && name == "query" {
			text += string(content)
			continue
		}
		table := externalTable{
			name: name, rows: content,
			structure: given.Get(name + "_structure"), format: firstOf(given.Get(name+"_format"), "TabSeparated"),
		}
		if table.structure == "" {
			return "", newEngineError(codeBadArguments, "BAD_ARGUMENTS", "the external table "+name+" needs "+name+"_structure")
		}
		q.external = append(q.external, table)
	}
}

func (q *clickHouseQuery) describesExternal(parameter string) bool {
	return slices.ContainsFunc(q.external, func(table externalTable) bool {
		return parameter == table.name+"_structure" || parameter == table.name+"_format"
	})
}

func (t externalTable) fill(session *chdbSession) error {
	name := quoteName(t.name)
	if err := session.exec("CREATE TEMPORARY TABLE " + name + " (" + t.structure + ") ENGINE = Memory"); err != nil {
		return err
	}
	insert, err := session.insert("INSERT INTO "+name, t.format, nil)
	if err != nil {
		return err
	}
	defer insert.close()
	insert.append(t.rows)
	_, err = insert.commit()
	return err
}

// runInsert hands the rows on as they come. When they end early nothing more is committed and the client gets an error.
func runInsert(answer *clickHouseAnswer, session *chdbSession, query *clickHouseQuery) error {
	insert, err := session.insert(query.sql, query.format, query.params)
	if err != nil {
		return err
	}
	defer insert.close()
	for piece := make([]byte, insertTextLimit); ; {
		n, err := query.rows.Read(piece)
		if taken := insert.append(piece[:n]); !taken || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return unreadable(err)
		}
	}
	done, err := insert.commit()
	if err != nil {
		return err
	}
	answer.summarise(done)
	return nil
}

func (s *clickHouseServer) runQuery(ctx context.Context, answer *clickHouseAnswer, session *chdbSession, query *clickHouseQuery) error {
	statements, class := 1, classReadOnly
	if !isOneSelect(query.sql) {
		statements, class = session.classify(query.sql)
	}
	if statements > 1 {
		return newEngineError(codeSyntaxError, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
	}
	format := outputFormat(query.sql, query.format)
	answer.w.Header().Set("X-ClickHouse-Format", format)
	answer.w.Header().Set("Content-Type", contentType(format))
	answer.encode(query)
	if class == classReadOnly && query.stoppable {
		defer s.killWhenGone(ctx, query.tag)()
	}
	yield := func(output []byte, done chdbStatistics) error {
		answer.summarise(done)
		if query.revision > 0 && strings.EqualFold(format, "Native") {
			return reviseNative(answer, output, query.revision)
		}
		_, err := answer.Write(output)
		return err
	}
	const arrayOfRows = "output_format_json_array_of_rows"
	_, array := query.settings[arrayOfRows]
	if class == classReadOnly && streamable[strings.ToLower(format)] && !array && !strings.Contains(query.sql, arrayOfRows) {
		if err := session.stream(query.sql, query.format, query.params, yield); !errors.Is(err, errNotStreamable) {
			return err
		}
	}
	if err := session.query(query.sql, query.format, query.params, yield); err != nil {
		return err
	}
	if statements == 0 {
		// The library takes an empty text, or "exit", for a wish to say nothing.
		return newEngineError(codeSyntaxError, "SYNTAX_ERROR", "Syntax error: there is no query")
	}
	return nil
}

// killWhenGone kills the query with that tag once ctx has ended, and again until the returned function is called:
// the query may not have begun yet.
func (s *clickHouseServer) killWhenGone(ctx context.Context, tag string) (over func()) {
	finished := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		for {
			if err := s.kill(tag); err != nil {
				s.log.Warn("kill a query whose client has gone", "error", err)
			}
			select {
			case <-finished:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return func() {
		stop()
		close(finished)
	}
}

func (s *clickHouseServer) kill(tag string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	session, err := s.engine.connect(s.arguments)
	if err != nil {
		return err
	}
	defer session.close()
	return session.exec("KILL QUERY WHERE Settings[" + quoteText(tagSetting) + "] = " + quoteText(tag) + " ASYNC")
}

// clickHouseAnswer writes a result. It keeps the beginning back until limit is exceeded or the result is whole, so
// that an error by then can still be the whole answer; later ones go behind the rows, marked as ClickHouse does.
type clickHouseAnswer struct {
	w            http.ResponseWriter
	limit        int // bytes; negative keeps everything back
	exceptionTag string
	held         bytes.Buffer
	sent         bool
	encoders     []io.Writer // the last one is written to first
}

// heldWriter is the end of the chain of encoders.
type heldWriter struct{ answer *clickHouseAnswer }

func (h heldWriter) Write(data []byte) (int, error) {
	a := h.answer
	if !a.sent {
		a.held.Write(data)
		if a.limit < 0 || a.held.Len() <= a.limit {
			return len(data), nil
		}
		a.sent = true
		_, err := a.held.WriteTo(a.w)
		return len(data), err
	}
	return a.w.Write(data)
}

func (a *clickHouseAnswer) encode(query *clickHouseQuery) {
	a.encoders = []io.Writer{heldWriter{a}}
	if query.gzip {
		a.w.Header().Set("Content-Encoding", "gzip")
		zipped, _ := gzip.NewWriterLevel(a.encoders[0], gzip.BestSpeed) // the level is a valid one
		a.encoders = append(a.encoders, zipped)
	}
	if query.frames {
		a.encoders = append(a.encoders, newFrameWriter(a.encoders[len(a.encoders)-1], query.compression))
	}
}

func (a *clickHouseAnswer) Write(data []byte) (int, error) {
	return a.encoders[len(a.encoders)-1].Write(data)
}

func (a *clickHouseAnswer) summarise(done chdbStatistics) {
	if a.sent || done == (chdbStatistics{}) {
		return
	}
	number := func(value uint64) string { return strconv.FormatUint(value, 10) }
	summary, err := json.Marshal(map[string]string{
		"read_rows": number(done.readRows), "read_bytes": number(done.readBytes),
		"written_rows": number(done.writtenRows), "written_bytes": number(done.writtenBytes),
	})
	if err == nil {
		a.w.Header().Set("X-ClickHouse-Summary", string(summary))
	}
}

func (a *clickHouseAnswer) closeEncoders() {
	for _, encoder := range slices.Backward(a.encoders) {
		if closer, ok := encoder.(io.Closer); ok {
			_ = closer.Close()
		}
	}
}

func (a *clickHouseAnswer) finish() {
	if a.held.Len() == 0 && !a.sent {
		a.w.Header().Del("Content-Encoding")
		return
	}
	a.closeEncoders()
	if !a.sent {
		a.w.Header().Set("Content-Length", strconv.Itoa(a.held.Len()))
		_, _ = a.held.WriteTo(a.w)
	}
}

func (a *clickHouseAnswer) fail(err error) {
	var engine *engineError
	if !errors.As(err, &engine) {
		engine = newEngineError(codeUnknownException, "UNKNOWN_EXCEPTION", err.Error())
	}
	if a.sent {
		// A client looks for this frame behind the rows. It stays outside ClickHouse's compressed frames, where a client
		// that fails to read the next one finds it.
		outer := a.encoders[0]
		if len(a.encoders) > 1 {
			if _, zipped := a.encoders[1].(*gzip.Writer); zipped {
				outer = a.encoders[1]
			}
		}
		_, _ = fmt.Fprintf(outer, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n",
			a.exceptionTag, engine.text, len(engine.text)+1, a.exceptionTag)
		a.closeEncoders()
		return
	}
	header := a.w.Header()
	for _, name := range []string{"Content-Encoding", "X-ClickHouse-Format", "X-ClickHouse-Summary"} {
		header.Del(name)
	}
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("X-ClickHouse-Exception-Code", strconv.Itoa(engine.code))
	a.w.WriteHeader(engine.status())
	_, _ = io.WriteString(a.w, engine.text+"\n")
}

// status is the HTTP status that ClickHouse gives to an error.
func (e *engineError) status() int {
	switch e.code {
	case 194: // a password is required
		return http.StatusUnauthorized
	case 192, 193, 497, 512, codeAuthenticationFailed: // unknown user, wrong password, access denied, role not granted
		return http.StatusForbidden
	case codeBadArguments, codeSyntaxError, 6, 8, 15, 25, 26, 27, 37, 38, 41, 44, 53, 72, 117, 123, 167, 168, 223, 321,
		376, 427, 441, 675, 676: // what cannot be parsed, columns and types that do not fit
		return http.StatusBadRequest
	case 46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511: // unknown function, identifier, type, table, database, …
		return http.StatusNotFound
	case codeQueryTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeNotImplemented:
		return http.StatusNotImplemented
	case 76, 209, 439: // a file that does not open, a socket's time, no thread
		return http.StatusServiceUnavailable
	case 159: // max_execution_time
		return http.StatusRequestTimeout
	}
	return http.StatusInternalServerError
}

// unreadable is the error of a body that ended early or was not in the encoding that it claims.
func unreadable(err error) error {
	var engine *engineError
	if errors.As(err, &engine) {
		return engine
	}
	return newEngineError(codeCannotReadAllData, "CANNOT_READ_ALL_DATA", "Cannot read the request's body: "+err.Error())
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func isOn(setting string) bool { return setting == "1" || strings.EqualFold(setting, "true") }
