package main

import (
	"testing"

	"obolus/cmd/obolus/internal/operator"
)

// Agents that are known by the word of somebody else, from the command line.
func TestIdentitiesByHand(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	do := func(code int, words string, args ...string) said {
		t.Helper()
		return obolus(t, append(args, p.flags()...)...).want(t, code, words)
	}
	do(0, "", "agent", "add", "mesh", "--spiffe-id", "spiffe://example.org/mesh", "--dpop")
	do(0, "spiffe_jwt", "agent", "show", "mesh")
	do(0, "spiffe://example.org/mesh", "agent", "show", "mesh")
	do(0, "", "agent", "add", "peer", "--spiffe-id", "spiffe://example.org/peer", "--auth", "spiffe_x509", "--certificate-bound")
	do(0, "spiffe_x509", "agent", "show", "peer")
	do(operator.ExitConflict, "spiffe://example.org/mesh", "agent", "add", "twin", "--spiffe-id", "spiffe://example.org/mesh")
	do(0, "", "agent", "add", "pod", "--workload-issuer", "https://cluster.example.com", "--workload-subject", "system:serviceaccount:mail:pod",
		"--workload-claim", "/kubernetes.io/namespace=mail", "--workload-claim", "ref=a,b=c")
	do(0, "system:serviceaccount:mail:pod", "agent", "show", "pod")
	do(0, "a,b=c", "agent", "show", "pod")
	do(0, "", "agent", "add", "tls", "--certificate-for", "dn:CN=tls,O=Acme")
	do(0, "dn:CN=tls,O=Acme", "agent", "show", "tls")
	do(0, "federated_jwt", "client", "add", "server", "--workload-issuer", "https://cluster.example.com", "--workload-subject", "server")
	do(operator.ExitUsage, "--workload-issuer", "agent", "add", "x", "--workload-subject", "y")
	do(operator.ExitUsage, "is none of dn:NAME", "agent", "add", "x", "--certificate-for", "cn:y")
	do(operator.ExitUsage, "is not known by that", "agent", "add", "x", "--spiffe-id", "spiffe://a/b", "--auth", "tls_client_auth")
	do(operator.ExitUsage, "", "agent", "add", "x", "--spiffe-id", "spiffe://a/b", "--workload-issuer", "https://c.test")
	do(operator.ExitRefused, "not the SPIFFE ID of a workload", "agent", "add", "x", "--spiffe-id", "b")
	do(operator.ExitRefused, "name a subject or claims", "agent", "add", "x", "--workload-issuer", "https://c.test")
}
