package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/bench/flame"
	"github.com/netra-ai/netra/bench/proc"
)

// draw makes the flame graph of netra and of PostgreSQL while the reference query is asked without a pause.
func (b *bench) draw(ctx context.Context, data *dataset) (err error) {
	c, err := b.startOurs(ctx, nameOurs, data, data.appURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	requests, err := reference.requests(ours, data, b.tokens, c.address)
	if err != nil {
		return err
	}
	const sampled = 10 * time.Second
	if _, err := saturate(ctx, c.address, requests, 5*time.Second); err != nil {
		return err
	}
	b.say("sampling for %s", sampled)
	working, workingCtx := errgroup.WithContext(ctx)
	working.Go(func() error { return flame.Record(workingCtx, b.dir, sampled) })
	working.Go(func() error {
		_, err := saturate(workingCtx, c.address, requests, sampled+3*time.Second) // perf takes a while to begin
		return err
	})
	if err := working.Wait(); err != nil {
		return err
	}
	groups := map[int]string{c.pid: "netra"}
	backends, err := proc.Tree(b.postgres.postmaster)
	if err != nil {
		return err
	}
	for _, pid := range backends {
		groups[pid] = "PostgreSQL"
	}
	graph, err := flame.Read(ctx, b.dir, groups)
	if err != nil {
		return err
	}
	file, err := os.Create(b.flame)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("The reference query: netra and PostgreSQL, over %d messages", data.messages())
	return errors.Join(graph.Draw(file, title), file.Close())
}
