package embedded

import "strings"

// sqlToken is a piece of SQL: a word (a bare name, keyword or number), or anything else, of which only punctuation is
// told apart. Comments and space are not tokens.
type sqlToken struct {
	kind       byte // 'w' for a word, 'q' for quoted text or name, otherwise the character itself
	start, end int
}

// nextToken returns the token at or after position. There is none at the end and where a quote is not closed.
func nextToken(sql string, position int) (sqlToken, bool) {
	for position < len(sql) {
		rest := sql[position:]
		switch c := rest[0]; {
		case c <= ' ':
			position++
		case strings.HasPrefix(rest, "--"), c == '#':
			position = after(sql, position, "\n")
		case strings.HasPrefix(rest, "/*"):
			position = after(sql, position+2, "*/")
		case c == '\'', c == '"', c == '`':
			end, closed := quotedEnd(sql, position)
			return sqlToken{'q', position, end}, closed
		case c == '$':
			if tag := strings.IndexByte(rest[1:], '$'); tag >= 0 && wordEnd(sql, position+1) == position+1+tag {
				delimiter := rest[:tag+2]
				return sqlToken{'q', position, after(sql, position+len(delimiter), delimiter)}, true
			}
			return sqlToken{c, position, position + 1}, true
		case isWord(c):
			return sqlToken{'w', position, wordEnd(sql, position)}, true
		default:
			return sqlToken{c, position, position + 1}, true
		}
	}
	return sqlToken{}, false
}

// after is the position behind the next mark, or the end.
func after(sql string, position int, mark string) int {
	if found := strings.Index(sql[position:], mark); found >= 0 {
		return position + found + len(mark)
	}
	return len(sql)
}

func quotedEnd(sql string, position int) (end int, closed bool) {
	quote := sql[position]
	for i := position + 1; i < len(sql); i++ {
		switch {
		case sql[i] == '\\':
			i++
		case sql[i] == quote && i+1 < len(sql) && sql[i+1] == quote:
			i++
		case sql[i] == quote:
			return i + 1, true
		}
	}
	return len(sql), false
}

func isWord(c byte) bool {
	return c == '_' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func wordEnd(sql string, position int) int {
	for position < len(sql) && isWord(sql[position]) {
		position++
	}
	return position
}

// sqlScanner walks over the tokens outside parentheses and brackets.
type sqlScanner struct {
	sql      string
	position int
}

// next returns the next token outside parentheses; a group in parentheses counts as the one token '('.
func (s *sqlScanner) next() (sqlToken, bool) {
	token, ok := nextToken(s.sql, s.position)
	if !ok {
		return token, false
	}
	s.position = token.end
	depth := 0
	for inner := token; ; {
		switch inner.kind {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		}
		if depth <= 0 {
			token.end = s.position
			return token, true
		}
		if inner, ok = nextToken(s.sql, s.position); !ok {
			return token, false
		}
		s.position = inner.end
	}
}

func (s *sqlScanner) is(token sqlToken, keywords ...string) bool {
	if token.kind != 'w' {
		return false
	}
	for _, keyword := range keywords {
		if strings.EqualFold(s.sql[token.start:token.end], keyword) {
			return true
		}
	}
	return false
}

// insertStatement is an INSERT whose rows follow its text.
type insertStatement struct {
	head   string // the statement without its FORMAT or VALUES
	format string // "" when the statement names none
	data   int    // where the rows begin
}

// parseInsert recognises an INSERT that brings its rows along, as against INSERT … SELECT and all other statements.
// The text may go on with rows of any kind: nothing behind the format is looked at.
func parseInsert(sql string) (insertStatement, bool) {
	s := &sqlScanner{sql: sql}
	token, ok := s.next()
	if !ok || !s.is(token, "INSERT") {
		return insertStatement{}, false
	}
	if token, ok = s.next(); ok && s.is(token, "INTO") {
		token, ok = s.next()
	}
	if ok && s.is(token, "TABLE", "FUNCTION") {
		token, ok = s.next()
	}
	// The target's name may be any word, so it is passed over before keywords are looked for.
	for ok {
		if token, ok = s.next(); !ok || token.kind != '.' {
			break
		}
		_, ok = s.next()
	}
	for ; ok; token, ok = s.next() {
		switch {
		case token.kind == '(':
			inner := &sqlScanner{sql: sql, position: token.start + 1}
			if first, found := inner.next(); found && inner.is(first, "SELECT", "WITH") {
				return insertStatement{}, false
			}
		case token.kind == ';':
			return insertStatement{head: sql[:token.start], data: token.end}, true
		case s.is(token, "SELECT", "WITH", "WATCH", "FROM"):
			return insertStatement{}, false
		case s.is(token, "VALUES"):
			return insertStatement{head: sql[:token.start], format: "Values", data: token.end}, true
		case s.is(token, "FORMAT"):
			name, found := s.next()
			if !found || name.kind != 'w' {
				return insertStatement{}, false
			}
			return insertStatement{head: sql[:token.start], format: sql[name.start:name.end], data: rowsStart(sql, name.end)}, true
		}
	}
	return insertStatement{head: sql, data: len(sql)}, true
}

// isOneSelect recognises most texts that are one SELECT without INTO OUTFILE, so that the engine need not parse them twice. Of the others it
// says nothing.
func isOneSelect(sql string) bool {
	begun := false
	for position := 0; ; {
		token, ok := nextToken(sql, position)
		if !ok {
			return begun && token == sqlToken{}
		}
		s := sqlScanner{sql: sql}
		if !begun && !s.is(token, "SELECT", "WITH") || token.kind == ';' || s.is(token, "INTO", "INSERT") {
			return false
		}
		begun, position = true, token.end
	}
}

// rowsStart passes over the space behind a format's name and at most one line break.
func rowsStart(sql string, position int) int {
	for position < len(sql) && strings.IndexByte(" \t\f", sql[position]) >= 0 {
		position++
	}
	if strings.HasPrefix(sql[position:], "\r\n") {
		return position + 2
	}
	if strings.HasPrefix(sql[position:], "\n") {
		return position + 1
	}
	return position
}

// outputFormat is the format that a statement asks for in its FORMAT clause, or the fallback.
func outputFormat(sql, fallback string) string {
	s := &sqlScanner{sql: sql}
	for {
		token, ok := s.next()
		if !ok {
			return fallback
		}
		if !s.is(token, "FORMAT") {
			continue
		}
		name, ok := nextToken(sql, s.position)
		if !ok || name.kind != 'w' {
			continue
		}
		behind, more := nextToken(sql, name.end)
		if !more || behind.kind == ';' || s.is(behind, "SETTINGS") {
			return sql[name.start:name.end]
		}
	}
}
