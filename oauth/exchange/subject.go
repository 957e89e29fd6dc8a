package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/oauth"
	"obolus/oauth/details"
	"obolus/oauth/strict"
	"obolus/token"
	"obolus/transaction"
)

// TrustedIssuer is somebody else whose tokens may be subject tokens.
type TrustedIssuer struct {
	Issuer     string
	Keys       token.KeySource
	Algorithms []string
	// Types are the subject token types accepted of it: jwt, id_token.
	Types []oauth.TokenType
	// Audience is what a jwt must be for; empty: this server's issuer identifier.
	Audience string
	// SubjectPrefix is put before its sub to make the id of the user here.
	SubjectPrefix string
	// Scopes are what a token stands for that does not say; empty: nothing.
	Scopes []string
	// Clients maps its client ids to agents here: an ID token is taken from the agent whose client it was issued to.
	Clients map[string]string
}

// subject is the verified answer to "on whose behalf": step 2.
type subject struct {
	user    string
	claims  token.Claims
	own     *token.Verified // nil for a token of a trusted issuer
	scopes  []string
	details details.Set
	bounded bool // nothing may be wider than the details: the token names some, or somebody acts by it already, and it has none but those that it names
	expires time.Time
	owner   string // of a trusted issuer's ID token: the agent that it was issued to
	jti     string
}

// subject verifies the subject token by the rules of its declared type, RFC 8693 section 2.1. What it does not check is
// whether the token was stopped, and whether the requester is entitled to it.
func (x *Exchange) subject(ctx context.Context, a ask) (subject, error) {
	switch a.SubjectTokenType {
	case oauth.TypeAccessToken:
		return x.ownSubject(ctx, a.SubjectToken)
	case oauth.TypeJWT, oauth.TypeIDToken:
		return x.foreignSubject(ctx, a)
	default:
		return subject{}, errSubject(oauth.ReasonSubject, errors.New("unsupported subject_token_type"))
	}
}

func (x *Exchange) ownSubject(ctx context.Context, compact string) (subject, error) {
	v, err := x.cfg.Verifier.Verify(ctx, compact)
	if err != nil {
		return subject{}, errSubject(oauth.ReasonSubject, err)
	}
	c := v.Claims()
	s := subject{user: c.Subject, claims: c, own: &v, scopes: c.Scopes(), bounded: c.Act != nil, expires: time.Unix(c.Expires, 0), jti: c.ID}
	return s, x.subjectDetails(&s)
}

// foreignSubject verifies a token of a trusted issuer: an ID token of OpenID Connect Core section 2, or a JWT for this
// server.
func (x *Exchange) foreignSubject(ctx context.Context, a ask) (subject, error) {
	issuer, _, err := token.Peek(a.SubjectToken)
	if err != nil {
		return subject{}, errSubject(oauth.ReasonSubject, err)
	}
	i := slices.IndexFunc(x.cfg.Trusted, func(t TrustedIssuer) bool { return t.Issuer == issuer })
	if i < 0 || !slices.Contains(x.cfg.Trusted[i].Types, a.SubjectTokenType) {
		return subject{}, errSubject(oauth.ReasonSubject, errors.New("the issuer is not trusted for this type"))
	}
	from := x.cfg.Trusted[i]
	expect := token.Expect{
		Issuer: from.Issuer, Keys: from.Keys, Algs: from.Algorithms, Types: []string{"", "JWT"}, RequireExp: true, Now: x.cfg.Now,
	}
	if a.SubjectTokenType == oauth.TypeJWT {
		if expect.Audience = from.Audience; expect.Audience == "" {
			expect.Audience = x.cfg.Issuer
		}
	}
	got, err := token.VerifyJWT(ctx, a.SubjectToken, expect)
	if err != nil {
		return subject{}, errSubject(oauth.ReasonSubject, err)
	}
	c := got.Claims
	if c.Subject == "" || c.Event || c.Confirm != nil || c.Act != nil && a.SubjectTokenType == oauth.TypeIDToken {
		return subject{}, errSubject(oauth.ReasonSubject, errors.New("the claims are not those of the type"))
	}
	s := subject{user: from.SubjectPrefix + c.Subject, claims: c, expires: time.Unix(c.Expires, 0), jti: from.Issuer + " " + c.ID}
	if s.scopes, err = from.scopesOf(got); err != nil {
		return subject{}, errSubject(oauth.ReasonSubject, err)
	}
	if a.SubjectTokenType == oauth.TypeIDToken {
		client, err := issuedTo(c)
		if err != nil {
			return subject{}, errSubject(oauth.ReasonSubject, err)
		}
		s.owner = from.agentFor(client)
	}
	return s, x.subjectDetails(&s)
}

// issuedTo is the client that an ID token was issued to: OpenID Connect Core section 3.1.3.7. Of several audiences it is the authorized party.
func issuedTo(c token.Claims) (string, error) {
	switch {
	case len(c.Audience) == 1:
		return c.Audience[0], nil
	case c.Party != "" && c.Audience.Has(c.Party):
		return c.Party, nil
	default:
		return "", errors.New("the ID token does not say to which client it was issued")
	}
}

// scopesOf is what a token is good for: what it says by scope, be it nothing; or by scp, as some issuers call it; and if it does not say,
// what the issuer's tokens stand for.
func (t TrustedIssuer) scopesOf(got token.JWT) ([]string, error) {
	if got.Claims.Scope != "" {
		return got.Claims.Scopes(), nil
	}
	scopes, none := t.Scopes, false
	err := strict.Object(got.Raw, strict.Limits{}, func(name string, value []byte) error {
		switch {
		case name == "scope":
			none = true
		case name == "scp" && value[0] == '"':
			var list string
			err := json.Unmarshal(value, &list)
			scopes = strings.Fields(list)
			return err
		case name == "scp":
			scopes = nil
			return json.Unmarshal(value, &scopes)
		}
		return nil
	})
	if none {
		return nil, err
	}
	return scopes, err
}

// agentFor is the agent whose client at the issuer this is; a client not mapped has the same id here.
func (t TrustedIssuer) agentFor(client string) string {
	if agent, ok := t.Clients[client]; ok {
		return agent
	}
	return client
}

func (x *Exchange) subjectDetails(s *subject) error {
	if len(s.claims.Details) == 0 {
		return nil
	}
	set, err := x.cfg.Details.Parse(s.claims.Details)
	if err != nil {
		return errSubject(oauth.ReasonSubjectDetails, err)
	}
	s.details, s.bounded = set, true
	return nil
}

func (s subject) limit() bound {
	return bound{scopes: s.scopes, details: s.details, anyDetails: !s.bounded}
}

// actor is a verified actor token: step 3. Nil stands for none.
type actor struct {
	expires time.Time
	held    // what it is bound to
}

// actor verifies the actor token: a JWT by which the agent shows itself (agents.Authenticator.ActorToken), or an access token of ours that
// is the agent's own. It must name the requester, and carry no chain.
func (x *Exchange) actor(ctx context.Context, a ask, requester string) (*actor, error) {
	switch {
	case a.ActorToken == "":
		return nil, nil //nolint:nilnil // no actor token is an ordinary request
	case a.ActorTokenType == oauth.TypeJWT:
		return x.shownActor(ctx, a.ActorToken, requester)
	case a.ActorTokenType == oauth.TypeAccessToken:
		return x.issuedActor(ctx, a.ActorToken, requester)
	default:
		return nil, errActor(oauth.ReasonActor, errors.New("unsupported actor_token_type"))
	}
}

func (x *Exchange) shownActor(ctx context.Context, compact, requester string) (*actor, error) {
	c, err := x.cfg.Clients.ActorToken(ctx, requester, compact)
	switch {
	case errors.Is(err, agents.ErrOther):
		return nil, errActor(oauth.ReasonActorMismatch, err)
	case err != nil && oauth.AsError(err).Code == oauth.TemporarilyUnavailable:
		return nil, err
	case err != nil:
		return nil, errActor(oauth.ReasonActor, err)
	default:
		return actorOf(c)
	}
}

func (x *Exchange) issuedActor(ctx context.Context, compact, requester string) (*actor, error) {
	v, err := x.cfg.Verifier.Verify(ctx, compact)
	if err != nil {
		return nil, errActor(oauth.ReasonActor, err)
	}
	c := v.Claims()
	if c.Subject != requester {
		return nil, errActor(oauth.ReasonActorMismatch, errors.New("the actor token names somebody else"))
	}
	standing, err := x.cfg.Transactions.Standing(ctx, v)
	if err != nil {
		return nil, err
	}
	if standing.Phase != transaction.PhaseIssued {
		return nil, errActor(oauth.ReasonActor, errors.New("the actor token was stopped"))
	}
	return actorOf(c)
}

func actorOf(c token.Claims) (*actor, error) {
	if c.Act != nil {
		return nil, errActor(oauth.ReasonActor, errors.New("the actor token is itself delegated"))
	}
	a := &actor{expires: time.Unix(c.Expires, 0)}
	if c.Confirm == nil {
		return a, nil
	}
	if a.held = (held{jkt: c.Confirm.JKT, x5t: c.Confirm.X5T}); a.held == (held{}) {
		return nil, errActor(oauth.ReasonActor, errors.New("the actor token is bound in a way that is not known here"))
	}
	return a, nil
}
