package main

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// workload is one thing that a screen asks for. Both documents give answers of the same shape.
type workload struct {
	name     string
	what     string
	document string // for our graph, which the hand-written peers serve too
	// graphile is the same in the graph that PostGraphile derives from the tables.
	graphile string
	writes   bool
	promised bool // its p99: latency is measured in more slices, and at one rate for all besides
}

const threadFields, runFields = "id title status createdAt", "id status agentType createdAt"

var (
	reference = workload{
		name: "reference", what: "viewer → 20 threads → 20 messages and 5 runs each", promised: true,
		document: `query Reference { viewer { id name threads(first: 20) { nodes { ` + threadFields + `
			messages(first: 20) { nodes { id role content createdAt } } runs(first: 5) { nodes { ` + runFields + ` } } } } } }`,
		graphile: `query Reference($viewer: Int!) { viewer: userByRowId(rowId: $viewer) { id name threads: threadsByUserId(first: 20, orderBy: [CREATED_AT_DESC, PRIMARY_KEY_DESC]) { nodes { ` + threadFields + `
			messages: messagesByThreadIdAndUserId(first: 20, orderBy: [CREATED_AT_ASC, PRIMARY_KEY_ASC]) { nodes { id role content createdAt } }
			runs: runsByThreadIdAndUserId(first: 5, orderBy: [CREATED_AT_DESC, PRIMARY_KEY_DESC]) { nodes { ` + runFields + ` } } } } } }`,
	}
	point = workload{
		name: "point", what: "one thread by its id",
		document: `query Point($thread: ID!) { thread(id: $thread) { ` + threadFields + ` } }`,
		graphile: `query Point($thread: UUID!) { thread: threadByRowId(rowId: $thread) { ` + threadFields + ` } }`,
	}
	totals = workload{
		name: "totals", what: "viewer → 20 threads, of how many, with the number of messages of each",
		document: `query Totals { viewer { threads(first: 20) { totalCount nodes { ` + threadFields + ` messages { totalCount } } } } }`,
		graphile: `query Totals($viewer: Int!) { viewer: userByRowId(rowId: $viewer) { threads: threadsByUserId(first: 20, orderBy: [CREATED_AT_DESC, PRIMARY_KEY_DESC]) { totalCount nodes { ` + threadFields + ` messages: messagesByThreadIdAndUserId { totalCount } } } } }`,
	}
	fanIn = workload{
		name: "fan-in", what: "viewer → 100 runs → the user and the thread of each",
		document: `query FanIn { viewer { runs(first: 100) { nodes { ` + runFields + ` user { id email } thread { id title } } } } }`,
		graphile: `query FanIn($viewer: Int!) { viewer: userByRowId(rowId: $viewer) { runs: runsByUserId(first: 100, orderBy: [CREATED_AT_DESC, PRIMARY_KEY_DESC]) { nodes { ` + runFields + ` user: userByUserId { id email } thread: threadByThreadIdAndUserId { id title } } } } }`,
	}
	mutation = workload{
		name: "mutation", what: "createThread, answered with the thread", writes: true,
		document: `mutation Create($title: String!) { create: createThread(input: {title: $title}) { thread { title status } } }`,
		graphile: `mutation Create($title: String!, $viewer: Int!) { create: createThread(input: {thread: {title: $title, userId: $viewer}}) { thread { title status } } }`,
	}
	workloads = []workload{reference, point, totals, fanIn, mutation}
)

// dialect is which of the documents a contender understands, and how it names objects.
type dialect int

const (
	ours dialect = iota
	graphile
)

// requests are the whole workload as HTTP, one request for each user with that user's token.
func (w workload) requests(d dialect, data *dataset, tokens []string, host string) ([][]byte, error) {
	list := make([][]byte, data.users)
	for u := range list {
		body := map[string]any{"query": w.document}
		thread := threadOf(data, u, u%threadsPerUser)
		variables := map[string]any{}
		switch {
		case w.name == point.name && d == ours:
			variables["thread"] = models.GlobalID{Kind: models.KindThread, Key: thread.String()}.String()
		case w.name == point.name:
			variables["thread"] = thread
		case w.writes:
			variables["title"] = writtenTitle
		}
		if d == graphile {
			body["query"] = w.graphile
			if w.name != point.name {
				variables["viewer"] = firstUser + u
			}
		}
		if len(variables) > 0 {
			body["variables"] = variables
		}
		payload, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		list[u] = fmt.Appendf(nil, "POST /graphql HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%s",
			host, tokens[u], len(payload), payload)
	}
	return list, nil
}

// threadOf is the id of the i-th thread of the u-th user.
func threadOf(d *dataset, u, i int) uuid.UUID {
	return uuid.UUID(md5.Sum([]byte("thread" + strconv.Itoa(u+i*d.users))))
}

var (
	anUUID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	aNumber  = regexp.MustCompile(`[0-9]{6,}`)
	encoding = base64.RawURLEncoding
)

// canonical reads an answer so that answers with the same content are equal, whatever their global ids, enums and times look like.
func canonical(answer []byte) (any, error) {
	var parsed struct {
		Data   any               `json:"data"`
		Errors []json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return nil, fmt.Errorf("%w in %.300s", err, answer)
	}
	if len(parsed.Errors) > 0 || parsed.Data == nil {
		return nil, fmt.Errorf("no answer: %.500s", answer)
	}
	return canonicalValue("", parsed.Data), nil
}

func canonicalValue(key string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			value[key] = canonicalValue(key, inner)
		}
	case []any:
		for i, inner := range value {
			value[i] = canonicalValue(key, inner)
		}
	case float64:
		if key == "id" {
			return strconv.Itoa(int(math.Round(value)))
		}
	case string:
		switch key {
		case "id":
			return databaseID(value)
		case "role", "status":
			return strings.ToUpper(value)
		case "createdAt":
			if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
				return at.UTC().Format(time.RFC3339Nano)
			}
		}
	}
	return value
}

// databaseID is the key inside a global id.
func databaseID(id string) string {
	text := id
	if decoded, err := encoding.DecodeString(strings.TrimRight(id, "=")); err == nil && !anUUID.MatchString(id) {
		text = string(decoded)
	}
	if found := anUUID.FindString(text); found != "" {
		return found
	}
	return aNumber.FindString(text)
}
