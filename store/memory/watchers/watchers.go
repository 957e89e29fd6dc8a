// Package watchers tells the watchers inside one process which names of a partition changed. Where the news comes from
// is the engine's part.
package watchers

import (
	"context"
	"sync"
	"sync/atomic"
)

// backlog is how many names may wait for a reader. One that falls further behind has its channel closed, which tells
// it to read again.
const backlog = 128

// Hub holds the watchers of one engine. The zero Hub is ready.
type Hub struct {
	mu     sync.Mutex
	rooms  map[string]map[chan string]struct{}
	closed bool
	size   atomic.Int64
}

// Watch returns a channel on which the names told for the partition arrive, until the context ends.
func (h *Hub) Watch(ctx context.Context, partition string) <-chan string {
	ch := make(chan string, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch
	}
	if h.rooms == nil {
		h.rooms = map[string]map[chan string]struct{}{}
	}
	if h.rooms[partition] == nil {
		h.rooms[partition] = map[chan string]struct{}{}
	}
	h.rooms[partition][ch] = struct{}{}
	h.size.Add(1)
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.leave(partition, ch)
	})
	return ch
}

// Tell sends the names to whoever watches the partition. It never blocks.
func (h *Hub) Tell(partition string, names ...string) {
	if h.size.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.rooms[partition] {
		for _, name := range names {
			if !offer(ch, name) {
				h.leave(partition, ch)
				break
			}
		}
	}
}

// Reset closes every channel, so that all who watch read again and watch anew.
func (h *Hub) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for partition, room := range h.rooms {
		for ch := range room {
			h.leave(partition, ch)
		}
	}
}

// Close closes every channel, and those of later watchers at once.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.Reset()
}

func (h *Hub) leave(partition string, ch chan string) {
	if _, in := h.rooms[partition][ch]; !in {
		return
	}
	delete(h.rooms[partition], ch)
	if len(h.rooms[partition]) == 0 {
		delete(h.rooms, partition)
	}
	h.size.Add(-1)
	close(ch)
}

func offer(ch chan string, name string) bool {
	select {
	case ch <- name:
		return true
	default:
		return false
	}
}
