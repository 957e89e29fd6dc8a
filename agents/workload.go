package agents

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"obolus/oauth"
	"obolus/store"
	"obolus/token"
)

// TrustDomain is a SPIFFE trust domain whose workloads may be agents and clients here.
type TrustDomain struct {
	ID string // example.org
	// Keys are its JWT authorities, Authorities the X.509 ones; nil: it has none of the kind.
	Keys        token.KeySource
	Authorities func(context.Context) ([]*x509.Certificate, error)
}

// WorkloadIssuer is a platform that gives tokens to the workloads that run on it.
type WorkloadIssuer struct {
	Issuer     string
	Keys       token.KeySource
	Algorithms []string // empty: token.ProofAlgorithms
	Audience   string   // its tokens must name, and no other; empty: this server's issuer identifier
}

// errKey is for a credential that could be shown again by whoever has seen it.
func errKey() error {
	return oauth.Refuse(oauth.InvalidDPoPProof, oauth.ReasonProofMissing,
		"the credential can be used more than once: send a DPoP proof, or connect with a client certificate")
}

// Federates says whether the tokens of an issuer are those of workloads.
func (a *Authenticator) Federates(issuer string) bool {
	_, ok := a.workloads[issuer]
	return ok
}

// Methods are the ways to authenticate that can work here, if the transport tells of certificates.
func (a *Authenticator) Methods() []oauth.AuthMethod {
	list := []oauth.AuthMethod{oauth.AuthPrivateKeyJWT, oauth.AuthSecretBasic, oauth.AuthSecretPost}
	if len(a.domains) > 0 {
		list = append(list, oauth.AuthSPIFFEJWT, oauth.AuthSPIFFEX509)
	}
	if len(a.workloads) > 0 {
		list = append(list, oauth.AuthFederated)
	}
	if a.cfg.ClientAuthorities != nil {
		list = append(list, oauth.AuthTLS)
	}
	return append(list, oauth.AuthSelfSigned)
}

// checkSVID checks a JWT-SVID. It is shown many times, so the request must prove a key beside it.
func (a *Authenticator) checkSVID(ctx context.Context, p Presented) (Presented, error) {
	got, err := a.verifySVID(ctx, p.creds.Assertion)
	if err != nil {
		return Presented{}, errClient(oauth.ReasonWorkload, err)
	}
	want := p.known.credential()
	if want.Auth != oauth.AuthSPIFFEJWT || got.ID.String() != want.SPIFFE {
		return Presented{}, errClient(oauth.ReasonWorkload, errors.New("the JWT-SVID is of another workload"))
	}
	if !p.creds.holdsKey() {
		return Presented{}, errKey()
	}
	return a.reusable(ctx, p, got.Claims)
}

func (a *Authenticator) verifySVID(ctx context.Context, compact string) (token.SVID, error) {
	_, sub, err := token.Peek(compact)
	if err != nil {
		return token.SVID{}, err
	}
	id, err := token.ParseSPIFFEID(sub)
	if err != nil {
		return token.SVID{}, err
	}
	domain, ok := a.domains[id.TrustDomain]
	if !ok {
		return token.SVID{}, fmt.Errorf("the trust domain %q is not configured", id.TrustDomain)
	}
	return token.VerifySVID(ctx, compact, token.SVIDExpect{
		TrustDomain: domain.ID, Audience: a.cfg.Issuer, Keys: domain.Keys, Now: a.cfg.Now,
	})
}

// reusable is a credential that is not spent.
func (a *Authenticator) reusable(ctx context.Context, p Presented, c token.Claims) (Presented, error) {
	p.reusable, p.expires = true, time.Unix(c.Expires, 0)
	return p, a.Await(ctx, time.Unix(max(c.IssuedAt, c.NotBefore), 0))
}

// checkFederated checks the token of a platform. Beside the proof of a key it may be shown again; without, it is spent by its jti, and
// one that has no jti, or does not say when it was issued, is refused.
func (a *Authenticator) checkFederated(ctx context.Context, p Presented) (Presented, error) {
	got, err := a.verifyWorkload(ctx, p.creds.Assertion)
	if err != nil {
		return Presented{}, errClient(oauth.ReasonWorkload, err)
	}
	want := p.known.credential()
	if want.Auth != oauth.AuthFederated || !want.Federated.is(got) {
		return Presented{}, errClient(oauth.ReasonWorkload, errors.New("the token is of another workload"))
	}
	c := got.Claims
	switch {
	case p.creds.holdsKey():
		return a.reusable(ctx, p, c)
	case c.ID == "" || c.IssuedAt == 0:
		return Presented{}, errKey()
	}
	p.jti, p.expires, p.issued = c.Issuer+" "+c.ID, time.Unix(c.Expires, 0), time.Unix(c.IssuedAt, 0)
	return p, a.Await(ctx, time.Unix(max(c.IssuedAt, c.NotBefore), 0))
}

func (a *Authenticator) verifyWorkload(ctx context.Context, compact string) (token.Workload, error) {
	issuer, _, err := token.Peek(compact)
	if err != nil {
		return token.Workload{}, err
	}
	from, ok := a.workloads[issuer]
	if !ok {
		return token.Workload{}, fmt.Errorf("%q is not an issuer of workloads", issuer)
	}
	return token.VerifyWorkload(ctx, compact, token.WorkloadExpect{
		Issuer: from.Issuer, Audience: from.Audience, Keys: from.Keys, Algs: from.Algorithms, Now: a.cfg.Now,
	})
}

// ErrOther: an actor token names somebody else than the agent that shows it.
var ErrOther = errors.New("the token names somebody else")

// maxActorLifetime bounds how long an actor token of an agent's own making may be good for.
const maxActorLifetime = time.Hour

// ActorToken verifies a JWT by which an agent shows itself as an actor. Which kind it is says the registration and nothing else: one that
// the agent signed by its key, with itself as iss and sub; its JWT-SVID; or the token of the workload it runs as. It relies on the registration as
// last seen: whoever uses it confirms the agent as well. What it does not check is whether the token was shown before, and whether the
// proof of its key came along.
func (a *Authenticator) ActorToken(ctx context.Context, id, compact string) (token.Claims, error) {
	known, _, err := a.guess(ctx, id)
	if err != nil {
		return token.Claims{}, err
	}
	switch want := known.credential(); want.Auth {
	case oauth.AuthSPIFFEJWT, oauth.AuthSPIFFEX509:
		got, err := a.verifySVID(ctx, compact)
		if err == nil && got.ID.String() != want.SPIFFE {
			err = ErrOther
		}
		return got.Claims, err
	case oauth.AuthFederated:
		got, err := a.verifyWorkload(ctx, compact)
		if err == nil && !want.Federated.is(got) {
			err = ErrOther
		}
		return got.Claims, err
	default:
		return a.signedActor(ctx, id, compact, known)
	}
}

func (a *Authenticator) signedActor(ctx context.Context, id, compact string, known party) (token.Claims, error) {
	issuer, sub, err := token.Peek(compact)
	if err != nil {
		return token.Claims{}, err
	}
	if sub != id || issuer != id {
		return token.Claims{}, ErrOther
	}
	got, err := token.VerifyJWT(ctx, compact, token.Expect{
		Issuer: id, Keys: a.keys(known), Audience: a.cfg.Issuer, RequireExp: true, MaxLifetime: maxActorLifetime, Now: a.cfg.Now,
		Types: []string{"", "JWT", "client-authentication+jwt"},
	})
	return got.Claims, err
}

// spiffeIDs is which agent or client is registered with a SPIFFE ID: one, so that an SVID says who shows it.
const spiffeIDs = "spiffe"

// spiffeKey is the record of a SPIFFE ID. Those are longer than the name of a record may be.
func spiffeKey(id string) store.Key { return store.Key{Partition: spiffeIDs, Name: token.Hash(id)} }

// claimSPIFFE takes a SPIFFE ID for an agent or a client. One whose holder has gone, or has another by now, is free.
func (r *Registry) claimSPIFFE(ctx context.Context, id, spiffe string) error {
	if spiffe == "" {
		return nil
	}
	key := spiffeKey(spiffe)
	cond := store.Condition{Name: key.Name, Is: store.Absent}
	for {
		out, err := r.mirror.Commit(ctx, store.Commit{
			Partition: key.Partition, If: []store.Condition{cond}, Writes: []store.Write{{Name: key.Name, Value: []byte(id)}},
		})
		if err != nil || out.Applied {
			return err
		}
		seen := out.Seen[0]
		if string(seen.Value) == id {
			return nil
		}
		holder, _, err := r.party(ctx, string(seen.Value))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if holder.credential().SPIFFE == spiffe {
			return fmt.Errorf("%s is that of %q: %w", spiffe, seen.Value, ErrTaken)
		}
		cond = at(key.Name, seen.Version)
	}
}

// named finds the client that a request calls by its SPIFFE ID; any other name is the client's own. What the process has seen is a guess, and held
// against the registration as every other is.
func (a *Authenticator) named(ctx context.Context, id string) (string, error) {
	if !strings.HasPrefix(id, "spiffe://") {
		return id, nil
	}
	key := spiffeKey(id)
	seen, _, _ := a.cfg.Registry.seen.Latest(key)
	if holder, ok := seen.(string); ok && a.cfg.Registry.guessSPIFFE(holder) == id {
		return holder, nil
	}
	recs, err := a.cfg.Mirror.Read(ctx, key)
	if err != nil {
		return "", unavailable(err)
	}
	if !recs[0].Exists() {
		return id, nil
	}
	holder := string(recs[0].Value)
	a.cfg.Registry.seen.Put(key, recs[0].Version, holder)
	return holder, nil
}

// guessSPIFFE is the SPIFFE ID of a client as last seen.
func (r *Registry) guessSPIFFE(id string) string {
	seen, _, _ := r.seen.Latest(r.partyKey(id))
	p, ok := seen.(party)
	if !ok {
		return ""
	}
	return p.credential().SPIFFE
}
