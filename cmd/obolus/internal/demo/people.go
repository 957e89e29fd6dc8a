package demo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// signIn takes a person through the authorization code flow of the app (RFC 6749, RFC 7636) and gets the person's own token.
func (w *world) signIn(ctx context.Context, p *person) error {
	verifier, state := secret(48), secret(16)
	sum := sha256.Sum256([]byte(verifier))
	client := strings.Replace(w.agent.id, "mailer", "app", 1)
	at, err := p.browser.open(ctx, w.server.Issuer()+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {callback}, "scope": {"mail.send mail.read"}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "resource": {w.mail.uri},
	}.Encode())
	if err != nil {
		return err
	}
	if at, err = p.enter(ctx, at); err != nil {
		return err
	}
	f, allow, err := at.find("decision", "allow")
	if err != nil {
		return err
	}
	if at, err = p.browser.send(ctx, at, f, allow, nil); err != nil {
		return err
	}
	back, err := url.Parse(at.location)
	if err != nil || back.Query().Get("state") != state || back.Query().Get("iss") != w.server.Issuer() || back.Query().Get("code") == "" {
		return fmt.Errorf("the app got no code but %d %s", at.status, at.location)
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {callback}, "client_id": {client}, "code_verifier": {verifier},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.server.Issuer()+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got, err := ask(w.agent.http, req)
	if err != nil {
		return err
	}
	if got.status != http.StatusOK || got.Token == "" {
		return fmt.Errorf("the app got %s", got)
	}
	p.token = got.Token
	return nil
}

// enter types name and password, if the page asks for them.
func (p *person) enter(ctx context.Context, at *page) (*page, error) {
	f, press, err := at.find("password")
	if err != nil {
		return at, nil //nolint:nilerr // signed in already
	}
	return p.browser.send(ctx, at, f, press, url.Values{"user": {p.id}, "password": {p.password}})
}

// allow answers an agent's question with yes.
func (p *person) allow(ctx context.Context, link string, times string) (*page, error) {
	at, err := p.browser.open(ctx, link)
	if err != nil {
		return nil, err
	}
	if at, err = p.enter(ctx, at); err != nil {
		return nil, err
	}
	f, yes, err := at.find("decision", "allow")
	if err != nil {
		return nil, err
	}
	done, err := p.browser.send(ctx, at, f, yes, url.Values{"uses": {"times"}, "times": {times}})
	if err != nil {
		return nil, err
	}
	if done.status != http.StatusOK {
		return nil, fmt.Errorf("the answer was met with %d: %s", done.status, done.text)
	}
	return at, nil
}

// stop presses the button that ends what an agent may do.
func (p *person) stop(ctx context.Context, issuer string) error {
	at, err := p.browser.open(ctx, issuer+"/agents")
	if err != nil {
		return err
	}
	f, press, err := at.find("grant")
	if err != nil {
		return err
	}
	done, err := p.browser.send(ctx, at, f, press, nil)
	if err != nil {
		return err
	}
	if done.status != http.StatusOK {
		return fmt.Errorf("the button was met with %d: %s", done.status, done.text)
	}
	return nil
}
