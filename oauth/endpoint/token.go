package endpoint

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/oauth/endpoint/internal/fositex"
	"obolus/oauth/exchange"
)

// token is the token endpoint: RFC 6749 section 3.2. fosite drives it; the client's authentication and the two grants are
// guests.
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(w, r, "resource", "audience")
	if err != nil {
		return err
	}
	switch oauth.GrantType(f.get("grant_type")) {
	case oauth.GrantAuthorizationCode, oauth.GrantTokenExchange:
	case "":
		return missing("grant_type")
	default:
		return &oauth.Error{
			Code: oauth.UnsupportedGrantType, Reason: oauth.ReasonGrantType, Description: "the grant type is not supported",
		}
	}
	t := tokenRequest{s: s, w: w, r: r, form: f}
	answer, err := s.fosite.Token(r.Context(), fositex.Token{Form: f.values, Authenticate: t.authenticate, Grant: t.grant})
	if err != nil {
		return err
	}
	write(w, http.StatusOK, answer)
	return nil
}

// tokenRequest is one request at the token endpoint, on its way through fosite.
type tokenRequest struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	form form
	who  agents.Presented
}

func (t *tokenRequest) authenticate(context.Context) (fositex.Client, error) {
	var err error
	t.who, err = t.s.present(t.r, t.form)
	return fositex.Client{ID: t.who.ClientID(), Public: t.who.Public()}, err
}

func (t *tokenRequest) grant(ctx context.Context, g oauth.GrantType) (oauth.TokenAnswer, error) {
	if g == oauth.GrantTokenExchange {
		return t.exchange(ctx)
	}
	return t.code(ctx)
}

// exchange is RFC 8693 section 2.1: what is asked becomes an exchange.Request, and package exchange decides. What is refused here
// already is in the ledger too.
func (t *tokenRequest) exchange(ctx context.Context) (oauth.TokenAnswer, error) {
	request, err := t.exchangeRequest()
	if err != nil {
		event := audit.Event{Kind: audit.KindExchange, Client: t.who.ClientID(), Remote: t.s.cfg.Remote(t.r)}
		return oauth.TokenAnswer{}, t.s.record(ctx, event, err)
	}
	if request.Wait > 0 {
		t.w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(request.Wait/time.Second)))
	}
	return t.s.cfg.Exchange.Do(ctx, t.who, request)
}

func (t *tokenRequest) exchangeRequest() (exchange.Request, error) {
	f := t.form
	if t.who.Public() {
		return exchange.Request{}, &oauth.Error{
			Code: oauth.UnauthorizedClient, Reason: oauth.ReasonClientGrant, Description: "a client that cannot prove who it is exchanges nothing",
		}
	}
	proof, err := t.proof()
	if err != nil {
		return exchange.Request{}, err
	}
	key, err := idempotencyKey(t.r.Header)
	if err != nil {
		return exchange.Request{}, err
	}
	return exchange.Request{
		SubjectToken: f.get("subject_token"), SubjectTokenType: oauth.TokenType(f.get("subject_token_type")),
		ActorToken: f.get("actor_token"), ActorTokenType: oauth.TokenType(f.get("actor_token_type")),
		RequestedTokenType: oauth.TokenType(f.get("requested_token_type")),
		Resources:          f.list("resource"), Audiences: f.list("audience"),
		Scope: f.get("scope"), Details: f.get("authorization_details"),
		Proof: proof, IdempotencyKey: key, Bytes: t.bytes(key), Wait: wait(t.r.Header), Remote: t.s.cfg.Remote(t.r),
	}, nil
}

// bytes is a digest of a request that has a name, credential and proof included.
func (t *tokenRequest) bytes(key string) (digest [sha256.Size]byte) {
	if key == "" {
		return digest
	}
	return sha256.Sum256([]byte(strings.Join([]string{t.form.body, t.r.Header.Get("DPoP"), t.r.Header.Get("Authorization"), key}, "\n")))
}

// errNotFor is for a client that is not registered for a grant.
func errNotFor(g oauth.GrantType) error {
	return oauth.Refuse(oauth.UnauthorizedClient, oauth.ReasonClientGrant, "the client is not registered for the grant type "+string(g))
}

// audience is the resource that a request names, once or several times by the same; the zero Resource when none was named: the
// token is then for the issuer.
func (s *Server) audience(ctx context.Context, names []string) (agents.Resource, error) {
	var found agents.Resource
	for _, name := range names {
		if _, err := agents.CanonicalURI(name); err != nil {
			return found, oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "resource "+err.Error())
		}
	}
	names = agents.Distinct(names)
	for i, name := range names {
		if name == s.cfg.Issuer && len(names) == 1 {
			return found, nil
		}
		res, err := s.cfg.Registry.ResourceAt(ctx, name)
		switch {
		case errors.Is(err, agents.ErrNotFound) || err == nil && res.Disabled:
			return found, oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "the target is not known")
		case err != nil:
			return found, oauth.Unavailable(err)
		case i > 0 && res.ID != found.ID:
			return found, oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTargetSeveral, "a token is for one resource; ask for one")
		}
		found = res
	}
	return found, nil
}

// uri is the aud of a token for a resource.
func (s *Server) uri(res agents.Resource) string {
	if res.ID == "" {
		return s.cfg.Issuer
	}
	return res.URI
}
