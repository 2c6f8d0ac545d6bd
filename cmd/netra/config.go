package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// config is everything that the environment says. A command's flags override it.
type config struct {
	Addr              string // NETRA_ADDR: where the server listens
	DatabaseURL       string // NETRA_DATABASE_URL: PostgreSQL as the application role
	OwnerDatabaseURL  string // NETRA_OWNER_DATABASE_URL: PostgreSQL as the owner, for migrations and maintenance
	ClickHouseURL     string // NETRA_CLICKHOUSE_URL: http:// or clickhouse://
	ClickHouseCluster string // NETRA_CLICKHOUSE_CLUSTER: migrations make replicated and distributed tables on this cluster
	DataDir           string // NETRA_DATA_DIR: where the embedded engines keep their data
	SpoolDir          string // NETRA_SPOOL_DIR: where events wait for ClickHouse; a process's own. "" is spool in DataDir
	SpoolLimit        string // NETRA_SPOOL_LIMIT: bytes that may wait there
	ObjectsURL        string // NETRA_OBJECTS_URL: where uploaded files are kept, file:/// or s3://; "" is objects in DataDir
	UploadLimit       string // NETRA_UPLOAD_LIMIT: bytes of one uploaded file
	UploadTypes       string // NETRA_UPLOAD_TYPES: media types that may be uploaded, by commas and with *; "" is objects.DefaultTypes
	Secret            string // NETRA_SECRET: signs bearer tokens
	PostgresBinaries  string // NETRA_PG_BIN: directory of the embedded PostgreSQL's programs
	ClickHouseLibrary string // NETRA_CHDB_LIB: path of the embedded ClickHouse's library
	KeepEvents        string // NETRA_KEEP_EVENTS: how long changes of runs can be resumed from
	EmbeddingsURL     string // NETRA_EMBEDDINGS_URL: OpenAI-compatible endpoint that embeds texts, such as https://api.example.com/v1; "" for none
	EmbeddingsModel   string // NETRA_EMBEDDINGS_MODEL: its model, of 1536 numbers
	EmbeddingsKey     string // NETRA_EMBEDDINGS_KEY: its bearer token
}

func configFromEnvironment() *config {
	return &config{
		Addr:              environment("NETRA_ADDR", "127.0.0.1:8080"),
		DatabaseURL:       environment("NETRA_DATABASE_URL", ""),
		OwnerDatabaseURL:  environment("NETRA_OWNER_DATABASE_URL", ""),
		ClickHouseURL:     environment("NETRA_CLICKHOUSE_URL", ""),
		ClickHouseCluster: environment("NETRA_CLICKHOUSE_CLUSTER", ""),
		DataDir:           environment("NETRA_DATA_DIR", ".netra"),
		SpoolDir:          environment("NETRA_SPOOL_DIR", ""),
		SpoolLimit:        environment("NETRA_SPOOL_LIMIT", "1073741824"),
		ObjectsURL:        environment("NETRA_OBJECTS_URL", ""),
		UploadLimit:       environment("NETRA_UPLOAD_LIMIT", "2147483648"),
		UploadTypes:       environment("NETRA_UPLOAD_TYPES", ""),
		Secret:            environment("NETRA_SECRET", ""),
		PostgresBinaries:  environment("NETRA_PG_BIN", ""),
		ClickHouseLibrary: environment("NETRA_CHDB_LIB", ""),
		KeepEvents:        environment("NETRA_KEEP_EVENTS", "168h"),
		EmbeddingsURL:     environment("NETRA_EMBEDDINGS_URL", ""),
		EmbeddingsModel:   environment("NETRA_EMBEDDINGS_MODEL", ""),
		EmbeddingsKey:     environment("NETRA_EMBEDDINGS_KEY", ""),
	}
}

// spool is where events wait for ClickHouse.
func (c *config) spool() string { return cmp.Or(c.SpoolDir, filepath.Join(c.DataDir, "spool")) }

// uploads is where uploaded files go, and what may be uploaded.
func (c *config) uploads() (uploads, error) {
	u := uploads{url: c.ObjectsURL}
	if u.url == "" {
		dir, err := filepath.Abs(filepath.Join(c.DataDir, "objects"))
		if err != nil {
			return u, fmt.Errorf("find the directory of objects: %w", err)
		}
		u.url = (&url.URL{Scheme: "file", Path: dir}).String()
	}
	var err error
	if u.limit, err = strconv.ParseInt(c.UploadLimit, 10, 64); err != nil || u.limit < 1 {
		return u, errors.New("NETRA_UPLOAD_LIMIT is not a number of bytes")
	}
	for pattern := range strings.SplitSeq(c.UploadTypes, ",") {
		if pattern = strings.TrimSpace(pattern); pattern != "" {
			u.types = append(u.types, pattern)
		}
	}
	return u, nil
}

// minKeepEvents is the database's own floor.
const minKeepEvents = time.Hour

func (c *config) keepEvents() (time.Duration, error) {
	keep, err := time.ParseDuration(c.KeepEvents)
	if err != nil || keep < minKeepEvents {
		return 0, fmt.Errorf("%q is no time to keep events: it is a duration of at least %s, such as 168h", c.KeepEvents, minKeepEvents)
	}
	return keep, nil
}

func environment(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
