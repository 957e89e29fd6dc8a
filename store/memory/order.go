package memory

import (
	"hash/maphash"
	"math/bits"
)

const maxLevel = 16

// order keeps the listed names of one partition sorted: a skip list whose levels come from a keyed hash of the name.
type order struct {
	seed maphash.Seed
	head step
	size int
}

type step struct {
	name string
	next []*step
}

func newOrder() *order {
	return &order{seed: maphash.MakeSeed(), head: step{next: make([]*step, maxLevel)}}
}

// before fills path with the last step below name on every level and returns the one that follows.
func (o *order) before(name string, path *[maxLevel]*step) *step {
	at := &o.head
	for level := maxLevel - 1; level >= 0; level-- {
		for at.next[level] != nil && at.next[level].name < name {
			at = at.next[level]
		}
		path[level] = at
	}
	return at.next[0]
}

func (o *order) insert(name string) {
	var path [maxLevel]*step
	if at := o.before(name, &path); at != nil && at.name == name {
		return
	}
	height := min(1+bits.TrailingZeros64(maphash.String(o.seed, name))/2, maxLevel)
	fresh := &step{name: name, next: make([]*step, height)}
	for level := range height {
		fresh.next[level], path[level].next[level] = path[level].next[level], fresh
	}
	o.size++
}

func (o *order) remove(name string) {
	var path [maxLevel]*step
	at := o.before(name, &path)
	if at == nil || at.name != name {
		return
	}
	for level := range at.next {
		path[level].next[level] = at.next[level]
	}
	o.size--
}

// after returns the first step whose name is above name.
func (o *order) after(name string) *step {
	var path [maxLevel]*step
	at := o.before(name, &path)
	if at != nil && at.name == name {
		return at.next[0]
	}
	return at
}
