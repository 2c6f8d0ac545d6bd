package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// readers is how many users have references.
	readers           = 100
	referencesPerUser = 3
	// embeddingLength is the column's.
	embeddingLength = 1536
)

// library writes what there is little of: references, supply items and API keys.
func (s *seeder) library(ctx context.Context, tx pgx.Tx) error {
	batch := new(pgx.Batch)
	last := s.first + s.size.Users - 1
	references, keys := 0, 0
	for user := s.first; user <= min(last, s.first+readers-1); user++ {
		for n := range referencesPerUser {
			s.reference(batch, user, n)
			references++
		}
		if s.turn(kindKey, user); user <= demoUsers || s.IntN(4) == 0 {
			s.key(batch, user)
			keys++
		}
	}
	items := 0
	if s.first == 1 {
		for n, item := range catalogue {
			s.supplyItem(batch, n, nil, item)
			items++
		}
	}
	for user := s.first; user <= min(last, s.first+demoUsers-1); user++ {
		s.turn(kindSupply, user)
		item := one(s.fiction, catalogue)
		item.name += " (reserved)"
		s.supplyItem(batch, len(catalogue)+user, user, item)
		items++
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write references, supply items and API keys: %w", err)
	}
	s.say("wrote references: %d, supply items: %d, API keys: %d", references, items, keys)
	return nil
}

func (s *seeder) reference(batch *pgx.Batch, user, n int) {
	s.turn(kindReference, user, n)
	id, about := s.id(), s.topic()
	typ := one(s.fiction, []string{"document", "document", "dataset", "configuration"})
	file := map[string]struct{ extension, mime string }{
		"document": {".md", "text/markdown"}, "dataset": {".csv", "text/csv"}, "configuration": {".json", "application/json"},
	}[typ]
	content := about.answer(s.fiction)
	created := s.now.Add(-s.share(60 * 24 * time.Hour)).Truncate(time.Millisecond)
	metadata := fmt.Sprintf(`{"workload": %q}`, about.place)
	// Some have no embedding yet, as in life; those of the demo users all have, so that a search finds something.
	var embedding any
	if user <= demoUsers || s.IntN(3) > 0 {
		embedding = s.embedding(about)
	}
	batch.Queue(`INSERT INTO "references" (id, user_id, name, type, content, file_path, file_size, mime_type, embedding, created_at, updated_at, metadata)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::vector, $10, $10, $11)`,
		id, user, about.subject+" of the "+about.place+file.extension, typ, content, fmt.Sprintf("references/%d/%x%s", user, id[:4], file.extension),
		len(content), file.mime, embedding, created, metadata)
}

// embedding is a unit vector as pgvector reads it. Those of one subject lie close together, as a language model would put them.
func (s *seeder) embedding(about topic) string {
	values := make([]float64, embeddingLength)
	for i := range values {
		values[i] = 0.4 * s.NormFloat64()
	}
	for subject := range subjects {
		if subjects[subject] == about.subject {
			s.turn(kindTopic, subject)
		}
	}
	length := 0.0
	for i := range values {
		values[i] += s.NormFloat64()
		length += values[i] * values[i]
	}
	text := []byte{'['}
	for i, value := range values {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, value/math.Sqrt(length), 'g', 6, 32)
	}
	return string(append(text, ']'))
}

// key is one that nobody knows: it shows in lists and signs nobody in.
func (s *seeder) key(batch *pgx.Batch, user int) {
	s.turn(kindKey, user, 1)
	hash := sha256.Sum256(fmt.Append(nil, s.Uint64(), s.Uint64()))
	created := s.now.Add(-24*time.Hour - s.share(60*24*time.Hour)).Truncate(time.Millisecond)
	batch.Queue("INSERT INTO api_keys (id, user_id, name, key_hash, last_used_at, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		s.id(), user, one(s.fiction, []string{"notebook", "nightly evaluation", "ci", "dashboard"}), hex.EncodeToString(hash[:]),
		s.now.Add(-s.share(24*time.Hour)).Truncate(time.Millisecond), created.AddDate(1, 0, 0), created)
}

type supplyItem struct {
	name, category, provider                           string
	specifications, pricing, availability, performance string
}

func (s *seeder) supplyItem(batch *pgx.Batch, n int, user any, item supplyItem) {
	s.turn(kindSupply, 0, n)
	created := s.now.Add(-past - s.share(100*24*time.Hour)).Truncate(time.Millisecond)
	batch.Queue(`INSERT INTO supply_catalog (id, user_id, name, category, provider, specifications, pricing, availability, performance_metrics, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)`,
		s.id(), user, item.name, item.category, item.provider, item.specifications, item.pricing, item.availability, item.performance, created)
}

const (
	everywhere = `{"regions": ["eu-west-1", "us-east-1", "us-west-2", "ap-southeast-1"], "sla_percent": 99.9}`
	scarce     = `{"regions": ["us-east-1"], "sla_percent": 99.5, "waitlist": true}`
)

var catalogue = []supplyItem{
	{"H100 80 GB", "compute", "aws", `{"gpu": "h100", "memory_gb": 80, "vcpus": 24}`, `{"usd_per_hour": 6.88, "spot_usd_per_hour": 3.9}`, scarce, `{"tokens_per_second": 5200, "p95_latency_ms": 210}`},
	{"A100 80 GB", "compute", "gcp", `{"gpu": "a100", "memory_gb": 80, "vcpus": 12}`, `{"usd_per_hour": 4.1, "spot_usd_per_hour": 1.6}`, everywhere, `{"tokens_per_second": 2400, "p95_latency_ms": 340}`},
	{"L4 24 GB", "compute", "gcp", `{"gpu": "l4", "memory_gb": 24, "vcpus": 8}`, `{"usd_per_hour": 0.71, "spot_usd_per_hour": 0.28}`, everywhere, `{"tokens_per_second": 420, "p95_latency_ms": 780}`},
	{"Inferentia2 xlarge", "compute", "aws", `{"accelerator": "inferentia2", "memory_gb": 32, "vcpus": 4}`, `{"usd_per_hour": 0.76}`, everywhere, `{"tokens_per_second": 510, "p95_latency_ms": 690}`},
	{"General purpose 16 vCPU", "compute", "azure", `{"memory_gb": 64, "vcpus": 16}`, `{"usd_per_hour": 0.77}`, everywhere, `{"tokens_per_second": 18}`},
	{"gpt-4o", "model", "openai", `{"context_tokens": 128000, "modalities": ["text", "image"]}`, `{"usd_per_million_input": 2.5, "usd_per_million_output": 10}`, everywhere, `{"tokens_per_second": 95, "p95_latency_ms": 2600}`},
	{"gpt-4o-mini", "model", "openai", `{"context_tokens": 128000, "modalities": ["text", "image"]}`, `{"usd_per_million_input": 0.15, "usd_per_million_output": 0.6}`, everywhere, `{"tokens_per_second": 160, "p95_latency_ms": 1200}`},
	{"claude-sonnet", "model", "anthropic", `{"context_tokens": 200000, "modalities": ["text", "image"]}`, `{"usd_per_million_input": 3, "usd_per_million_output": 15}`, everywhere, `{"tokens_per_second": 80, "p95_latency_ms": 3000}`},
	{"claude-haiku", "model", "anthropic", `{"context_tokens": 200000, "modalities": ["text"]}`, `{"usd_per_million_input": 0.8, "usd_per_million_output": 4}`, everywhere, `{"tokens_per_second": 150, "p95_latency_ms": 1050}`},
	{"llama-3-70b", "model", "self-hosted", `{"context_tokens": 8192, "modalities": ["text"], "memory_gb": 160}`, `{"usd_per_million_input": 0.6, "usd_per_million_output": 0.8}`, everywhere, `{"tokens_per_second": 60, "p95_latency_ms": 1900}`},
	{"Object storage", "storage", "aws", `{"durability": "11 nines", "tier": "standard"}`, `{"usd_per_gb_month": 0.023}`, everywhere, `{"throughput_mb_per_second": 400}`},
	{"Block storage SSD", "storage", "gcp", `{"iops": 15000, "tier": "ssd"}`, `{"usd_per_gb_month": 0.17}`, everywhere, `{"throughput_mb_per_second": 1200}`},
	{"Vector store M", "storage", "azure", `{"dimensions": 1536, "vectors": 5000000}`, `{"usd_per_hour": 0.9}`, everywhere, `{"queries_per_second": 800, "recall_at_10": 0.97}`},
	{"Internet egress", "network", "aws", `{"direction": "egress"}`, `{"usd_per_gb": 0.09}`, everywhere, `{"throughput_mb_per_second": 600}`},
	{"Private interconnect 10 G", "network", "gcp", `{"bandwidth_gbps": 10}`, `{"usd_per_month": 1700}`, scarce, `{"latency_ms": 1.8}`},
}
