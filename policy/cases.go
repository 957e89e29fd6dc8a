package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"obolus/oauth/strict"
)

// Case is an example of what a set must decide.
type Case struct {
	Name  string `json:"name"`
	Input Input  `json:"input"`
	Allow bool   `json:"allow"`
	// Policies must be those that decided, in any order; absent: any.
	Policies []string `json:"policies,omitempty"`
}

// Result is what became of a Case.
type Result struct {
	Case
	Got    Decision `json:"got"`
	Passed bool     `json:"passed"`
	Why    string   `json:"why,omitempty"` // it did not pass
}

// maxCases bounds a file of cases.
const maxCases = 4 << 20

// ReadCases reads a JSON array of cases. A member that it does not know is an error, since a misspelt expectation would expect nothing.
func ReadCases(data []byte) ([]Case, error) {
	if err := strict.Check(data, strict.Limits{Bytes: maxCases, Depth: 32}); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var cases []Case
	if err := dec.Decode(&cases); err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	for i, c := range cases {
		if c.Name == "" {
			return nil, fmt.Errorf("cases: case %d has no name", i+1)
		}
	}
	return cases, nil
}

// Test decides every case by the set in force.
func (e *Engine) Test(cases []Case) []Result {
	s := e.now.Load()
	results := make([]Result, 0, len(cases))
	for _, c := range cases {
		r := Result{Case: c, Got: e.decide(s, c.Input)}
		r.Why = c.differs(r.Got)
		r.Passed = r.Why == ""
		results = append(results, r)
	}
	return results
}

func (c Case) differs(got Decision) string {
	want := slices.Sorted(slices.Values(c.Policies))
	switch {
	case got.Allowed && !c.Allow:
		return "it was allowed"
	case !got.Allowed && c.Allow:
		return fmt.Sprintf("it was refused by %v %v", got.Policies, got.Errors)
	case c.Policies != nil && !slices.Equal(want, slices.Sorted(slices.Values(got.Policies))):
		return fmt.Sprintf("it was decided by %v", got.Policies)
	default:
		return ""
	}
}
