package exchange_test

import (
	"strings"
	"testing"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
	"obolus/transaction"
)

// What a token is bound to: ACT-08, DP-21 to DP-24, RFC 8705 section 3. "c1" and "c2" are certificates, "k1" and "k2" keys.
func TestWhatATokenIsBoundTo(t *testing.T) {
	t.Parallel()
	type held = token.Confirmation
	for _, c := range []struct {
		name           string
		agent          func(*agents.Agent)
		cert, proof    string
		subject, actor held
		byActor        bool
		want           held
		code           oauth.Code
	}{
		{name: "nothing at all"},
		{name: "a certificate that nobody asked for", cert: "c1"},
		{name: "a proof", proof: "k1", want: held{JKT: "k1"}},
		{name: "a proof beside a certificate", proof: "k1", cert: "c1", want: held{JKT: "k1"}},
		{name: "registered for its certificate", agent: bound, cert: "c1", want: held{X5T: "c1"}},
		{name: "registered for its certificate, with a proof", agent: bound, cert: "c1", proof: "k1", want: held{X5T: "c1", JKT: "k1"}},
		{name: "registered for its certificate, without one", agent: bound, code: oauth.InvalidRequest},
		{name: "registered for its certificate, a proof in its place", agent: bound, proof: "k1", code: oauth.InvalidRequest},
		{name: "registered for DPoP, a certificate in its place", agent: func(a *agents.Agent) { a.DPoP = true }, cert: "c1", code: oauth.InvalidDPoPProof},
		{name: "continued", subject: held{X5T: "c1"}, cert: "c1", want: held{X5T: "c1"}},
		{name: "continued with a proof too", subject: held{X5T: "c1"}, cert: "c1", proof: "k1", want: held{X5T: "c1", JKT: "k1"}},
		{name: "continued over another certificate", subject: held{X5T: "c1"}, cert: "c2", code: oauth.InvalidRequest},
		{name: "continued over none", subject: held{X5T: "c1"}, code: oauth.InvalidRequest},
		{name: "continued by a proof alone", subject: held{X5T: "c1"}, proof: "k1", code: oauth.InvalidRequest},
		{name: "bound to a key, continued with its proof", subject: held{JKT: "k1"}, cert: "c1", proof: "k1", want: held{JKT: "k1"}},
		{name: "registered for DPoP, with a proof", agent: func(a *agents.Agent) { a.DPoP = true }, proof: "k1", want: held{JKT: "k1"}},
		{name: "bound to a key, continued over a certificate", subject: held{JKT: "k1"}, cert: "c1", code: oauth.InvalidDPoPProof},
		{name: "bound to both, continued", subject: held{JKT: "k1", X5T: "c1"}, cert: "c1", proof: "k1", want: held{JKT: "k1", X5T: "c1"}},
		{name: "bound to both, the certificate is missing", subject: held{JKT: "k1", X5T: "c1"}, proof: "k1", code: oauth.InvalidRequest},
		{name: "bound to both, the proof is missing", subject: held{JKT: "k1", X5T: "c1"}, cert: "c1", code: oauth.InvalidDPoPProof},
		{name: "rebound to a certificate", byActor: true, actor: held{X5T: "c2"}, subject: held{JKT: "k1"}, cert: "c2", want: held{X5T: "c2"}},
		{name: "rebound to another certificate than the actor token's", byActor: true, actor: held{X5T: "c2"}, cert: "c1", code: oauth.InvalidRequest},
		{name: "rebound to what is there", byActor: true, subject: held{JKT: "k1"}, cert: "c1", want: held{X5T: "c1"}},
		{name: "rebound to nothing", byActor: true, subject: held{X5T: "c1"}, code: oauth.InvalidDPoPProof},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			w.Populate()
			key := w.Agent("agent-a", c.agent)
			w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read", "files.read"}})
			certs := map[string]*agents.Certificate{"": nil}
			of := func(h held) held { // names stand for thumbprints
				if h.X5T != "" {
					h.X5T = certs[h.X5T].Thumbprint()
				}
				return h
			}
			ca := world.NewAuthority(t, w.Now)
			for _, name := range []string{"c1", "c2"} {
				certs[name] = &agents.Certificate{Leaf: ca.Issue(nil).Leaf}
			}
			subject, actor := of(c.subject), of(c.actor)
			req := exchange.Request{
				SubjectToken:     w.UserToken("alice", func(s *transaction.Session) { s.JKT, s.X5T = subject.JKT, subject.X5T }),
				SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
			}
			if c.byActor {
				req.ActorToken = w.UserToken("agent-a", func(s *transaction.Session) { s.JKT, s.X5T = actor.JKT, actor.X5T })
				req.ActorTokenType = oauth.TypeAccessToken
			}
			if c.proof != "" {
				req.Proof = &token.Proof{JKT: c.proof, ID: "p", IssuedAt: w.Now()}
			}
			answer, err := w.Exchange.Do(t.Context(), present(t, w, "agent-a", key, certs[c.cert]), req)
			if c.code != "" {
				if err == nil || oauth.AsError(err).Code != c.code {
					t.Errorf("%v, want %s", err, c.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v, err := w.Verifier.Verify(t.Context(), answer.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			got := held{}
			if v.Claims().Confirm != nil {
				got = *v.Claims().Confirm
			}
			if got != of(c.want) || (answer.TokenType == oauth.DPoP) != (got.JKT != "") {
				t.Errorf("%+v as %s, want %+v", got, answer.TokenType, of(c.want))
			}
		})
	}
}

func bound(a *agents.Agent) { a.CertificateBound = true }

func present(t *testing.T, w *world.World, id string, key *token.SigningKey, cert *agents.Certificate) agents.Presented {
	t.Helper()
	p, err := w.Clients.Present(t.Context(), agents.Credentials{
		Method: oauth.AuthPrivateKeyJWT, ClientID: id, Assertion: w.SignedAssertion(id, key), Certificate: cert,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ACT-07: two agents whose registrations name each other may turn once, and nobody else at all.
func TestAPairMayTurnOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		to   map[string][]string // delegates_to
		hops string
		want oauth.Reason // of the last hop; empty: it is allowed
		// serves is an agent that serves the resource, so that it is the next hop of everybody; empty: none does.
		serves string
	}{
		{name: "there and back", to: map[string][]string{"a": {"b"}, "b": {"a"}}, hops: "aba"},
		{name: "there without leave, back with it", to: map[string][]string{"b": {"a"}}, serves: "b", hops: "aba", want: oauth.ReasonChainCycle},
		{name: "there with leave, back without it", to: map[string][]string{"a": {"b"}}, serves: "a", hops: "aba", want: oauth.ReasonChainCycle},
		{name: "there and back and there", to: map[string][]string{"a": {"b"}, "b": {"a"}}, hops: "abab", want: oauth.ReasonChainCycle},
		{name: "back without leave of the one", to: map[string][]string{"a": {"b"}}, hops: "aba", want: oauth.ReasonChainSplice},
		{name: "back without leave of the other", to: map[string][]string{"b": {"a"}, "c": {"b"}}, hops: "cba"},
		{name: "around", to: map[string][]string{"a": {"b", "c"}, "b": {"c", "a"}, "c": {"a", "b"}}, hops: "abca", want: oauth.ReasonChainCycle},
		{name: "there and back further down", to: map[string][]string{"c": {"a"}, "a": {"b"}, "b": {"a"}}, hops: "caba"},
		{name: "a third one after a turn", to: map[string][]string{"a": {"b", "c"}, "b": {"a"}}, hops: "abac"},
		{name: "one that was there before the turn", to: map[string][]string{"c": {"a"}, "a": {"b", "c"}, "b": {"a"}}, hops: "cabac", want: oauth.ReasonChainCycle},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			w.Settings.MaxDepth = 6
			w.Start()
			w.Populate()
			if c.serves != "" {
				changeResource(t, w, "files", func(r *agents.Resource) { r.Servers = append(r.Servers, c.serves) })
			}
			keys := map[string]*token.SigningKey{}
			for _, id := range []string{"a", "b", "c"} {
				keys[id] = w.Agent(id, func(a *agents.Agent) { a.DelegatesTo = c.to[id] })
				w.Consent("alice", id, "files", consent.Decision{Scopes: []string{"mail.read", "files.read"}})
			}
			subject := w.UserToken("alice", nil)
			for i, hop := range strings.Split(c.hops, "") {
				answer, err := w.Exchange.Do(t.Context(), w.Assertion(hop, keys[hop]), exchange.Request{
					SubjectToken: subject, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://files.test"}, Scope: "files.read",
				})
				if last := i == len(c.hops)-1; last && c.want != "" {
					if err == nil || oauth.AsError(err).Reason != c.want {
						t.Errorf("hop %d to %s: %v, want %s", i, hop, err, c.want)
					}
					return
				}
				if err != nil {
					t.Fatalf("hop %d to %s: %v", i, hop, err)
				}
				subject = answer.AccessToken
			}
			v, err := w.Verifier.Verify(t.Context(), subject)
			if err != nil {
				t.Fatal(err)
			}
			chain, err := v.Claims().Act.Chain(16)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, actor := range chain {
				got = actor.Subject + got
			}
			if got != c.hops {
				t.Errorf("the chain is %s", got)
			}
		})
	}
}

// One who is in the chain twice is stopped like any other, with everything that came of it.
func TestAStoppedPair(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Populate()
	keys := map[string]*token.SigningKey{}
	for id, other := range map[string]string{"a": "b", "b": "a"} {
		keys[id] = w.Agent(id, func(a *agents.Agent) { a.DelegatesTo = []string{other} })
		w.Consent("alice", id, "files", consent.Decision{Scopes: []string{"mail.read", "files.read"}})
	}
	subject := w.UserToken("alice", nil)
	for _, hop := range []string{"a", "b", "a"} {
		answer, err := w.Exchange.Do(t.Context(), w.Assertion(hop, keys[hop]), exchange.Request{
			SubjectToken: subject, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://files.test"}, Scope: "files.read",
		})
		if err != nil {
			t.Fatal(err)
		}
		subject = answer.AccessToken
	}
	v, err := w.Verifier.Verify(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := w.Tx.Standing(t.Context(), v); err != nil || s.Phase != transaction.PhaseIssued {
		t.Fatal(s, err)
	}
	if _, err := w.Tx.SetState(t.Context(), "b", agents.Suspended, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	if s, err := w.Tx.Standing(t.Context(), v); err != nil || s.Phase != transaction.PhaseRevoked {
		t.Error(s, err)
	}
}
