package server

import "container/list"

// line is who waits, in turn: one address after the other, and of one address one agent after the other, however many requests each has
// there. It is a tree of which the last level are the requests themselves. What it calls an address and an agent is for who joins.
type line struct {
	up    *line
	name  string
	n     int              // requests that wait in it
	at    *list.Element    // its place among the turns of up
	turns list.List        // of *line; the first is next
	under map[string]*line // the same, by name
	turn  chan struct{}    // of a request: closed when it has its turn
}

// weight is how much there is already of who would join: all that wait, and again those of the same address, and again those of the same
// agent there, which are its own. Bounded, it leaves room for an address that has nothing waiting, and at each address for an agent that has nothing
// waiting, however many the others send.
func (l *line) weight(names ...string) (all, own int) {
	all = l.n
	for _, name := range names {
		if l = l.under[name]; l == nil {
			return all, 0
		}
		all += l.n
	}
	return all, l.n
}

// join lets a request wait, last of those of its names.
func (l *line) join(names ...string) *line {
	for _, name := range names {
		l = l.child(name)
	}
	request := &line{up: l, turn: make(chan struct{})}
	request.at = l.turns.PushBack(request)
	for x := request; x != nil; x = x.up {
		x.n++
	}
	return request
}

func (l *line) child(name string) *line {
	if c := l.under[name]; c != nil {
		return c
	}
	if l.under == nil {
		l.under = map[string]*line{}
	}
	c := &line{up: l, name: name}
	c.at = l.turns.PushBack(c)
	l.under[name] = c
	return c
}

// leave ends the wait of a request. Who has none left leaves with it.
func (l *line) leave() {
	for x := l; x != nil; x = x.up {
		x.n--
		if x.n == 0 && x.up != nil {
			x.up.turns.Remove(x.at)
			delete(x.up.under, x.name)
		}
	}
}

// next takes out the request whose turn it is; nil: nobody waits.
func (l *line) next() *line {
	if l.n == 0 {
		return nil
	}
	for l.turn == nil {
		first := l.turns.Front()
		l.turns.MoveToBack(first)
		l, _ = first.Value.(*line)
	}
	l.leave()
	return l
}
