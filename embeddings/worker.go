package embeddings

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/internal/wait"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// Worker embeds the texts of references in the background, whoever wrote them. Any number of workers, in any number of replicas, share the
// work: a reference is one worker's until its lease ends.
type Worker struct {
	Store    *store.Store
	Endpoint *Endpoint
	Log      *slog.Logger

	Batch        int           // texts of one call; 64 unless set
	Characters   int           // of all texts of one call, unless a single one has more; 200,000 unless set
	Concurrency  int           // calls at a time; 2 unless set
	Poll         time.Duration // between two looks when there is nothing to do; 2 s unless set
	Lease        time.Duration // how long a claim of a worker that has gone lasts; 5 minutes unless set
	FirstBackoff time.Duration // 1 s unless set; the pause doubles while the endpoint does not answer
	LastBackoff  time.Duration // 5 minutes unless set
	Attempts     int           // failures of one text, while others are embedded, until it is given up; 5 unless set
}

const (
	// shortest is how many characters of a text that is refused are tried at last: models count tokens, of which a text may have more than it has letters.
	shortest = 1000
	// seenThrough is how long a statement of a worker that stops may take.
	seenThrough = 5 * time.Second
	// maxRetryAfter bounds what an endpoint can ask for.
	maxRetryAfter = time.Hour
	// countEvery is between two counts of what waits, up to mostCounted.
	countEvery  = 30 * time.Second
	mostCounted = 10_000
)

// Run works until ctx ends.
func (w Worker) Run(ctx context.Context) {
	fallback(&w.Batch, 64)
	fallback(&w.Characters, 200_000)
	fallback(&w.Concurrency, 2)
	fallback(&w.Poll, 2*time.Second)
	fallback(&w.Lease, 5*time.Minute)
	fallback(&w.FirstBackoff, time.Second)
	fallback(&w.LastBackoff, 5*time.Minute)
	fallback(&w.Attempts, 5)
	ctx = models.WithViewer(ctx, models.System)
	pause := &backoff{first: w.FirstBackoff, last: w.LastBackoff}
	var working sync.WaitGroup
	for range w.Concurrency {
		working.Go(func() { w.work(ctx, pause) })
	}
	working.Go(func() { w.watch(ctx) })
	working.Wait()
}

func (w Worker) work(ctx context.Context, pause *backoff) {
	for {
		rest := pause.left()
		if rest == 0 {
			found, err := w.round(ctx, pause)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				rest = max(w.Poll, pause.left())
				w.Log.WarnContext(ctx, "embeddings: references wait", "error", err, "retry_in", rest)
			case found:
				pause.succeeded()
			default:
				rest = w.Poll - rand.N(w.Poll/4) // so that replicas do not look all at once
			}
		}
		if !wait.For(ctx, rest) {
			return
		}
	}
}

// watch counts what waits, and tells when the replicas' configurations differ.
func (w Worker) watch(ctx context.Context) {
	for {
		model, err := w.Store.EmbeddingModel(ctx, w.Endpoint.Model())
		switch {
		case err != nil:
			if ctx.Err() == nil {
				w.Log.WarnContext(ctx, "embeddings: look for the model", "error", err)
			}
		case model != w.Endpoint.Model():
			w.Log.WarnContext(ctx, "embeddings: another model embeds for this database, so this replica embeds no references; `netra embeddings rebuild` makes its model the one",
				"model", w.Endpoint.Model(), "database", model)
		}
		if waiting, err := w.Store.EmbeddingBacklog(ctx, mostCounted); err == nil {
			w.Endpoint.metrics.backlog.Set(float64(waiting))
		}
		if !wait.For(ctx, countEvery) {
			return
		}
	}
}

// round embeds one claim, and says whether there was any. Where the endpoint is what failed, all wait.
func (w Worker) round(ctx context.Context, pause *backoff) (found bool, err error) {
	r := &round{Worker: w, holder: uuid.New()}
	// A claim is seen through though ctx ends: one that was given up halfway may hold what nobody knows of.
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenThrough)
	defer cancel()
	jobs, err := w.Store.ClaimEmbeddings(claiming, w.Endpoint.Model(), r.holder, w.Batch, w.Lease)
	if err == nil && len(jobs) == 0 {
		return false, nil
	}
	// What is not done before the lease ends is somebody else's.
	working, cancel := context.WithTimeout(ctx, w.Lease*9/10)
	defer cancel()
	for len(jobs) > 0 && err == nil {
		n := w.chunk(jobs)
		err = r.embed(working, jobs[:n])
		jobs = jobs[n:]
	}
	if err == nil {
		return true, nil
	}
	said, wait := "", time.Duration(0)
	var failed *failure
	if errors.As(err, &failed) {
		said, wait = string(failed.reason), pause.failed(failed.after)
	}
	releasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenThrough)
	defer cancel()
	if releaseErr := w.Store.ReleaseEmbeddings(releasing, r.holder, wait, said); releaseErr != nil {
		w.Log.WarnContext(ctx, "embeddings: what was claimed waits for the end of its lease", "error", releaseErr)
	}
	return true, err
}

// chunk is how many of the jobs go into one call.
func (w Worker) chunk(jobs []models.EmbeddingJob) int {
	characters := 0
	for i, job := range jobs {
		if characters += utf8.RuneCountInString(job.Text); characters > w.Characters && i > 0 {
			return i
		}
	}
	return len(jobs)
}

// round is the work on one claim.
type round struct {
	Worker
	holder uuid.UUID
	sound  bool // the endpoint has embedded something
}

// embed settles the jobs. Where the endpoint finds fault with one of many texts, halves are tried, until the text stands alone.
func (r *round) embed(ctx context.Context, jobs []models.EmbeddingJob) error {
	texts := make([]string, 0, len(jobs))
	whole := jobs
	jobs = make([]models.EmbeddingJob, 0, len(whole))
	for _, job := range whole {
		if job.Hash == nil { // nothing is left to embed
			if err := r.settle(ctx, job, "", ""); err != nil {
				return err
			}
			continue
		}
		jobs, texts = append(jobs, job), append(texts, job.Text)
	}
	if len(jobs) == 0 {
		return nil
	}
	vectors, err := r.Endpoint.embed(ctx, "batch", texts)
	var failed *failure
	switch {
	case err == nil:
		r.sound = true
		for i, job := range jobs {
			if err := r.settle(ctx, job, vectors[i], ""); err != nil {
				return err
			}
		}
		return nil
	case !errors.As(err, &failed) || !failed.ofInput():
		return err
	case len(jobs) > 1:
		if failed.reason == failing && !r.sound { // an endpoint that is down is not asked again and again
			if err := r.check(ctx); err != nil {
				return err
			}
		}
		half := len(jobs) / 2
		if err := r.embed(ctx, jobs[:half]); err != nil {
			return err
		}
		return r.embed(ctx, jobs[half:])
	}
	return r.blame(ctx, jobs[0], failed)
}

// blame deals with a text that the endpoint finds fault with, unless the endpoint finds it with all.
func (r *round) blame(ctx context.Context, job models.EmbeddingJob, failed *failure) error {
	if known := r.sound; !known || failed.reason == failing { // which may have begun since
		if err := r.check(ctx); err != nil {
			return err
		}
		if !known {
			return r.embed(ctx, []models.EmbeddingJob{job}) // the endpoint may have come to its senses in between
		}
	}
	if job.Attempts++; failed.reason != refused && job.Attempts < r.Attempts {
		return r.Store.PostponeEmbedding(ctx, r.holder, job, r.FirstBackoff<<job.Attempts, string(failed.reason))
	}
	if letters := []rune(job.Text); failed.reason != malformed && len(letters) > shortest {
		job.Text = string(letters[:max(shortest, len(letters)/2)])
		return r.embed(ctx, []models.EmbeddingJob{job})
	}
	r.Log.WarnContext(ctx, "embeddings: a reference cannot be embedded", "reference", job.ID, "error", failed.Error())
	return r.settle(ctx, job, "", failed.reason)
}

// check fails where it is not a text that the endpoint finds fault with.
func (r *round) check(ctx context.Context) error {
	err := r.Endpoint.Check(ctx)
	var all *failure
	if errors.As(err, &all) && all.ofInput() && all.reason != failing {
		return &failure{reason: misconfigured, cause: all}
	}
	r.sound = r.sound || err == nil
	return err
}

func (r *round) settle(ctx context.Context, job models.EmbeddingJob, vector string, why reason) error {
	written, err := r.Store.SettleEmbedding(ctx, r.holder, job, r.Endpoint.Model(), vector, string(why))
	if err != nil {
		return err
	}
	outcome := "embedded"
	switch {
	case !written:
		outcome = "superseded"
	case job.Hash == nil:
		outcome = "emptied"
	case why != "":
		outcome = "failed"
	}
	r.Endpoint.metrics.settled.WithLabelValues(outcome).Inc()
	return nil
}

// backoff is what all calls of a worker wait for after one has failed.
type backoff struct {
	first, last time.Duration

	mu    sync.Mutex
	next  time.Duration
	until time.Time
}

func (b *backoff) left() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, time.Until(b.until))
}

// failed is how long to wait now: what the endpoint asks for, and twice as long as the last time unless another call has failed meanwhile.
func (b *backoff) failed(asked time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().After(b.until) {
		b.next = min(max(b.first, 2*b.next), b.last)
		b.until = time.Now().Add(b.next - rand.N(b.next/4+1))
	}
	if until := time.Now().Add(min(asked, maxRetryAfter)); until.After(b.until) {
		b.until = until
	}
	return time.Until(b.until)
}

func (b *backoff) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = 0
}
