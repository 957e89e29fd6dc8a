package conformance_test

import (
	"slices"
	"testing"
)

// testCase is what holds one row of the checklist.
type testCase struct {
	id    string
	title string
	run   func(c *check)
}

// cases are all of them.
func cases() []testCase {
	return slices.Concat(
		transportCases(), requestCases(), inputCases(), chainCases(), responseCases(),
		tokenCases(), targetCases(), introspectionCases(), revocationCases(), clientCases(), joseCases(),
		onceCases(), faultCases(), proofCases(), pushedCases(), codeCases(), pageCases(), detailCases(), attackCases(),
		identityCases(), grantableCases(), signalCases(), guardCases(), actorCases(), fetchCases(),
	)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("bolt+memory", func(t *testing.T) {
		t.Parallel()
		run(t, boltMemory(), cases())
	})
	t.Run("postgres+redis", func(t *testing.T) {
		t.Parallel()
		run(t, postgresRedis(t), cases())
	})
	t.Run("postgres+sentinel", func(t *testing.T) {
		t.Parallel()
		run(t, postgresAnd(t, "sentinel", watched), casesOfRedis())
	})
	t.Run("postgres+cluster", func(t *testing.T) {
		t.Parallel()
		run(t, postgresAnd(t, "cluster", spread), casesOfRedis())
	})
}

// run runs cases on one installation. Those that break something take one of their own.
func run(t *testing.T, s shape, list []testCase) {
	t.Helper()
	e := s.start(t, nil)
	for _, tc := range list {
		t.Run(tc.id, func(t *testing.T) {
			t.Parallel()
			tc.run(&check{t, e})
		})
	}
}

// start runs an installation of the shape until the test ends.
func (s shape) start(t *testing.T, change func(*options)) *env {
	t.Helper()
	o := s.stores(t)
	if change != nil {
		change(&o)
	}
	e := start(t, s.name, o)
	e.again = func(t *testing.T, change func(*options)) *env {
		t.Helper()
		return s.start(t, change)
	}
	return e
}

// apart is a check on an installation of its own, of the same shape.
func (c *check) apart(change func(*options)) *check {
	c.Helper()
	return &check{c.T, c.again(c.T, change)}
}
