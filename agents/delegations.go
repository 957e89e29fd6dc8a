package agents

import (
	"context"
	"slices"
)

// Delegations are who may hand on to whom around one agent.
type Delegations struct {
	Agent string `json:"agent"`
	// From are the agents that may hand on to it.
	From []string `json:"from"`
	// Hands are every step from it downward, nearest first. An agent that is named and not registered is there all the same.
	Hands []Hand `json:"hands"`
	More  bool   `json:"more,omitempty"` // there are more agents than were looked at
}

// Hand is one agent that may hand on to another.
type Hand struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// handsMost bounds how many steps are followed.
const handsMost = 500

// What is looked through for them at most.
const (
	aroundPage = 1000
	aroundMost = 50_000
)

// Around looks through a list of all agents for who may hand on to whom around one of them.
func Around(ctx context.Context, list func(ctx context.Context, after string, limit int) ([]Agent, error), a Agent) (Delegations, error) {
	d := Delegations{Agent: a.ID, From: []string{}, Hands: []Hand{}}
	to := map[string][]string{a.ID: a.DelegatesTo}
	after, seen := "", 0
	for {
		page, err := list(ctx, after, aroundPage)
		if err != nil {
			return d, err
		}
		for _, other := range page {
			after = other.ID
			if len(other.DelegatesTo) == 0 {
				continue
			}
			to[other.ID] = other.DelegatesTo
			if slices.Contains(other.DelegatesTo, a.ID) {
				d.From = append(d.From, other.ID)
			}
		}
		seen += len(page)
		if d.More = len(page) == aroundPage && seen >= aroundMost; d.More || len(page) < aroundPage {
			d.follow(to)
			return d, nil
		}
	}
}

// follow walks down from the agent, each agent once.
func (d *Delegations) follow(to map[string][]string) {
	been := map[string]bool{d.Agent: true}
	for next := []string{d.Agent}; len(next) > 0; next = next[1:] {
		for _, other := range to[next[0]] {
			if len(d.Hands) == handsMost {
				d.More = true
				return
			}
			d.Hands = append(d.Hands, Hand{next[0], other})
			if !been[other] {
				been[other] = true
				next = append(next, other)
			}
		}
	}
}
