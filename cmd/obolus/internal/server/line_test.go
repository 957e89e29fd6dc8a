package server_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"obolus/cmd/obolus/internal/server"
)

// waits is a model of who waits: no tree, no turns, only what must be true of them.
type waits struct {
	*server.Waiting
	address, agent string
}

// TestTurns: whoever comes and goes, each has a turn once, in the order in which its agent came; between two turns of an address every other one
// that waits has one, and so it is with the agents of an address; and nothing is kept of those who are gone.
func TestTurns(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var line server.Line
		var model []waits
		var served []waits // one by one, since the last arrival
		name := rapid.IntRange(0, 3)
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				w := waits{address: fmt.Sprint(name.Draw(t, "address")), agent: fmt.Sprint(name.Draw(t, "agent"))}
				w.Waiting = line.Join(w.address, w.agent)
				model, served = append(model, w), nil
			},
			"leave": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
				model[i].Leave()
				model = slices.Delete(model, i, i+1)
			},
			"next": func(t *rapid.T) {
				got := line.Next()
				if (got == nil) != (len(model) == 0) {
					t.Fatalf("%v is next of %d", got, len(model))
				}
				if got == nil {
					t.Skip()
				}
				i := slices.IndexFunc(model, func(w waits) bool { return w.Is(got) })
				if i < 0 {
					t.Fatal("somebody has a turn who does not wait")
				}
				is := model[i]
				same := func(w waits) bool { return w.address == is.address && w.agent == is.agent }
				if first := slices.IndexFunc(model, same); first != i {
					t.Fatal("an agent's requests change their order")
				}
				fair(t, served, model, is)
				model, served = slices.Delete(model, i, i+1), append(served, is)
			},
			"": func(t *rapid.T) {
				if len(model) == 0 && !line.Empty() {
					t.Fatal("something is kept of those who are gone")
				}
				weighed(t, &line, model)
			},
		})
	})
}

// fair holds a turn against those since the last arrival: who was served since its own last turn must be everybody else that waits.
func fair(t *rapid.T, served, model []waits, is waits) {
	for i, was := range slices.Backward(served) {
		if was.address != is.address {
			continue
		}
		for _, w := range model {
			if w.address != is.address && !slices.ContainsFunc(served[i:], func(s waits) bool { return s.address == w.address }) {
				t.Fatalf("%s has a turn again before %s", is.address, w.address)
			}
			if w.address == is.address && was.agent == is.agent && w.agent != is.agent {
				t.Fatalf("%s at %s has a turn again before %s", is.agent, is.address, w.agent)
			}
		}
		return
	}
}

func weighed(t *rapid.T, line *server.Line, model []waits) {
	all, own := line.Weight("0", "0")
	wantAll, wantOwn := len(model), 0
	for _, w := range model {
		if w.address == "0" {
			wantAll++
		}
		if w.address == "0" && w.agent == "0" {
			wantAll++
			wantOwn++
		}
	}
	if all != wantAll || own != wantOwn {
		t.Fatalf("weight %d and %d, not %d and %d", all, own, wantAll, wantOwn)
	}
}
