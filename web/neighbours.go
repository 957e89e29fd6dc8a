package web

import (
	"context"
	"errors"
	"slices"
	"strings"

	"obolus/agents"
)

// neighbours is the picture of who may hand on to whom around an agent: a column for those before it, if there are any, one for itself,
// one for each step after it. Everything in it is computed here; the template only draws.
type neighbours struct {
	Width, Height int
	Nodes         []neighbour
	Lines         []line
	Words         string // the same for who cannot see it
	More          bool
	// Far is where those before it are looked for too, when they were not: the registry is too large to do that each time.
	Far string
}

type neighbour struct {
	X, Y, SignY, LabelY int
	Label, Sign, Class  string
	Path                string
}

type line struct{ X1, Y1, X2, Y2 int }

const (
	columnWidth = 170
	columnLeft  = 80
	coinSize    = 20
	drawnMost   = 24
)

// neighbours draws who may hand on to an agent, and to whom it may.
func (s *Server) neighbours(v *visit, a agents.Agent) (neighbours, error) {
	list, far := s.cfg.Registry.Agents, ""
	if !v.query.Has("far") {
		near, all, err := s.near(v, a)
		if err != nil {
			return neighbours{}, err
		}
		if !all {
			far = pathTo(s.base, a.ID) + "&far"
		}
		list = func(context.Context, string, int) ([]agents.Agent, error) { return near, nil }
	}
	d, err := agents.Around(v.ctx(), list, a)
	if err != nil || len(d.From) == 0 && len(d.Hands) == 0 {
		return neighbours{Far: far}, err
	}
	p := plan{column: map[string]int{}, base: s.base}
	self := 0
	for _, id := range d.From {
		if id != a.ID {
			p.put(id, 0)
			self = 1
		}
	}
	p.put(a.ID, self)
	for _, h := range d.Hands {
		p.put(h.To, p.column[h.From]+1)
	}
	hands := d.Hands
	for _, id := range d.From {
		hands = append(hands, agents.Hand{From: id, To: a.ID})
	}
	out := p.draw(a.ID, hands, d.More)
	out.Far = far
	return out, nil
}

// nearMost is how many agents are read for a drawing, and a few: a page has to be there at once.
const nearMost = 500

// near are all agents, if they are few, or else those that can be reached from one of them downward.
func (s *Server) near(v *visit, a agents.Agent) (list []agents.Agent, all bool, err error) {
	list, err = s.cfg.Registry.Agents(v.ctx(), "", nearMost)
	if err != nil || len(list) < nearMost {
		return list, true, err
	}
	list = list[:0]
	been := map[string]bool{a.ID: true}
	for next := a.DelegatesTo; len(next) > 0 && len(been) <= drawnMost; next = next[1:] {
		if been[next[0]] {
			continue
		}
		been[next[0]] = true
		one, _, err := s.cfg.Registry.Agent(v.ctx(), next[0])
		if errors.Is(err, agents.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		list, next = append(list, one), slices.Concat(next, one.DelegatesTo)
	}
	return list, false, nil
}

// plan says who stands where.
type plan struct {
	base   string
	column map[string]int
	order  []string
	left   bool // somebody is left out
}

// put gives an agent a place, unless it has one.
func (p *plan) put(id string, column int) {
	if _, ok := p.column[id]; ok {
		return
	}
	if len(p.order) == drawnMost {
		p.left = true
		return
	}
	p.column[id] = column
	p.order = append(p.order, id)
}

// draw draws the plan. Those that were left out are in none of it.
func (p *plan) draw(self string, hands []agents.Hand, more bool) neighbours {
	out := neighbours{More: more || p.left}
	place := p.places(self)
	for _, id := range p.order {
		n := place[id]
		out.Nodes = append(out.Nodes, n)
		out.Width, out.Height = max(out.Width, n.X+columnLeft), max(out.Height, n.Y+nodeTop+10)
	}
	var words []string
	drawn := map[agents.Hand]bool{}
	for _, h := range hands {
		from, ok1 := place[h.From]
		to, ok2 := place[h.To]
		if !ok1 || !ok2 || drawn[h] {
			continue
		}
		drawn[h] = true
		out.Lines = append(out.Lines, between(from, to))
		words = append(words, from.Label+" may hand on to "+to.Label)
	}
	out.Words = strings.Join(words, "; ")
	return out
}

// places are where each stands.
func (p *plan) places(self string) map[string]neighbour {
	place, rows := map[string]neighbour{}, map[int]int{}
	for _, id := range p.order {
		column := p.column[id]
		n := neighbour{
			X: columnLeft + column*columnWidth, Y: nodeTop + rows[column]*nodeStep, Label: visible(id, 22), Class: "agent", Path: pathTo(p.base, id),
		}
		if id == self {
			n.Class = "user"
		}
		n.SignY, n.LabelY, n.Sign = n.Y+6, n.Y+38, sign(n.Label)
		rows[column]++
		place[id] = n
	}
	return place
}

// between is the line from one coin to another.
func between(from, to neighbour) line {
	away := coinSize + 4
	switch {
	case from.X > to.X:
		away = -away
	case from.X == to.X: // one above the other
		return line{from.X + coinSize, from.Y, to.X + coinSize, to.Y}
	}
	return line{from.X + away, from.Y, to.X - away, to.Y}
}
