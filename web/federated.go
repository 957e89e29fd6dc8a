package web

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
	"obolus/users"
)

const (
	journeyTime  = 10 * time.Minute // that somebody may take at an identity provider
	journeyLimit = 60               // from one address in that time
	journeyName  = "is"
	// providerAge is how long ago somebody may have signed in at a provider; asking for it makes the provider tell when
	// it was (OpenID Connect Core section 3.1.2.1).
	providerAge = 12 * time.Hour
	providerLag = time.Minute // by which clocks may differ
)

// journey is what must be the same when somebody comes back from an identity provider. It is kept under the hash of the
// state that goes along, and used once.
type journey struct {
	Provider string    `json:"provider"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"` // PKCE, RFC 7636
	Browser  string    `json:"browser"`  // hash of what only that browser knows
	ReturnTo string    `json:"return_to"`
	Fresh    bool      `json:"fresh,omitempty"`
	Began    time.Time `json:"began"`
}

// discovered is a provider as its discovery document describes it; it is read when somebody first needs it.
type discovered struct {
	mu       sync.Mutex
	provider *oidc.Provider
}

// discover finds the endpoints of a provider. A failure is not remembered.
func (s *Server) discover(ctx context.Context, p Provider) (*oidc.Provider, error) {
	kept, _ := s.providers.LoadOrStore(p.ID, new(discovered))
	d, ok := kept.(*discovered)
	if !ok {
		return nil, errors.New("unreachable")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.provider == nil {
		found, err := oidc.NewProvider(oidc.ClientContext(ctx, s.cfg.HTTP), p.Issuer)
		if err != nil {
			return nil, fmt.Errorf("discover %s: %w", p.ID, err)
		}
		d.provider = found
	}
	return d.provider, nil
}

func (s *Server) oauth2Config(p Provider, found *oidc.Provider) *oauth2.Config {
	scopes := p.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	return &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: found.Endpoint(),
		RedirectURL: s.origin + s.base + "/sign-in/" + p.ID + "/callback", Scopes: append([]string{oidc.ScopeOpenID}, scopes...),
	}
}

// leaveForProvider leads the browser to an identity provider, with a state, a nonce and a PKCE challenge of its own.
func (s *Server) leaveForProvider(v *visit) error {
	p, ok := s.provider(v.vars["provider"])
	if !ok {
		page := notHere()
		return &page
	}
	if err := s.countJourney(v); err != nil {
		return err
	}
	found, err := s.discover(v.ctx(), p)
	if err != nil {
		s.cfg.Log.WarnContext(v.ctx(), "identity provider not found", "provider", p.ID, "cause", err)
		return s.providerFailed(p)
	}
	state := newSecret()
	j := journey{
		Provider: p.ID, Nonce: newSecret(), Verifier: oauth2.GenerateVerifier(), Browser: hashed(v.browser),
		ReturnTo: s.localPath(v.query.Get("return_to")), Fresh: v.query.Get("fresh") == "1", Began: s.cfg.Now().UTC(),
	}
	value, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = store.Apply(v.ctx(), s.cfg.Live, store.Commit{
		Partition: journeyPartition(state), Writes: []store.Write{{Name: journeyName, Value: value, TTL: journeyTime}},
	})
	if err != nil {
		return err
	}
	options := []oauth2.AuthCodeOption{
		oidc.Nonce(j.Nonce), oauth2.S256ChallengeOption(j.Verifier),
		oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(j.maxAge().Seconds()))),
	}
	if j.Fresh {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	return s.see(v, s.oauth2Config(p, found).AuthCodeURL(state, options...))
}

func (j journey) maxAge() time.Duration {
	if j.Fresh {
		return 0
	}
	return providerAge
}

func journeyPartition(state string) string { return "sign-in-with/" + hashed(state) }

// comeFromProvider signs in who comes back from an identity provider with a code for the journey that this browser began.
func (s *Server) comeFromProvider(v *visit) error {
	p, ok := s.provider(v.vars["provider"])
	if !ok {
		page := notHere()
		return &page
	}
	j, err := s.endJourney(v, p)
	if err != nil {
		return err
	}
	if v.query.Has("error") {
		return s.refusedBy(v, p, "the provider refused", errors.New("error answer"))
	}
	who, err := s.identify(v, p, j)
	if _, known := errors.AsType[*pageError](err); known {
		return err
	}
	if err != nil {
		return s.refusedBy(v, p, "the provider's answer does not hold", err)
	}
	in, err := s.cfg.Users.SignInFederated(v.ctx(), who)
	if errors.Is(err, users.ErrRefused) {
		return refusal(http.StatusForbidden, "This account may not sign in", "Ask who runs this server.")
	}
	if err != nil {
		return err
	}
	s.setCookie(v, s.cookies.session, string(in.Cookie), http.SameSiteLaxMode)
	return s.see(v, s.base+j.ReturnTo)
}

// endJourney finds and takes away the journey of a state, if this browser began it with this provider. RFC 9207: an answer that
// names another issuer is refused.
func (s *Server) endJourney(v *visit, p Provider) (journey, error) {
	stale := refusal(http.StatusBadRequest, "This sign-in was not begun here",
		"It took too long, was finished before, or was begun in another browser. Start again.")
	states, issuers := v.query["state"], v.query["iss"]
	if len(states) != 1 || len(v.query["code"]) > 1 || len(issuers) > 1 || len(issuers) == 1 && issuers[0] != p.Issuer {
		return journey{}, stale
	}
	recs, err := store.Read(v.ctx(), s.cfg.Live, store.Key{Partition: journeyPartition(states[0]), Name: journeyName})
	if err != nil {
		return journey{}, err
	}
	var j journey
	if !recs[0].Exists() || json.Unmarshal(recs[0].Value, &j) != nil {
		return journey{}, stale
	}
	if j.Provider != p.ID || !hmac.Equal([]byte(j.Browser), []byte(hashed(v.browser))) {
		return journey{}, stale
	}
	out, err := store.Apply(v.ctx(), s.cfg.Live, store.Commit{
		Partition: recs[0].Partition, If: []store.Condition{{Name: journeyName, Is: store.AtVersion, Version: recs[0].Version}},
		Writes: []store.Write{{Name: journeyName, Delete: true}},
	})
	if err == nil && !out.Applied {
		err = stale
	}
	return j, err
}

// claims are what is read of an ID token besides what was verified.
type claims struct {
	Name          string   `json:"name"`
	Username      string   `json:"preferred_username"`
	Email         string   `json:"email"`
	EmailVerified any      `json:"email_verified"` // some providers send a string
	AuthTime      int64    `json:"auth_time"`
	ACR           string   `json:"acr"`
	AMR           []string `json:"amr"`
	Party         string   `json:"azp"`
}

// identify redeems the code and verifies the ID token: its signature, issuer, audience, expiry, nonce, authorized party, and
// how long ago the user signed in. It reads nothing else of the provider's.
func (s *Server) identify(v *visit, p Provider, j journey) (users.Federated, error) {
	var who users.Federated
	found, err := s.discover(v.ctx(), p)
	if err != nil {
		return who, err
	}
	ctx := oidc.ClientContext(v.ctx(), s.cfg.HTTP)
	tokens, err := s.oauth2Config(p, found).Exchange(ctx, v.query.Get("code"), oauth2.VerifierOption(j.Verifier))
	if err != nil {
		return who, errors.New("the code was not accepted") // the error of the library may show the answer
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return who, errors.New("there is no ID token")
	}
	verified, err := found.Verifier(&oidc.Config{ClientID: p.ClientID, Now: s.cfg.Now}).Verify(ctx, raw)
	if err != nil {
		return who, fmt.Errorf("the ID token: %w", err)
	}
	var c claims
	if err := verified.Claims(&c); err != nil {
		return who, fmt.Errorf("the ID token: %w", err)
	}
	switch {
	case !hmac.Equal([]byte(verified.Nonce), []byte(j.Nonce)):
		return who, errors.New("the ID token has another nonce")
	case len(verified.Audience) > 1 && c.Party != p.ClientID || c.Party != "" && c.Party != p.ClientID:
		return who, errors.New("the ID token was made for another party")
	case verified.Subject == "" || len(verified.Subject) > 255:
		return who, errors.New("the ID token has no usable subject")
	}
	who = users.Federated{
		Provider: p.ID, Subject: verified.Subject, Name: c.Name, ACR: c.ACR, AMR: c.AMR, Remote: v.remote,
		Had: users.Cookie(cookie(v.r, s.cookies.session)),
	}
	if who.Name == "" {
		who.Name = c.Username
	}
	if c.EmailVerified == true || c.EmailVerified == "true" {
		who.Email = c.Email
	}
	if c.AuthTime > 0 {
		who.AuthTime = time.Unix(c.AuthTime, 0)
	}
	return who, j.checkAge(who.AuthTime, s.cfg.Now())
}

// checkAge holds the time of the sign-in at the provider to what was asked for. A provider that does not tell is believed as
// long as nobody needs to know.
func (j journey) checkAge(signedIn, now time.Time) error {
	switch {
	case signedIn.IsZero() && j.Fresh:
		return refusal(http.StatusForbidden, "That cannot be confirmed",
			"A recent sign-in is needed, and the identity provider does not tell when you signed in.")
	case signedIn.After(now.Add(providerLag)):
		return errors.New("the sign-in lies in the future")
	case j.Fresh && signedIn.Before(j.Began.Add(-providerLag)):
		return errors.New("the sign-in is older than what was asked for")
	default:
		return nil
	}
}

// countJourney bounds how many journeys one address can begin.
func (s *Server) countJourney(v *visit) error {
	out, err := store.Apply(v.ctx(), s.cfg.Live, store.Commit{
		Partition: "sign-in-with-from/" + hashed(v.remote),
		If:        []store.Condition{{Name: "begun", Is: store.AtMost, Count: journeyLimit - 1}},
		Writes:    []store.Write{{Name: "begun", Add: 1, TTL: journeyTime}},
	})
	if err == nil && !out.Applied {
		return users.ErrTooMany
	}
	return err
}

func (s *Server) providerFailed(p Provider) error {
	return refusal(http.StatusBadGateway, "Signing in with "+visible(p.name(), 64)+" does not work right now", "Try again in a while.")
}

// refusedBy writes down that a sign-in at a provider came to nothing, without what the provider said.
func (s *Server) refusedBy(v *visit, p Provider, why string, cause error) error {
	s.cfg.Log.WarnContext(v.ctx(), "federated sign-in refused", "provider", p.ID, "cause", cause)
	err := s.cfg.Record(v.ctx(), audit.Event{
		Kind: audit.KindSignIn, Error: oauth.AccessDenied, Reason: oauth.ReasonSignIn, Why: p.ID + ": " + why, Remote: v.remote,
	})
	if err != nil {
		return err
	}
	return refusal(http.StatusForbidden, "You are not signed in", visible(p.name(), 64)+" did not confirm who you are.")
}
