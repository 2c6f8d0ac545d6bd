package migrations

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing/fstest"
)

// clustered is ClickHouse's migrations for a cluster: every table is a replicated one on each shard, named with the suffix _local, behind a
// distributed one that has the table's own name, and everything is created ON CLUSTER. Rows go to shards by tenant. Materialized views work
// on the shard where the event is; what they add up for everybody is in as many parts as there are shards, which reads add up anyway.
func clustered(directory fs.FS, cluster string) (fs.FS, error) {
	if !clusterName.MatchString(cluster) {
		return nil, fmt.Errorf("the ClickHouse cluster's name %q must be letters, digits, and the signs _ . -", cluster)
	}
	names, err := fs.Glob(directory, "*.sql")
	if err != nil {
		return nil, err
	}
	rewritten := fstest.MapFS{}
	for _, name := range names {
		text, err := fs.ReadFile(directory, name)
		if err != nil {
			return nil, err
		}
		onCluster, err := rewrite(string(text), cluster)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
		rewritten[name] = &fstest.MapFile{Data: []byte(onCluster), Mode: 0o444}
	}
	return rewritten, nil
}

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

	createTable    = regexp.MustCompile(`(?s)^CREATE TABLE (IF NOT EXISTS )?(\w+)( .*\) ENGINE = )(\w*MergeTree\b.*)$`)
	createFrom     = regexp.MustCompile(`(?s)^CREATE MATERIALIZED VIEW (IF NOT EXISTS )?(\w+) TO (\w+)\b(.*)$`)
	createView     = regexp.MustCompile(`(?s)^CREATE VIEW (IF NOT EXISTS )?(\w+)\b(.*)$`)
	alterTable     = regexp.MustCompile(`(?s)^ALTER TABLE (\w+)\b(.*)$`)
	exchangeTables = regexp.MustCompile(`^EXCHANGE TABLES (\w+) AND (\w+)$`)
	truncateTable  = regexp.MustCompile(`^TRUNCATE TABLE (IF EXISTS )?(\w+)( SYNC)?$`)
	dropTable      = regexp.MustCompile(`^DROP TABLE (IF EXISTS )?(\w+)( SYNC)?$`)
	dropView       = regexp.MustCompile(`^DROP VIEW (IF EXISTS )?(\w+)( SYNC)?$`)
	insert         = regexp.MustCompile(`(?s)^INSERT INTO (\w+)\b`)
	reads          = regexp.MustCompile(`\bFROM (\w+)\b`)
)

// rewrite works on the statements of one file. It knows the forms that our files use and refuses any other.
func rewrite(text, cluster string) (string, error) {
	var out strings.Builder
	for chunk := range strings.SplitAfterSeq(text, ";\n") {
		comments, statement := splitComments(chunk)
		out.WriteString(comments)
		statement = strings.TrimSuffix(strings.TrimSpace(statement), ";")
		if statement == "" {
			continue
		}
		statements, err := onCluster(statement, cluster)
		if err != nil {
			return "", err
		}
		for _, s := range statements {
			out.WriteString(s + ";\n")
		}
	}
	return out.String(), nil
}

// splitComments takes off the comments and goose's marks in front of a statement.
func splitComments(chunk string) (comments, statement string) {
	rest := chunk
	for {
		line, after, more := strings.Cut(rest, "\n")
		if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "--") || !more {
			return chunk[:len(chunk)-len(rest)], rest
		}
		rest = after
	}
}

func onCluster(statement, cluster string) ([]string, error) {
	on := " ON CLUSTER " + quoteIdentifier(cluster)
	distributed := func(create, table string) string {
		return create + table + on + " AS " + table + "_local ENGINE = Distributed('" + cluster + "', currentDatabase(), " + table + "_local, user_id)"
	}
	statement = strings.ReplaceAll(statement, "non_replicated_deduplication_window", "replicated_deduplication_window")
	if m := createTable.FindStringSubmatch(statement); m != nil {
		return []string{
			"CREATE TABLE " + m[1] + m[2] + "_local" + on + m[3] + "Replicated" + m[4],
			distributed("CREATE TABLE "+m[1], m[2]),
		}, nil
	}
	if m := createFrom.FindStringSubmatch(statement); m != nil {
		return []string{"CREATE MATERIALIZED VIEW " + m[1] + m[2] + on + " TO " + m[3] + "_local" + reads.ReplaceAllString(m[4], "FROM ${1}_local")}, nil
	}
	if m := createView.FindStringSubmatch(statement); m != nil {
		return []string{"CREATE VIEW " + m[1] + m[2] + on + m[3]}, nil
	}
	// A distributed table has no data: it is made anew when its local ones have changed.
	if m := alterTable.FindStringSubmatch(statement); m != nil {
		return []string{"ALTER TABLE " + m[1] + "_local" + on + m[2], distributed("CREATE OR REPLACE TABLE ", m[1])}, nil
	}
	if m := exchangeTables.FindStringSubmatch(statement); m != nil {
		return []string{
			"EXCHANGE TABLES " + m[1] + "_local AND " + m[2] + "_local" + on,
			distributed("CREATE OR REPLACE TABLE ", m[1]),
			distributed("CREATE OR REPLACE TABLE ", m[2]),
		}, nil
	}
	if m := truncateTable.FindStringSubmatch(statement); m != nil {
		return []string{"TRUNCATE TABLE " + m[1] + m[2] + "_local" + on + m[3]}, nil
	}
	if m := dropTable.FindStringSubmatch(statement); m != nil {
		return []string{"DROP TABLE " + m[1] + m[2] + on + m[3], "DROP TABLE " + m[1] + m[2] + "_local" + on + m[3]}, nil
	}
	if m := dropView.FindStringSubmatch(statement); m != nil {
		return []string{"DROP VIEW " + m[1] + m[2] + on + m[3]}, nil
	}
	if insert.MatchString(statement) { // through the distributed tables, on both sides
		return []string{statement}, nil
	}
	first, _, _ := strings.Cut(statement, "\n")
	return nil, fmt.Errorf("no form for a cluster of the statement %q", first)
}
