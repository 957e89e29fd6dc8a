package fositex_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"obolus/oauth"
	"obolus/oauth/endpoint/internal/fositex"
)

func provider() *fositex.Provider { return fositex.New(oauth.GrantTokenExchange) }

func anybody(context.Context) (fositex.Client, error) { return fositex.Client{ID: "c"}, nil }

func TestToken(t *testing.T) {
	t.Parallel()
	grant := url.Values{"grant_type": {string(oauth.GrantTokenExchange)}}
	refusal := oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "no")
	opaque := errors.New("the disk is full")
	answer := func(a oauth.TokenAnswer, err error) func(context.Context, oauth.GrantType) (oauth.TokenAnswer, error) {
		return func(context.Context, oauth.GrantType) (oauth.TokenAnswer, error) { return a, err }
	}
	good := oauth.TokenAnswer{AccessToken: "t", TokenType: oauth.DPoP, Scope: "a", Txn: "x"}
	for _, c := range []struct {
		name string
		ask  fositex.Token
		want error
		code oauth.Code // instead of want
	}{
		{"an answer", fositex.Token{Form: grant, Authenticate: anybody, Grant: answer(good, nil)}, nil, ""},
		{"a guest's refusal goes through", fositex.Token{Form: grant, Authenticate: anybody, Grant: answer(oauth.TokenAnswer{}, refusal)}, refusal, ""},
		{"a failure stays what it is", fositex.Token{Form: grant, Authenticate: anybody, Grant: answer(oauth.TokenAnswer{}, opaque)}, opaque, ""},
		{"a refused client", fositex.Token{
			Form: grant, Grant: answer(good, nil),
			Authenticate: func(context.Context) (fositex.Client, error) { return fositex.Client{}, refusal },
		}, refusal, ""},
		{"a grant that is not served", fositex.Token{
			Form: url.Values{"grant_type": {string(oauth.GrantAuthorizationCode)}}, Authenticate: anybody, Grant: answer(good, nil),
		}, nil, oauth.InvalidRequest},
		{"an empty form", fositex.Token{Form: url.Values{}, Authenticate: anybody, Grant: answer(good, nil)}, nil, oauth.InvalidRequest},
		{"no guests", fositex.Token{Form: grant}, nil, oauth.ServerError},
		{"an answer without a token", fositex.Token{Form: grant, Authenticate: anybody, Grant: answer(oauth.TokenAnswer{}, nil)}, nil, oauth.ServerError},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := provider().Token(t.Context(), c.ask)
			switch {
			case c.code != "":
				if oauth.AsError(err).Code != c.code || strings.Contains(oauth.AsError(err).Description, "Make sure") {
					t.Errorf("got %v", err)
				}
			case c.want != nil:
				if !errors.Is(err, c.want) {
					t.Errorf("got %v", err)
				}
			case err != nil || got.Txn != "x" || got.AccessToken != "t":
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	const uri = "http://localhost:8000/cb"
	known := func(_ context.Context, id string) (fositex.Client, error) {
		return fositex.Client{ID: id, RedirectURI: uri, Scopes: []string{"a", "b"}}, nil
	}
	form := func(pairs ...string) url.Values {
		f := url.Values{"client_id": {"c"}, "redirect_uri": {uri}, "response_type": {"code"}, "scope": {"a b"}}
		for i := 0; i < len(pairs); i += 2 {
			f.Set(pairs[i], pairs[i+1])
		}
		return f
	}
	down := oauth.Unavailable(errors.New("down"))
	for _, c := range []struct {
		name   string
		form   url.Values
		client func(context.Context, string) (fositex.Client, error)
		code   oauth.Code
	}{
		{"a request", form(), known, ""},
		{"what fosite is not asked", form("state", "x", "response_mode", "y", "audience", "a b", "request", "z", "nonce", "n"), known, ""},
		{"a scope too many", form("scope", "a c"), known, oauth.InvalidScope},
		{"a wildcard", form("scope", "*"), known, oauth.InvalidScope},
		{"token", form("response_type", "token"), known, oauth.UnsupportedResponseType},
		{"another redirect URI", form("redirect_uri", "http://localhost:8001/cb"), known, oauth.InvalidRequest},
		{"registration", form("registration", "{}"), known, oauth.InvalidRequest},
		{"a registry that does not answer", form(), func(context.Context, string) (fositex.Client, error) { return fositex.Client{}, down }, oauth.TemporarilyUnavailable},
		{"no guests", form(), nil, oauth.InvalidClient},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var direct, pushed []string
			take := func(into *[]string) func(context.Context, []string) error {
				return func(_ context.Context, scopes []string) error { *into = scopes; return nil }
			}
			err := provider().Authorize(t.Context(), fositex.Authorization{Form: c.form, Client: c.client, Accept: take(&direct)})
			errPush := provider().Push(t.Context(), fositex.Authorization{Form: c.form, Client: c.client, Authenticate: anybody, Accept: take(&pushed)})
			if c.code == "" {
				if err != nil || errPush != nil || !slices.Equal(direct, []string{"a", "b"}) || !slices.Equal(pushed, direct) {
					t.Errorf("got %v, %v; %v, %v", direct, pushed, err, errPush)
				}
				return
			}
			if oauth.AsError(err).Code != c.code || oauth.AsError(errPush).Code != c.code || direct != nil || pushed != nil {
				t.Errorf("got %v, %v", err, errPush)
			}
		})
	}
}

func TestPushAuthenticates(t *testing.T) {
	t.Parallel()
	refusal := oauth.Conceal(oauth.InvalidClient, oauth.ReasonClientAuth, "no", nil)
	err := provider().Push(t.Context(), fositex.Authorization{
		Form:         url.Values{"client_id": {"c"}},
		Authenticate: func(context.Context) (fositex.Client, error) { return fositex.Client{}, refusal },
	})
	if !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
}
