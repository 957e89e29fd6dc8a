package token

import (
	"crypto/sha256"
	"sync"
)

// recent remembers something of the tokens that came last, by their hash: in two generations of a size, so that it stays bounded.
type recent[T any] struct {
	size  int
	mu    sync.RWMutex
	young map[[sha256.Size]byte]T
	old   map[[sha256.Size]byte]T
}

func (r *recent[T]) get(sum [sha256.Size]byte) (T, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if got, ok := r.young[sum]; ok {
		return got, true
	}
	got, ok := r.old[sum]
	return got, ok
}

func (r *recent[T]) put(sum [sha256.Size]byte, got T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= r.size {
		r.old, r.young = r.young, make(map[[sha256.Size]byte]T)
	}
	r.young[sum] = got
}
