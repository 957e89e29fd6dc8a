// Package fositex is the only package that knows ory/fosite. It lets fosite drive the authorization, token and pushed
// authorization endpoints; client authentication, the grants and what becomes of an authorization request are guests that
// each call brings along. It hands fosite a form that was read and checked at the door, never the request itself, so that fosite
// parses nothing, and it writes nothing: its answers and errors come back as those of package oauth.
//
// What fosite is not asked, because it would answer otherwise than this server must: whether parameters repeat, which media
// types there are, whether a redirect URI matches, what state is good for, how a client authenticates, and what a token is.
package fositex

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ory/fosite"

	"obolus/oauth"
)

// Client is what fosite knows of a client.
type Client struct {
	ID string
	// RedirectURI is the one that the request means, if it is registered for the client; fosite refuses the request
	// otherwise.
	RedirectURI string
	Scopes      []string // it may ask for; empty: any
	Public      bool
}

// Provider is fosite with this server's guests. It keeps nothing between calls.
type Provider struct{ fosite fosite.Fosite }

// New makes a Provider for the grant types that are served.
func New(grants ...oauth.GrantType) *Provider {
	p := &Provider{}
	p.fosite = fosite.Fosite{Store: guests{}, Config: &fosite.Config{
		ScopeStrategy: func(may []string, scope string) bool { return len(may) == 0 || slices.Contains(may, scope) },
		AudienceMatchingStrategy: func([]string, []string) error {
			return nil // resource and audience are read by the guests
		},
		ClientAuthenticationStrategy:    authenticate,
		EnforcePKCE:                     true,
		MinParameterEntropy:             len(anyState),
		AuthorizeEndpointHandlers:       fosite.AuthorizeEndpointHandlers{authorization{}},
		PushedAuthorizeEndpointHandlers: fosite.PushedAuthorizeEndpointHandlers{authorization{}},
		TokenEndpointHandlers:           fosite.TokenEndpointHandlers{grant{types: grants}},
	}}
	return p
}

// anyState stands for the state of every request: it goes back to the client untouched, and fosite need not see it.
const anyState = "state-of-the-client"

// Token is one request at the token endpoint and the guests that answer it.
type Token struct {
	Form         url.Values
	Authenticate func(context.Context) (Client, error)
	Grant        func(context.Context, oauth.GrantType) (oauth.TokenAnswer, error)
}

// Token has fosite answer a request at the token endpoint. The error is a refusal.
func (p *Provider) Token(ctx context.Context, t Token) (oauth.TokenAnswer, error) {
	ctx = context.WithValue(ctx, tokenKey{}, t)
	s := &session{}
	request, err := p.fosite.NewAccessRequest(ctx, plain(t.Form), s)
	if err != nil {
		return oauth.TokenAnswer{}, translate(err)
	}
	if _, err := p.fosite.NewAccessResponse(ctx, request); err != nil {
		return oauth.TokenAnswer{}, translate(err)
	}
	return s.answer, nil
}

// Authorization is one authorization request, direct or pushed, and the guests that answer it.
type Authorization struct {
	Form url.Values
	// Client finds the client of the request.
	Client func(ctx context.Context, id string) (Client, error)
	// Authenticate is for a pushed request.
	Authenticate func(context.Context) (Client, error)
	// Accept takes a request that fosite has let pass, with its scopes.
	Accept func(ctx context.Context, scopes []string) error
}

// Authorize has fosite check an authorization request and passes it to Accept. The error is a refusal.
func (p *Provider) Authorize(ctx context.Context, a Authorization) error {
	ctx = context.WithValue(ctx, authorizationKey{}, a)
	request, err := p.fosite.NewAuthorizeRequest(ctx, plain(a.checked()))
	if err != nil {
		return translate(err)
	}
	_, err = p.fosite.NewAuthorizeResponse(ctx, request, &session{})
	return translate(err)
}

// Push does with a pushed authorization request what Authorize does with a direct one, for a client that authenticates.
func (p *Provider) Push(ctx context.Context, a Authorization) error {
	ctx = context.WithValue(ctx, authorizationKey{}, a)
	request, err := p.fosite.NewPushedAuthorizeRequest(ctx, plain(a.checked()))
	if err != nil {
		return translate(err)
	}
	_, err = p.fosite.NewPushedAuthorizeResponse(ctx, request, &session{})
	return translate(err)
}

// checked is the form without what fosite is not asked.
func (a Authorization) checked() url.Values {
	form := url.Values{"state": {anyState}}
	for _, name := range []string{"client_id", "redirect_uri", "response_type", "scope", "registration"} {
		if v := a.Form.Get(name); v != "" {
			form.Set(name, v)
		}
	}
	return form
}

// plain is a request that holds a form and nothing else.
func plain(form url.Values) *http.Request {
	return &http.Request{Method: http.MethodPost, Header: http.Header{}, Form: form, PostForm: form}
}

// session carries the answer of a grant from fosite's first pass to its second, and past it: fosite's own answer is not
// looked at.
type session struct {
	fosite.DefaultSession
	answer oauth.TokenAnswer
}

type (
	tokenKey         struct{}
	authorizationKey struct{}
)

func tokenOf(ctx context.Context) Token {
	t, _ := ctx.Value(tokenKey{}).(Token) // one without guests, if there is none, is refused
	return t
}

func authorizationOf(ctx context.Context) Authorization {
	a, _ := ctx.Value(authorizationKey{}).(Authorization)
	return a
}

var errNoGuest = errors.New("fosite was called without a guest")

// authenticate asks the guest of the request who its client is.
func authenticate(ctx context.Context, _ *http.Request, _ url.Values) (fosite.Client, error) {
	ask := tokenOf(ctx).Authenticate
	if ask == nil {
		ask = authorizationOf(ctx).Authenticate
	}
	if ask == nil {
		return nil, errNoGuest
	}
	c, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	return known{c}, nil
}

// grant answers the token endpoint through the guest of the request.
type grant struct{ types []oauth.GrantType }

var _ fosite.TokenEndpointHandler = grant{}

// CanSkipClientAuth says never.
func (g grant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// CanHandleTokenEndpointRequest says whether the grant type is served.
func (g grant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	types := r.GetGrantTypes()
	return len(types) == 1 && slices.Contains(g.types, oauth.GrantType(types[0]))
}

// HandleTokenEndpointRequest is fosite's first pass: the guest answers.
func (g grant) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	s, ok := r.GetSession().(*session)
	ask := tokenOf(ctx).Grant
	if !ok || ask == nil {
		return errNoGuest
	}
	var err error
	s.answer, err = ask(ctx, oauth.GrantType(r.GetGrantTypes()[0]))
	return err
}

// PopulateTokenEndpointResponse is fosite's second pass, which wants a token and its type.
func (g grant) PopulateTokenEndpointResponse(_ context.Context, r fosite.AccessRequester, answer fosite.AccessResponder) error {
	s, ok := r.GetSession().(*session)
	if !ok {
		return errNoGuest
	}
	answer.SetAccessToken(s.answer.AccessToken)
	answer.SetTokenType(s.answer.TokenType)
	return nil
}

// authorization passes authorization requests to the guest.
type authorization struct{}

var (
	_ fosite.AuthorizeEndpointHandler       = authorization{}
	_ fosite.PushedAuthorizeEndpointHandler = authorization{}
)

// HandleAuthorizeEndpointRequest passes on a direct request.
func (authorization) HandleAuthorizeEndpointRequest(ctx context.Context, r fosite.AuthorizeRequester, _ fosite.AuthorizeResponder) error {
	r.SetResponseTypeHandled("code")
	return accept(ctx, r)
}

// HandlePushedAuthorizeEndpointRequest passes on a pushed one.
func (authorization) HandlePushedAuthorizeEndpointRequest(ctx context.Context, r fosite.AuthorizeRequester, _ fosite.PushedAuthorizeResponder) error {
	return accept(ctx, r)
}

func accept(ctx context.Context, r fosite.AuthorizeRequester) error {
	ask := authorizationOf(ctx).Accept
	if ask == nil || !r.IsRedirectURIValid() {
		return errNoGuest
	}
	return ask(ctx, r.GetRequestedScopes())
}

// guests is fosite's store: it asks the guest of the request.
type guests struct{}

var _ fosite.Storage = guests{}

// GetClient finds the client of an authorization request.
func (guests) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	ask := authorizationOf(ctx).Client
	if ask == nil {
		return nil, errNoGuest
	}
	c, err := ask(ctx, id)
	if err != nil {
		return nil, err
	}
	return known{c}, nil
}

// ClientAssertionJWTValid is never asked: assertions are checked elsewhere.
func (guests) ClientAssertionJWTValid(context.Context, string) error { return errNoGuest }

// SetClientAssertionJWT is never asked either.
func (guests) SetClientAssertionJWT(context.Context, string, time.Time) error { return errNoGuest }

// known shows a client to fosite.
type known struct{ Client }

var _ fosite.Client = known{}

// GetID is the client id.
func (c known) GetID() string { return c.ID }

// GetHashedSecret is empty: fosite authenticates nobody.
func (c known) GetHashedSecret() []byte { return nil }

// GetRedirectURIs holds at most the one that was found to be registered.
func (c known) GetRedirectURIs() []string {
	if c.RedirectURI == "" {
		return nil
	}
	return []string{c.RedirectURI}
}

// GetGrantTypes holds the grants that come through fosite; what the client is registered for the guests check.
func (c known) GetGrantTypes() fosite.Arguments {
	return fosite.Arguments{string(oauth.GrantAuthorizationCode), string(oauth.GrantTokenExchange)}
}

// GetResponseTypes is code alone.
func (c known) GetResponseTypes() fosite.Arguments { return fosite.Arguments{"code"} }

// GetScopes is what it may ask for.
func (c known) GetScopes() fosite.Arguments { return c.Scopes }

// IsPublic says whether it proves nothing.
func (c known) IsPublic() bool { return c.Public }

// GetAudience is empty: audiences are not fosite's matter.
func (c known) GetAudience() fosite.Arguments { return nil }
