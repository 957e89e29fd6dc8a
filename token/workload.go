package token

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"obolus/oauth/strict"
)

// WorkloadExpect is what the token of a platform must be.
type WorkloadExpect struct {
	Issuer   string
	Audience string // the only one
	Keys     KeySource
	Algs     []string // empty: ProofAlgorithms
	Now      func() time.Time
}

// Workload is the verified token that a platform gave to a workload of its own: a Kubernetes service account, a CI job, a cloud instance.
type Workload struct {
	Claims Claims
	raw    json.RawMessage
}

// VerifyWorkload checks a token of a platform: signature by a key of the issuer, iss, the one audience, exp at most MaxWorkloadLifetime ahead.
// What it does not check is whose token it is, for which see Says, and whether it was shown before.
func VerifyWorkload(ctx context.Context, s string, e WorkloadExpect) (Workload, error) {
	got, err := VerifyJWT(ctx, s, Expect{
		Issuer: e.Issuer, Keys: e.Keys, Algs: e.Algs, Types: []string{"", "jwt"}, RequireExp: true, MaxLifetime: MaxWorkloadLifetime, Now: e.Now,
	})
	if err != nil {
		return Workload{}, err
	}
	return Workload{Claims: got.Claims, raw: got.Raw}, workloadClaims(got.Claims, e.Audience, e.Now)
}

// Says whether the token has a claim of exactly this value. The name is that of a member, or, if it begins with a slash, a path to one inside
// others (RFC 6901), as in /kubernetes.io/namespace. A number or a boolean is compared by its text; an object, an array and null are equal to
// nothing.
func (w Workload) Says(name, value string) bool {
	at := []byte(w.raw)
	for _, step := range Pointer(name) {
		next := memberOf(at, step)
		if next == nil {
			return false
		}
		at = next
	}
	switch at[0] {
	case '"':
		var got string
		return readText(&got, at) == nil && got == value
	case '{', '[', 'n':
		return false
	default:
		return string(at) == value
	}
}

// Pointer takes the name of a claim apart into the members that lead to it.
func Pointer(name string) []string {
	path, ok := strings.CutPrefix(name, "/")
	if !ok {
		return []string{name}
	}
	steps := strings.Split(path, "/")
	for i, step := range steps {
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
	}
	return steps
}

// memberOf finds a member of an object, of a document that was checked; nil: there is none, or this is no object.
func memberOf(doc []byte, name string) []byte {
	if doc[0] != '{' {
		return nil
	}
	var found []byte
	_ = strict.Object(doc, payloadLimits(), func(member string, value []byte) error {
		if member == name {
			found = value
		}
		return nil
	})
	return found
}
