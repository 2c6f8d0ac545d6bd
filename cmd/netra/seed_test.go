package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

func TestSeedFillsTheDatabasesOnceUnlessItAppends(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	seed := func(arguments ...string) error {
		command := newSeedCommand(&config{OwnerDatabaseURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL})
		command.SilenceUsage, command.SilenceErrors = true, true
		command.SetErr(new(bytes.Buffer))
		command.SetArgs(append([]string{"--users", "3", "--threads-per-user", "2", "--messages-per-thread", "4", "--runs-per-thread", "3", "--events", "50"}, arguments...))
		return command.ExecuteContext(t.Context())
	}
	require.NoError(t, seed())
	require.EqualError(t, seed("--seed", "2"), "the database has users already: seed an empty one, or append")
	require.NoError(t, seed("--seed", "2", "--append"))
	require.EqualError(t, seed("--users", "1"), "1 users: from 3, the demo users, to 10,000,000")
	var messages int
	require.NoError(t, db.Owner(t).QueryRowContext(t.Context(), "SELECT count(*) FROM messages").Scan(&messages))
	require.Equal(t, 2*3*2*4, messages)
}

func TestProgressLinesReplaceOneAnotherOnATerminal(t *testing.T) {
	t.Parallel()
	out := new(bytes.Buffer)
	lines := &progressLines{out: out}
	lines.replace("writing")
	lines.replace("still writing")
	lines.add("written")
	lines.clear()
	require.Regexp(t, `^netra: +\S+ s  writing\r\x1b\[Knetra: +\S+ s  still writing\r\x1b\[Knetra: +\S+ s  written\n$`, out.String())
}

func TestAgentsRateIsRunsPerTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"2/s": 2, "2": 2, "30/m": 0.5, "36/h": 0.01, "0.5/s": 0.5} {
		var rate ratePerSecond
		require.NoError(t, rate.Set(text))
		require.InDelta(t, want, float64(rate), 1e-9, text)
	}
	for _, text := range []string{"", "fast", "2/d", "2/", "/s", "2/s/s"} {
		var rate ratePerSecond
		require.Error(t, rate.Set(text), text)
	}
}
