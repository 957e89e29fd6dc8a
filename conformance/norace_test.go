//go:build !race

package conformance_test

// raceEnabled says that the tests, and so the program they build, watch for data races.
const raceEnabled = false
