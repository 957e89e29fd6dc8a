package store

import "sync"

// Forms remembers what records were parsed into, by their version, in two generations so that it stays bounded. What it holds is
// good for a version, never for a question: the version is read from the store each time. Nobody changes what it gives.
type Forms[T any] struct {
	limit int // of a generation
	mu    sync.RWMutex
	young map[Key]form[T]
	old   map[Key]form[T]
}

type form[T any] struct {
	version uint64
	value   T
}

// NewForms makes Forms of at most twice as many records.
func NewForms[T any](limit int) *Forms[T] { return &Forms[T]{limit: limit} }

// Get is the form of a version of a record, if it is the last one that was seen.
func (f *Forms[T]) Get(k Key, version uint64) (value T, ok bool) {
	got, was, ok := f.Latest(k)
	if !ok || was != version {
		return value, false
	}
	return got, true
}

// Latest is the form that was seen last, and its version: a guess at what the store will say.
func (f *Forms[T]) Latest(k Key) (value T, version uint64, ok bool) {
	f.mu.RLock()
	got, ok := f.young[k]
	if !ok {
		got, ok = f.old[k]
	}
	f.mu.RUnlock()
	return got.value, got.version, ok
}

// Put remembers the form of a version.
func (f *Forms[T]) Put(k Key, version uint64, value T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.young == nil || len(f.young) >= f.limit {
		f.old, f.young = f.young, make(map[Key]form[T])
	}
	f.young[k] = form[T]{version: version, value: value}
}
