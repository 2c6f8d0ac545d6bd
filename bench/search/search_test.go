// Package search_test measures what search promises: full text over a million messages, and similarity over 200,000 embeddings with its recall,
// each as netra_app through the whole server.
package search_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/bench/edge"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// tenants are users, of whom the first has half of everything.
const tenants = 100

// people and their threads; words follow Zipf's law over a vocabulary of 30,000, about 50 in each message. As in English, most of the commonest
// are words that PostgreSQL does not index; the first five stand for those that a platform's users write all the time.
const people = `
	INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 100) n;
	INSERT INTO threads (id, user_id, title, created_at) SELECT md5('thread' || n)::uuid, CASE WHEN n % 2 = 0 THEN 1 ELSE 2 + n / 2 % 99 END, 'thread ' || n, now() - n * interval '1 minute'
		FROM generate_series(0, 9999) n;`

const stopWords = `i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its itself they them
	their theirs themselves what which who whom this that these those am is are was were be been being have has had having do does did doing a
	an the and but if or because as until while of at by for with about against between into through during before after above below to from up
	down in out on off over under again further then once here there when where why how all`

const messages = `
	SELECT setseed(0.5);
	INSERT INTO messages (thread_id, user_id, role, content, created_at)
	SELECT md5('thread' || n % 10000)::uuid, CASE WHEN n % 2 = 0 THEN 1 ELSE 2 + n % 10000 / 2 % 99 END, 'user',
		(SELECT string_agg(CASE WHEN rank BETWEEN 6 AND 105 THEN stop[rank - 5] ELSE 'v' || translate(rank::text, '0123456789', 'abcdeghijk') END, ' ')
			FROM (SELECT floor(exp(random() * ln(30000)))::int AS rank FROM generate_series(1, 40 + n % 20)) AS words),
		timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series(0, 999999) n, regexp_split_to_array('` + stopWords + `', '\s+') AS stop;`

// word is one of the vocabulary that is indexed: 1 is in nearly every message, 106 in one of 23, 30,000 in one of 6,000.
func word(n int) string {
	var text []byte
	for _, digit := range fmt.Sprint(n) {
		text = append(text, "abcdeghijk"[digit-'0'])
	}
	return "v" + string(text)
}

// written is one of the vocabulary, as often as it is written.
func written(r *rand.Rand) string {
	for {
		if rank := int(math.Exp(r.Float64() * math.Log(30_000))); rank < 6 || rank > 105 {
			return word(rank)
		}
	}
}

func BenchmarkFullText(b *testing.B) {
	db := testdb.New(b)
	owner := db.Owner(b)
	execute(b, owner, people)
	rebuilt(b, owner, "messages", func() {
		execute(b, owner, "ALTER TABLE messages DISABLE TRIGGER USER; "+messages+" ALTER TABLE messages ENABLE TRIGGER USER")
	})
	execute(b, owner, "VACUUM ANALYZE messages, threads")
	api := edge.Open(b, db)
	const query = `query($q: String!) { search(query: $q, types: [MESSAGE], first: 20) { nodes { score snippet { text matches } message { content thread { title } } } } }`
	shapes := map[string]func(r *rand.Rand) string{
		"rare":     func(r *rand.Rand) string { return word(3000 + r.IntN(27000)) },
		"middling": func(r *rand.Rand) string { return word(106 + r.IntN(1000)) },
		"common":   func(r *rand.Rand) string { return word(1 + r.IntN(5)) },
		"three-words": func(r *rand.Rand) string {
			return word(1+r.IntN(5)) + " " + word(106+r.IntN(50)) + " " + word(150+r.IntN(500))
		},
		"two-of-three": func(r *rand.Rand) string {
			return word(300+r.IntN(3000)) + " or " + word(3000+r.IntN(9000)) + " -" + word(5)
		},
		"phrase": func(r *rand.Rand) string { return `"` + written(r) + " " + written(r) + `"` },
	}
	names := []string{"rare", "middling", "common", "three-words", "two-of-three", "phrase"}
	for _, user := range []int{1, 7} {
		all := []time.Duration{}
		r := rand.New(rand.NewPCG(1, uint64(user)))
		took := map[string][]time.Duration{}
		for range 5 * len(names) { // warm
			api.Ask(b.Context(), b, user, query, map[string]any{"q": shapes[names[r.IntN(len(names))]](r)})
		}
		for range 40 {
			for _, name := range names {
				_, t := api.Ask(b.Context(), b, user, query, map[string]any{"q": shapes[name](r)})
				took[name], all = append(took[name], t), append(all, t)
			}
		}
		for _, name := range names {
			b.Logf("user %d, %s: p50 %v, p95 %v", user, name, edge.Percentile(took[name], 50), edge.Percentile(took[name], 95))
		}
		b.ReportMetric(float64(edge.Percentile(all, 50).Microseconds())/1000, fmt.Sprintf("user%d-p50-ms", user))
		b.ReportMetric(float64(edge.Percentile(all, 95).Microseconds())/1000, fmt.Sprintf("user%d-p95-ms", user))
	}
	explain(b, db, "search_documents('"+word(3)+"', '{message}', 500)")
}

func BenchmarkSimilarity(b *testing.B) {
	db := testdb.New(b)
	owner := db.Owner(b)
	execute(b, owner, people)
	rebuilt(b, owner, `"references"`, func() { embed(b, db.OwnerURL, 200_000) })
	execute(b, owner, `VACUUM ANALYZE "references"`)
	var size string
	require.NoError(b, owner.QueryRowContext(b.Context(), "SELECT pg_size_pretty(pg_relation_size('idx_references_embedding'))").Scan(&size))
	b.Logf("the index has %s", size)
	api := edge.Open(b, db)
	const query = `query($to: SimilarityInput!) { similarReferences(to: $to, first: 10) { score reference { databaseId name } } }`
	for _, user := range []int{1, 7} {
		var all []time.Duration
		right, probes := 0, 0
		rows, err := owner.QueryContext(b.Context(), `SELECT id FROM "references" WHERE user_id = $1 ORDER BY md5(id::text) LIMIT 60`, user)
		require.NoError(b, err)
		var ids []string
		for rows.Next() {
			var id string
			require.NoError(b, rows.Scan(&id))
			ids = append(ids, id)
		}
		require.NoError(b, rows.Err())
		to := func(id string) map[string]any {
			return map[string]any{"to": map[string]any{"referenceId": models.GlobalID{Kind: models.KindReference, Key: id}.String()}}
		}
		for _, id := range ids[:20] { // warm, and compared with the exact answer
			text, _ := api.Ask(b.Context(), b, user, query, to(id))
			var answer struct {
				Data struct {
					SimilarReferences []struct{ Reference struct{ DatabaseID string } }
				}
			}
			require.NoError(b, json.Unmarshal(text, &answer))
			var exact []byte
			require.NoError(b, owner.QueryRowContext(b.Context(), `SELECT json_agg(id) FROM (SELECT id FROM "references" WHERE user_id = $1 AND id <> $2
				ORDER BY embedding <=> (SELECT embedding FROM "references" WHERE id = $2) LIMIT 10) nearest`, user, id).Scan(&exact))
			var nearest []string
			require.NoError(b, json.Unmarshal(exact, &nearest))
			for _, similar := range answer.Data.SimilarReferences {
				if slices.Contains(nearest, similar.Reference.DatabaseID) {
					right++
				}
			}
			probes += 10
		}
		for range 5 {
			for _, id := range ids {
				_, took := api.Ask(b.Context(), b, user, query, to(id))
				all = append(all, took)
			}
		}
		b.ReportMetric(float64(right)/float64(probes), fmt.Sprintf("user%d-recall@10", user))
		b.ReportMetric(float64(edge.Percentile(all, 50).Microseconds())/1000, fmt.Sprintf("user%d-p50-ms", user))
		b.ReportMetric(float64(edge.Percentile(all, 95).Microseconds())/1000, fmt.Sprintf("user%d-p95-ms", user))
	}
}

// embed loads n embeddings as texts have them: points of a thousand clusters in 48 dimensions, seen in 1536 with noise.
func embed(b *testing.B, ownerURL string, n int) {
	const latent, clusters = 48, 1000
	r := rand.New(rand.NewPCG(1, 2))
	normal := func(n int) []float32 {
		list := make([]float32, n)
		for i := range list {
			list[i] = float32(r.NormFloat64())
		}
		return list
	}
	view, centres := normal(latent*models.EmbeddingDimensions), normal(clusters*latent)
	reader, writer := io.Pipe()
	go func() {
		out := bufio.NewWriterSize(writer, 1<<20)
		put := func(value any) { _ = binary.Write(out, binary.BigEndian, value) } // a broken pipe ends COPY, which tells
		_, _ = out.WriteString("PGCOPY\n\xff\r\n\x00")
		put([2]int32{})
		for i := range n {
			user := int32(1)
			if i%2 == 1 {
				user = int32(2 + i/2%(tenants-1))
			}
			point, centre := normal(latent), r.IntN(clusters)*latent
			vector := normal(models.EmbeddingDimensions)
			var squares float64
			for d := range vector {
				vector[d] *= 3.5
			}
			for j := range point {
				z := centres[centre+j] + 0.5*point[j]
				for d, along := range view[j*models.EmbeddingDimensions : (j+1)*models.EmbeddingDimensions] {
					vector[d] += z * along
				}
			}
			for _, x := range vector {
				squares += float64(x) * float64(x)
			}
			length := float32(math.Sqrt(squares))
			for d := range vector {
				vector[d] /= length
			}
			put(int16(4))
			put([2]int32{4, user})
			put(int32(len("reference")))
			_, _ = out.WriteString("reference")
			put(int32(len("document")))
			_, _ = out.WriteString("document")
			put(int32(4 + 4*len(vector)))
			put([2]int16{int16(len(vector)), 0})
			put(vector)
		}
		put(int16(-1))
		_ = writer.CloseWithError(out.Flush())
	}()
	conn, err := pgx.Connect(b.Context(), ownerURL)
	require.NoError(b, err)
	defer conn.Close(context.WithoutCancel(b.Context()))
	_, err = conn.PgConn().CopyFrom(b.Context(), reader, `COPY "references" (user_id, name, type, embedding) FROM STDIN (FORMAT binary)`)
	require.NoError(b, err)
}

// rebuilt drops a table's indexes of search, loads, and builds them again, as one does with a million rows.
func rebuilt(b *testing.B, owner *sql.DB, table string, load func()) {
	rows, err := owner.QueryContext(b.Context(), `SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam
		WHERE indrelid = $1::text::regclass AND amname IN ('gin', 'hnsw')`, table)
	require.NoError(b, err)
	indexes := map[string]string{}
	for rows.Next() {
		var name, definition string
		require.NoError(b, rows.Scan(&name, &definition))
		indexes[name] = definition
	}
	require.NoError(b, rows.Err())
	for name := range indexes {
		execute(b, owner, "DROP INDEX "+name)
	}
	began := time.Now()
	load()
	b.Logf("loading took %v", time.Since(began))
	for name, definition := range indexes {
		began := time.Now()
		execute(b, owner, definition)
		b.Logf("building %s took %v", name, time.Since(began))
	}
}

func execute(b *testing.B, db *sql.DB, statements string) {
	_, err := db.ExecContext(b.Context(), statements)
	require.NoError(b, err)
}

// explain logs the plan of what a function asks inside.
func explain(b *testing.B, db *testdb.DB, call string) {
	conn, err := db.App(b).Conn(b.Context())
	require.NoError(b, err)
	defer conn.Close()
	_, err = conn.ExecContext(b.Context(), "SELECT set_config('netra.user_id', '1', false)")
	require.NoError(b, err)
	rows, err := conn.QueryContext(b.Context(), "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM "+call)
	require.NoError(b, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(b, rows.Scan(&line))
		b.Log(line)
	}
	require.NoError(b, rows.Err())
}

func BenchmarkSupplyFilters(b *testing.B) {
	db := testdb.New(b)
	owner := db.Owner(b)
	execute(b, owner, people)
	execute(b, owner, `INSERT INTO supply_catalog (user_id, name, category, specifications, created_at) SELECT CASE WHEN n % 2 = 1 THEN n % 100 END, 'item ' || n, 'compute',
		jsonb_build_object('half', n / 2 % 2 = 0, 'gpu', jsonb_build_object('model', 'model ' || n / 2 % 10000, 'memory', n)), timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series(1, 200000) n`)
	execute(b, owner, "VACUUM ANALYZE supply_catalog")
	api := edge.Open(b, db)
	const query = `query($c: [JSONCondition!]) { supplyItems(filter: {specifications: $c}) { nodes { name specifications } } }`
	condition := func(operator string, value any, path ...string) map[string]any {
		return map[string]any{"c": []any{map[string]any{"path": path, "operator": operator, "value": value}}}
	}
	for name, variables := range map[string]map[string]any{
		"ten-of-200000":  condition("EQ", "model 77", "gpu", "model"),
		"any-of-three":   condition("IN", []string{"model 1", "model 2", "model 3"}, "gpu", "model"),
		"every-second":   condition("EQ", true, "half"),
		"at-least":       condition("GE", 100_000, "gpu", "memory"),
		"at-most-at-end": condition("LE", 20, "gpu", "memory"),
	} {
		var all []time.Duration
		for range 40 {
			_, took := api.Ask(b.Context(), b, 7, query, variables)
			all = append(all, took)
		}
		b.ReportMetric(float64(edge.Percentile(all[10:], 95).Microseconds())/1000, name+"-p95-ms")
	}
}
