package turns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/internal/turns"
)

func batch(value string) store.Batch {
	return store.Batch{Commits: []store.Commit{{Partition: "p", Writes: []store.Write{{Name: "n", Value: []byte(value)}}}}}
}

func value(t *turns.Turn) string { return string(t.Batch.Commits[0].Writes[0].Value) }

// held is a desk of one worker that says when it has taken something, waits before each run, and tells what it ran.
type held struct {
	*turns.Desk

	took chan struct{}
	let  chan struct{}
	ran  chan []string
}

func hold(t *testing.T) held {
	t.Helper()
	h := held{took: make(chan struct{}, 2000), let: make(chan struct{}), ran: make(chan []string, 2000)}
	h.Desk = turns.Open(1, func(taken []*turns.Turn) {
		h.took <- struct{}{}
		<-h.let
		values := make([]string, len(taken))
		for i, turn := range taken {
			values[i] = value(turn)
			turn.Answer(store.Results{Now: time.Unix(1, 0)}, nil)
		}
		h.ran <- values
	})
	return h
}

func TestWhatWaitsGoesTogether(t *testing.T) {
	t.Parallel()
	h := hold(t)
	var all sync.WaitGroup
	var begun atomic.Int32
	for n := range 301 {
		all.Go(func() {
			begun.Add(1)
			if res, err := h.Do(t.Context(), batch(fmt.Sprint(n))); err != nil || res.Now.IsZero() {
				t.Errorf("%+v, %v", res, err)
			}
		})
		if n == 0 {
			<-h.took // alone
		}
	}
	for begun.Load() < 301 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // to where they wait
	close(h.let)
	all.Wait()
	h.Close()
	close(h.ran)
	var sizes []int
	seen := map[string]bool{}
	for values := range h.ran {
		sizes = append(sizes, len(values))
		for _, v := range values {
			seen[v] = true
		}
	}
	if len(seen) != 301 || len(sizes) > 30 || slices.Max(sizes) > 128 || slices.Max(sizes) < 10 {
		t.Errorf("%d batches in turns of %v", len(seen), sizes)
	}
}

func TestATurnIsBounded(t *testing.T) {
	t.Parallel()
	h := hold(t)
	big := string(make([]byte, store.MaxValue))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { _, _ = h.Do(t.Context(), batch(big)) })
	}
	time.Sleep(300 * time.Millisecond)
	close(h.let)
	all.Wait()
	h.Close()
	close(h.ran)
	for values := range h.ran {
		if len(values) > 8 {
			t.Errorf("%d values of a megabyte in one turn", len(values))
		}
	}
}

func TestACallerThatHasGone(t *testing.T) {
	t.Parallel()
	h := hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	buffer := []byte("taken")
	gone := make(chan error, 2)
	b := batch("")
	b.Commits[0].Writes[0].Value = buffer
	go func() { _, err := h.Do(ctx, b); gone <- err }()
	<-h.took
	go func() { _, err := h.Do(ctx, batch("waiting")); gone <- err }()
	time.Sleep(200 * time.Millisecond)
	cancel()
	for range 2 {
		if err := <-gone; !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	copy(buffer, "other") // it is the caller's again
	if _, err := h.Do(ctx, batch("late")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	close(h.let)
	if ran := <-h.ran; fmt.Sprint(ran) != "[taken]" {
		t.Errorf("ran %v", ran)
	}
	h.Close()
	if len(h.ran) > 0 {
		t.Errorf("ran %v, for which nobody waited", <-h.ran)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	var ran atomic.Int32
	d := turns.Open(3, func(taken []*turns.Turn) {
		for _, turn := range taken {
			ran.Add(1)
			turn.Answer(store.Results{}, nil)
		}
	})
	var all sync.WaitGroup
	var answered atomic.Int32
	for range 16 {
		all.Go(func() {
			for {
				_, err := d.Do(t.Context(), batch("x"))
				if err != nil {
					if !errors.Is(err, store.ErrUnavailable) {
						t.Error(err)
					}
					return
				}
				answered.Add(1)
			}
		})
	}
	for answered.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	d.Close()
	all.Wait()
	d.Close()
	if ran.Load() != answered.Load() || ran.Load() == 0 {
		t.Errorf("%d ran, %d were answered", ran.Load(), answered.Load())
	}
}
