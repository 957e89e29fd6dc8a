// Package conformance holds the server to the standards from outside: it builds the program once, runs it as its users
// would, and speaks HTTP to it. It shares no code with what it tests: tokens, assertions and proofs are signed and read here
// with the standard library alone. Requirements of a resource server are held by the guard of package resource, which stands here
// before handlers that count their effects, in replicas that ask the real server.
//
// Every case has the ID of a row in the checklist of requirements ("TX-26"), and runs against two shapes of an
// installation:
//
//   - bolt+memory: one process with everything in it
//   - postgres+redis: two processes that share a PostgreSQL and a Redis; requests alternate between them
//
// Those for which it matters what kind of Redis holds the live data run against two more:
//
//   - postgres+sentinel: a master and a replica under a Sentinel
//   - postgres+cluster: three masters, each with a replica
//
// An ID picks its cases:
//
//	go test ./conformance -run TX-26            one requirement, every shape
//	go test ./conformance -run 'TX-|DP-'        two families
//	go test ./conformance -run bolt.memory/OT-01
//
// A Go test cannot be called TX-26, so a -run pattern with such an ID in it is read as one below TestConformance: the first two
// become 'TestConformance/./(TX-26)'. Any other pattern means what it always means.
//
// OBOLUS_TEST_ROUNDS sets how many rounds TestOneFirst, TestKill9 and TestStop run:
//
//	OBOLUS_TEST_ROUNDS=1000 go test ./conformance -run TestOneFirst -timeout 30m
//
// docs/rfc.md says which case holds which requirement, and which requirements have none and why; a test compares the
// two.
package conformance
