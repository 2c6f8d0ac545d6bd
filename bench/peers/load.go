package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// connections is how many requests can be under way: so many that with more of them nobody answers many more. At half load there are as many: with more, the
// first burst would have servers open more connections to PostgreSQL than saturation did, each of which costs as much as dozens of requests.
const connections = 32

// client speaks just enough HTTP/1.1 to keep one connection busy, for a fraction of what net/http's client costs: it shares the cores with
// what it measures.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
	body   []byte
}

// buffered is enough for the head of an answer. What does not fit is read to where it stays.
const buffered = 4 << 10

const (
	// answerTimeout is how long a client waits for an answer that is late.
	answerTimeout = 30 * time.Second
	// headerTimeout is how long our own servers wait for a request's.
	headerTimeout = 30 * time.Second
	// atMost is how long each of many requests may take on average.
	atMost = 50 * time.Millisecond
)

// dial makes a client that asks as long as the duration is not over.
func dial(address string, duration time.Duration) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(duration + answerTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &client{conn: conn, reader: bufio.NewReaderSize(conn, buffered)}, nil
}

// ask sends a request and reads its answer, which is valid until the next one.
func (c *client) ask(request []byte) ([]byte, error) {
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	status, err := c.line()
	if err != nil {
		return nil, err
	}
	ok := bytes.HasPrefix(status, []byte("HTTP/1.1 200 "))
	failure := string(status)
	length, chunked := -1, false
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		}
	}
	switch {
	case chunked:
		body := bytes.NewBuffer(c.body[:0])
		if _, err = body.ReadFrom(httputil.NewChunkedReader(c.reader)); err == nil {
			_, err = c.line() // the end of the trailer
		}
		c.body = body.Bytes()
	case length >= 0:
		c.body = slices.Grow(c.body[:0], length)[:length]
		_, err = io.ReadFull(c.reader, c.body)
	default:
		err = errors.New("an answer of unknown length")
	}
	if err == nil && (!ok || bytes.Contains(c.body[:min(len(c.body), 2000)], []byte(`"errors":`))) {
		err = fmt.Errorf("%s: %.500s", failure, c.body)
	}
	return c.body, err
}

func (c *client) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// load is a number of requests that were answered.
type load struct {
	requests int
	took     time.Duration
	times    []time.Duration // of each request, sorted
}

func (l load) perSecond() float64 { return float64(l.requests) / l.took.Seconds() }

func (l load) percentile(p float64) time.Duration {
	if len(l.times) == 0 {
		return 0
	}
	return l.times[min(int(p*float64(len(l.times))), len(l.times)-1)]
}

// saturate asks over all connections, each the next as soon as the last is answered.
func saturate(ctx context.Context, address string, requests [][]byte, duration time.Duration) (load, error) {
	return drive(ctx, address, duration, connections, func(c *client, end time.Time) ([]time.Duration, error) {
		var times []time.Duration
		for began := time.Now(); began.Before(end); {
			if _, err := c.ask(requests[rand.IntN(len(requests))]); err != nil {
				return nil, err
			}
			answered := time.Now()
			times, began = append(times, answered.Sub(began)), answered
		}
		return times, nil
	})
}

// askAll makes each request once, over all connections.
func askAll(ctx context.Context, address string, requests [][]byte) error {
	var next atomic.Int64
	_, err := drive(ctx, address, atMost*time.Duration(len(requests)), connections, func(c *client, _ time.Time) ([]time.Duration, error) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(requests) {
				return nil, nil
			}
			if _, err := c.ask(requests[i]); err != nil {
				return nil, err
			}
		}
	})
	return err
}

// settling is how long a slice at a steady rate goes on before it counts: connections that were idle too long are made again, and processors and
// caches come back to a server that others have kept from running.
const settling = 300 * time.Millisecond

// pace asks at a steady rate, whatever the answers take. A request's time begins when it was due, so that a stall is seen by all that come due
// in it.
func pace(ctx context.Context, address string, requests [][]byte, rate float64, duration time.Duration) (load, error) {
	var next atomic.Int64
	return drive(ctx, address, settling+duration, connections, func(c *client, end time.Time) ([]time.Duration, error) {
		var times []time.Duration
		began := end.Add(-settling - duration)
		for {
			due := began.Add(time.Duration(float64(next.Add(1)) / rate * float64(time.Second)))
			if !due.Before(end) {
				return times, nil
			}
			counts := due.Sub(began) > settling
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
				due = time.Now() // waking up late is our doing
			}
			if _, err := c.ask(requests[rand.IntN(len(requests))]); err != nil {
				return nil, err
			}
			if counts {
				times = append(times, time.Since(due))
			}
		}
	})
}

// add pools the requests of two loads.
func (l *load) add(other load) {
	l.requests, l.took = l.requests+other.requests, l.took+other.took
	l.times = append(l.times, other.times...)
	slices.Sort(l.times)
}

// drive runs work on n connections until the duration is over, or one fails.
func drive(ctx context.Context, address string, duration time.Duration, n int, work func(*client, time.Time) ([]time.Duration, error)) (load, error) {
	clients := make([]*client, n)
	for i := range clients {
		c, err := dial(address, duration)
		if err != nil {
			return load{}, err
		}
		defer c.conn.Close()
		clients[i] = c
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range clients {
			_ = c.conn.Close()
		}
	})
	defer stop()
	var mu sync.Mutex
	var all load
	var failure error
	var working sync.WaitGroup
	began := time.Now()
	for _, c := range clients {
		working.Go(func() {
			times, err := work(c, began.Add(duration))
			mu.Lock()
			defer mu.Unlock()
			all.times = append(all.times, times...)
			if failure == nil {
				failure = err
			}
		})
	}
	working.Wait()
	all.requests, all.took = len(all.times), time.Since(began)
	slices.Sort(all.times)
	if ctx.Err() != nil {
		return all, ctx.Err()
	}
	return all, failure
}
