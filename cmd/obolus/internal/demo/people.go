package demo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"obolus/internal/browser"
)

// signIn takes a person through the authorization code flow of the app (RFC 6749, RFC 7636) and gets the person's own token.
func (w *world) signIn(ctx context.Context, p *person) error {
	verifier, state := secret(48), secret(16)
	sum := sha256.Sum256([]byte(verifier))
	client := strings.Replace(w.agent.id, "mailer", "app", 1)
	at, err := p.browser.Open(ctx, w.server.Issuer()+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {callback}, "scope": {"mail.send mail.read"}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "resource": {w.mail.uri},
	}.Encode())
	if err != nil {
		return err
	}
	if at, err = p.browser.SignIn(ctx, at, p.id, p.password); err != nil {
		return err
	}
	if at, err = p.browser.Allow(ctx, at, nil); err != nil {
		return err
	}
	back, err := url.Parse(at.Location)
	if err != nil || back.Query().Get("state") != state || back.Query().Get("iss") != w.server.Issuer() || back.Query().Get("code") == "" {
		return fmt.Errorf("the app got no code but %q", at.Location)
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

// allow answers an agent's question with yes, and gives the page that asked it.
func (p *person) allow(ctx context.Context, link string, times string) (*browser.Page, error) {
	at, err := p.browser.Open(ctx, link)
	if err != nil {
		return nil, err
	}
	if at, err = p.browser.SignIn(ctx, at, p.id, p.password); err != nil {
		return nil, err
	}
	_, err = p.browser.Allow(ctx, at, url.Values{"uses": {"times"}, "times": {times}})
	return at, err
}

// stop presses the button that ends what an agent may do.
func (p *person) stop(ctx context.Context, issuer string) error {
	at, err := p.browser.Open(ctx, issuer+"/agents")
	if err != nil {
		return err
	}
	_, err = p.browser.Press(ctx, at, "grant", "", nil)
	return err
}
