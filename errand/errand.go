// Package errand is the agent's side of an errand: it trades a user's token for one that pays for a single request, waits while the user is asked,
// and sends it along.
//
//	agent, err := errand.New(errand.Config{Issuer: "https://obolus.example.com", Agent: "helper", Key: key})
//	t, err := agent.Run(ctx, errand.Request{
//		UserToken: userToken, Resource: "https://mail.example.com", Scopes: []string{"mail.send"},
//	}, func(link string) { fmt.Println("Please open", link) })
//	err = t.Authorize(r)
//
// It leaves to the agent where the user's token comes from, how the user is shown a link, and the request itself. It keeps no token: one that was
// not used is let go, and expires.
package errand

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// Config is what an Agent needs. Issuer, Agent and Key must be set.
type Config struct {
	// Issuer is the authorization server.
	Issuer string
	// Agent is the agent's id.
	Agent string
	// Key proves that it is the agent, by private_key_jwt; token.ParsePrivateKeyPEM reads one.
	Key *token.SigningKey
	// Bind is a key that its tokens are bound to (DPoP), so that they are worthless to whoever copies one. Nil: they are not.
	Bind *token.SigningKey

	// HTTP calls the authorization server; nil: a client that waits as long as an answer may be held back. Redirects are never followed.
	HTTP *http.Client
	// Now is the clock; nil: the machine's.
	Now func() time.Time
}

// Agent runs errands. It is safe for concurrent use.
type Agent struct {
	cfg   Config
	nonce atomic.Pointer[string] // that the server wants in the next proof
}

// New makes an agent. It does not call the authorization server.
func New(cfg Config) (*Agent, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(cfg.Issuer, "?#") {
		return nil, fmt.Errorf("agent: issuer %q is no URL such as https://obolus.example.com", cfg.Issuer)
	}
	if cfg.Agent == "" || cfg.Key == nil {
		return nil, errors.New("agent: an id and a key are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the clock of those who hand in none
	}
	cfg.HTTP = client(cfg.HTTP)
	return &Agent{cfg: cfg}, nil
}

// Request is what a token is wanted for: exactly what the next request needs, and nothing more.
type Request struct {
	// UserToken is the token of the user for whom the agent acts.
	UserToken string
	// UserTokenType is its type; empty: an access token of the issuer.
	UserTokenType oauth.TokenType
	// Resource is the one API that the token is for; empty: the agent's default.
	Resource string
	// Scopes are what the agent wants to do; none, and no Details either: what the user allowed.
	Scopes []string
	// Details are authorization_details, an array as in RFC 9396.
	Details json.RawMessage
	// Name names the transaction, so that an agent which begins again after a crash gets a token for the same one. Empty: a name that
	// is like no other.
	Name string
}

// Token is what pays for one request.
type Token struct {
	oauth.TokenAnswer
	agent *Agent
}

const (
	patience = 30 * time.Second // how long the server holds an answer back while the user decides
	attempts = 5                // at a server that does not answer
)

// Run gets a token. While the user has not decided, ask is called with the link for the user, once for each question, and Run waits until there is
// a decision or ctx ends; without ask it returns the *Refusal that has the link. A server that is down for a moment is tried again. Every try is
// the same transaction, and the user's consent is drawn once. Any other refusal is returned as a *Refusal: to repeat it as it was does not help.
func (a *Agent) Run(ctx context.Context, r Request, ask func(link string)) (Token, error) {
	if r.Name == "" {
		r.Name = rand.Text()
	}
	shown := ""
	for failures := 0; ; {
		wait := time.Duration(0) // the link is shown before anything is waited for
		if shown != "" {
			wait = patience
		}
		t, err := a.Exchange(ctx, r, wait)
		no, refused := errors.AsType[*Refusal](err)
		pause := time.Second
		switch {
		case err == nil:
			return t, nil
		case refused && no.Interaction != "" && ask != nil:
			if no.Interaction != shown {
				shown = no.Interaction
				ask(shown)
			}
			pause = max(no.Interval, pause)
		case (!refused || no.transient()) && failures < attempts:
			failures++
			if refused {
				pause = max(no.RetryAfter, pause)
			}
		default:
			return Token{}, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Token{}, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Exchange asks once, RFC 8693 section 2. The server may hold its answer back for as long as wait while the user decides.
func (a *Agent) Exchange(ctx context.Context, r Request, wait time.Duration) (Token, error) {
	answer, err := a.exchange(ctx, r, wait)
	if no, ok := errors.AsType[*Refusal](err); ok && no.Code == oauth.UseDPoPNonce && a.cfg.Bind != nil {
		answer, err = a.exchange(ctx, r, wait)
	}
	return Token{TokenAnswer: answer, agent: a}, err
}

func (a *Agent) exchange(ctx context.Context, r Request, wait time.Duration) (oauth.TokenAnswer, error) {
	now := a.cfg.Now()
	assertion, err := token.SignAssertion(a.cfg.Key, a.cfg.Agent, a.cfg.Issuer, now)
	if err != nil {
		return oauth.TokenAnswer{}, err
	}
	kind := r.UserTokenType
	if kind == "" {
		kind = oauth.TypeAccessToken
	}
	form := url.Values{
		"grant_type": {string(oauth.GrantTokenExchange)}, "subject_token": {r.UserToken}, "subject_token_type": {string(kind)},
		"client_id": {a.cfg.Agent}, "client_assertion_type": {oauth.AssertionJWT}, "client_assertion": {assertion},
	}
	for name, value := range map[string]string{
		"resource": r.Resource, "scope": strings.Join(r.Scopes, " "), "authorization_details": string(r.Details),
	} {
		if value != "" {
			form.Set(name, value)
		}
	}
	h := http.Header{"Prefer": {"wait=" + strconv.Itoa(int(wait/time.Second))}}
	if r.Name != "" {
		h.Set("Idempotency-Key", strconv.Quote(r.Name))
	}
	at := strings.TrimSuffix(a.cfg.Issuer, "/") + "/token"
	if a.cfg.Bind != nil {
		proof, err := a.prove(token.ProofClaims{Method: http.MethodPost, URI: at, Nonce: a.lastNonce()})
		if err != nil {
			return oauth.TokenAnswer{}, err
		}
		h.Set("DPoP", proof)
	}
	answer, nonce, err := post(ctx, a.cfg.HTTP, at, form, h)
	if nonce != "" {
		a.nonce.Store(&nonce)
	}
	return answer, err
}

func (a *Agent) lastNonce() string {
	if n := a.nonce.Load(); n != nil {
		return *n
	}
	return ""
}

func (a *Agent) prove(c token.ProofClaims) (string, error) {
	return token.SignProof(a.cfg.Bind, c, a.cfg.Now())
}

// Authorize sends the token along with a request, with a proof of the key if it is bound to one. Each attempt at a request is
// authorized by itself: a proof is good for one.
func (t Token) Authorize(r *http.Request) error { return t.AuthorizeWith(r, "") }

// AuthorizeWith is Authorize at a resource server that wants a nonce of its own in the proof: the one in its header DPoP-Nonce.
func (t Token) AuthorizeWith(r *http.Request, nonce string) error {
	if t.AccessToken == "" {
		return errors.New("there is no token")
	}
	if t.TokenType != oauth.DPoP {
		r.Header.Set("Authorization", oauth.Bearer+" "+t.AccessToken)
		return nil
	}
	if t.agent == nil || t.agent.cfg.Bind == nil {
		return errors.New("the token is bound to a key that is not here")
	}
	proof, err := t.agent.prove(token.ProofClaims{Method: r.Method, URI: r.URL.String(), AccessToken: t.AccessToken, Nonce: nonce})
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", oauth.DPoP+" "+t.AccessToken)
	r.Header.Set("DPoP", proof)
	return nil
}
