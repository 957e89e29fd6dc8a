package web

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"obolus/audit"
)

// picture is a chain of delegation to be drawn: who said what to whom, from the user down to the resource. Everything in it is
// computed here; the template only draws.
type picture struct {
	Height int
	Nodes  []node
	Words  string // the same for who cannot see it
}

// node is one coin of the picture and the line that leads to the next.
type node struct {
	Y      int // centre
	Label  string
	Role   string
	Sign   string // in the coin
	Class  string
	Line   bool
	From   int // the line
	To     int
	Middle int
	Says   string
}

const (
	nodeStep = 96
	nodeTop  = 44
	nodeSize = 26
)

// picture draws what an event says of the chain.
func (s *Server) picture(_ *visit, e audit.Event) picture {
	nodes := []node{{Label: visible(e.User, 40), Role: "user", Class: "user", Says: "allowed"}}
	chain := slices.Clone(e.Chain)
	if len(chain) == 0 && e.Actor != "" {
		chain = []string{e.Actor}
	}
	slices.Reverse(chain) // outermost first in the token; the first who was asked comes first here
	for i, actor := range chain {
		n := node{Label: visible(actor, 40), Role: "agent", Class: "agent", Says: "handed on to"}
		if i == len(chain)-1 {
			n.Role, n.Says = "agent, acts now", "for one transaction at"
		}
		nodes = append(nodes, n)
	}
	nodes = append(nodes, node{Label: visible(e.Target, 40), Role: "resource", Class: "resource"})
	var words []string
	for i := range nodes {
		n := &nodes[i]
		n.Y = nodeTop + i*nodeStep
		n.Sign = sign(n.Label)
		words = append(words, n.Label)
		if i < len(nodes)-1 {
			n.Line, n.From, n.To = true, n.Y+nodeSize+4, n.Y+nodeStep-nodeSize-10
			n.Middle = n.Y + nodeStep/2 + 4
			words = append(words, n.Says)
		}
	}
	return picture{Height: nodeTop*2 + (len(nodes)-1)*nodeStep, Nodes: nodes, Words: strings.Join(words, " ")}
}

// sign is the letter in a coin.
func sign(label string) string {
	r, _ := utf8.DecodeRuneInString(strings.TrimPrefix(strings.TrimPrefix(label, "https://"), "http://"))
	return strings.ToUpper(string(r))
}

// pathTo is the console's page of an agent, whose id may have a slash in it.
func pathTo(base, agent string) string { return base + "/console/agent?id=" + url.QueryEscape(agent) }
