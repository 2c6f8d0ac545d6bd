package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

const (
	textHash = "reference_hash(name, metadata, content)"
	// unembedded is word for word the condition of idx_references_unembedded.
	unembedded = "(embedding IS NULL OR embedding_hash IS NOT NULL) AND embedding_hash IS DISTINCT FROM " + textHash
	// outdated was embedded before the model was chosen.
	outdated = "embedded_at < (SELECT since FROM embedding_settings) AND embedding_hash = " + textHash
	// embeddingStatus is an EmbeddingStatus.
	embeddingStatus = "(CASE WHEN embedding IS NOT NULL AND embedding_hash IS NULL THEN 'ready'" +
		" WHEN " + textHash + " IS NULL OR NOT EXISTS (SELECT FROM embedding_settings) THEN 'none'" +
		" WHEN embedding_hash IS DISTINCT FROM " + textHash + " OR embedded_at < (SELECT since FROM embedding_settings) THEN 'pending'" +
		" WHEN embedding_error IS NOT NULL THEN 'failed' ELSE 'ready' END)"
)

// The methods below are for our own background work: their contexts carry models.System.

// EmbeddingModel is the model that embeds for all replicas. Where there is none yet, it becomes the one given.
func (s *Store) EmbeddingModel(ctx context.Context, first string) (string, error) {
	var model string
	err := s.db.DB.QueryRowContext(ctx, "SELECT model FROM embedding_settings").Scan(&model)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := s.db.DB.ExecContext(ctx, "INSERT INTO embedding_settings (model) VALUES ($1) ON CONFLICT DO NOTHING", first); err != nil {
			return "", translate(ctx, err)
		}
		err = s.db.DB.QueryRowContext(ctx, "SELECT model FROM embedding_settings").Scan(&model)
	}
	return model, translate(ctx, err)
}

// SetEmbeddingModel makes everything that has been embedded or refused until now wait to be embedded by this model.
func (s *Store) SetEmbeddingModel(ctx context.Context, model string) error {
	_, err := s.db.DB.ExecContext(ctx, `INSERT INTO embedding_settings (model, since) VALUES ($1, clock_timestamp())
		ON CONFLICT (only_row) DO UPDATE SET model = EXCLUDED.model, since = EXCLUDED.since`, model)
	return translate(ctx, err)
}

// RetryEmbeddings makes the texts that were refused wait again, and says how many they are.
func (s *Store) RetryEmbeddings(ctx context.Context) (int, error) {
	result, err := s.db.DB.ExecContext(ctx, `UPDATE "references" SET embedding_hash = NULL, embedded_at = NULL, embedding_error = NULL WHERE embedding_error IS NOT NULL`)
	if err != nil {
		return 0, translate(ctx, err)
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// ClaimEmbeddings takes at most limit references whose texts wait, for a lease: nobody else gets them before it ends. A holder is a name for one
// claim. It takes nothing where the model that embeds is another.
func (s *Store) ClaimEmbeddings(ctx context.Context, model string, holder uuid.UUID, limit int, lease time.Duration) ([]models.EmbeddingJob, error) {
	// The rows' locks are held for this statement only. Who comes at the same time skips them; who read a moment before them finds the job taken.
	const candidates = `SELECT id, user_id FROM "references" AS r WHERE EXISTS (SELECT FROM embedding_settings WHERE model = $1) AND %s
		AND NOT EXISTS (SELECT FROM embedding_jobs j WHERE j.reference_id = r.id AND j.due > clock_timestamp()) ORDER BY %s LIMIT $3::int FOR NO KEY UPDATE SKIP LOCKED`
	_, err := s.db.DB.ExecContext(ctx, `WITH
		waiting AS (`+fmt.Sprintf(candidates, unembedded, "updated_at")+`),
		outdated AS (`+fmt.Sprintf(candidates, outdated, "embedded_at")+`)
		INSERT INTO embedding_jobs (reference_id, user_id, holder, due)
		SELECT id, user_id, $2::uuid, clock_timestamp() + make_interval(secs => $4::float8)
		FROM (SELECT * FROM waiting UNION ALL SELECT * FROM outdated LIMIT $3::int) AS candidates
		ON CONFLICT (reference_id) DO UPDATE SET holder = EXCLUDED.holder, due = EXCLUDED.due WHERE embedding_jobs.due <= clock_timestamp()`,
		model, holder, limit, lease.Seconds())
	if err != nil {
		return nil, translate(ctx, err)
	}
	return query[models.EmbeddingJob](ctx, s, fixed(`SELECT id, reference_text(name, metadata, content) AS text, `+textHash+` AS hash, attempts
		FROM embedding_jobs JOIN "references" ON id = reference_id WHERE holder = $1::uuid ORDER BY updated_at`, holder))
}

// SettleEmbedding ends a job with an embedding, or with the reason why there is none; without both the text has gone. It does nothing where
// the text is another by now, where a writer has given an embedding, where the job has passed to another holder or the model to another, and says so.
func (s *Store) SettleEmbedding(ctx context.Context, holder uuid.UUID, job models.EmbeddingJob, model, vector, reason string) (written bool, err error) {
	result, err := s.db.DB.ExecContext(ctx, `WITH job AS (DELETE FROM embedding_jobs WHERE reference_id = $1::uuid AND holder = $2::uuid RETURNING reference_id)
		UPDATE "references" SET embedding = nullif($4::text, '')::vector, embedding_hash = $3::bigint,
			embedding_model = CASE WHEN $3 IS NOT NULL THEN $5::text END, embedded_at = CASE WHEN $3 IS NOT NULL THEN clock_timestamp() END, embedding_error = nullif($6::text, '')
		FROM job WHERE id = reference_id AND (embedding IS NULL OR embedding_hash IS NOT NULL) AND `+textHash+` IS NOT DISTINCT FROM $3
			AND EXISTS (SELECT FROM embedding_settings WHERE model = $5::text)`,
		job.ID, holder, job.Hash, vector, model, reason)
	if err != nil {
		return false, translate(ctx, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// PostponeEmbedding gives a job back, to be tried again after a pause. attempts counts the failures that were this text's own.
func (s *Store) PostponeEmbedding(ctx context.Context, holder uuid.UUID, job models.EmbeddingJob, pause time.Duration, reason string) error {
	_, err := s.db.DB.ExecContext(ctx, `UPDATE embedding_jobs SET holder = gen_random_uuid(), due = clock_timestamp() + make_interval(secs => $3::float8), attempts = $4::int, error = $5::text
		WHERE reference_id = $1::uuid AND holder = $2::uuid`, job.ID, holder, pause.Seconds(), job.Attempts, reason)
	return translate(ctx, err)
}

// ReleaseEmbeddings gives all jobs of a holder back, to be tried again after a pause.
func (s *Store) ReleaseEmbeddings(ctx context.Context, holder uuid.UUID, pause time.Duration, reason string) error {
	_, err := s.db.DB.ExecContext(ctx, `UPDATE embedding_jobs SET due = clock_timestamp() + make_interval(secs => $2::float8), error = nullif($3::text, '')
		WHERE holder = $1::uuid AND due > clock_timestamp()`, holder, pause.Seconds(), reason)
	return translate(ctx, err)
}

// EmbeddingBacklog is how many references wait to be embedded, counted up to most.
func (s *Store) EmbeddingBacklog(ctx context.Context, most int) (int, error) {
	q := new(statement)
	limit := q.arg(most) + "::int"
	q.WriteString(`SELECT count(*) FROM ((SELECT 1 FROM "references" WHERE ` + unembedded + " LIMIT " + limit + `) UNION ALL (SELECT 1 FROM "references" WHERE ` + outdated + " LIMIT " + limit + ")) AS waiting")
	n, err := s.number(ctx, q)
	return min(n, most), err
}

// EmbeddingStates counts references by status, and tells which model embeds; "" where none has yet. It reads the whole table.
func (s *Store) EmbeddingStates(ctx context.Context) (model string, counts map[models.EmbeddingStatus]int, err error) {
	err = s.db.DB.QueryRowContext(ctx, "SELECT coalesce((SELECT model FROM embedding_settings), '')").Scan(&model)
	if err != nil {
		return "", nil, translate(ctx, err)
	}
	q := new(statement)
	q.WriteString("SELECT " + embeddingStatus + ` AS key, count(*) AS count FROM "references" GROUP BY 1`)
	counts, err = count[models.EmbeddingStatus](ctx, s, q)
	return model, counts, err
}
