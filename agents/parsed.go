package agents

import (
	"sync"

	"obolus/store"
)

const parsedLimit = 8192

// parsed remembers the parsed form of records by their version, in two generations so that it stays bounded. What it
// holds is good for a version, never for a question: the version is read from the store each time.
type parsed struct {
	mu    sync.RWMutex
	young map[store.Key]form
	old   map[store.Key]form
}

type form struct {
	version uint64
	value   any
}

func (p *parsed) get(k store.Key, version uint64) (any, bool) {
	f, ok := p.latest(k)
	if !ok || f.version != version {
		return nil, false
	}
	return f.value, true
}

// latest is the newest form seen, a guess at what the store will say.
func (p *parsed) latest(k store.Key) (form, bool) {
	p.mu.RLock()
	f, ok := p.young[k]
	if !ok {
		f, ok = p.old[k]
	}
	p.mu.RUnlock()
	return f, ok
}

func (p *parsed) put(k store.Key, version uint64, value any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.young == nil || len(p.young) >= parsedLimit {
		p.old, p.young = p.young, make(map[store.Key]form)
	}
	p.young[k] = form{version: version, value: value}
}
