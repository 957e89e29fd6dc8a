//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"obolus/token"
)

// raw writes a request out as it goes over the wire.
func raw(method, path, host string, head http.Header, form url.Values) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	for name, values := range head {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	if method == http.MethodPost {
		body := form.Encode()
		fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	} else {
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

func (w *world) host() string { return strings.TrimPrefix(w.issuer, "http://") }

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// exchange is one exchange for each subject token.
func (w *world) exchange(agent string, subjects []string, into func(i int, token string)) ([]request, error) {
	requests := make([]request, len(subjects))
	for i, subject := range subjects {
		form, head, err := w.exchangeForm(agent, subject, mailURI, scope)
		if err != nil {
			return nil, err
		}
		requests[i] = request{raw: raw(http.MethodPost, "/token", w.host(), head, form), check: func(status int, body []byte) error {
			return w.checkExchange(i, status, body, into)
		}}
	}
	return requests, nil
}

func (w *world) checkExchange(i, status int, body []byte, into func(int, string)) error {
	a := answer{status: status, body: body}
	t, err := a.token()
	if err != nil {
		return err
	}
	if strings.Count(t, ".") != 2 || !bytes.Contains(body, []byte(`"scope":"`+scope+`"`)) || !bytes.Contains(body, []byte(`"issued_token_type":"`+typeAccess+`"`)) {
		return fmt.Errorf("not the answer to an exchange: %.300s", body)
	}
	if into != nil {
		into(i, t)
	}
	return nil
}

func repeated(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

// exchanged are n tokens for one transaction each, fresh.
func (w *world) exchanged(ctx context.Context, n int) ([]string, error) {
	tokens := make([]string, n)
	requests, err := w.exchange(secretAgent, repeated(w.subject, n), func(i int, t string) { tokens[i] = strings.Clone(t) })
	if err != nil {
		return nil, err
	}
	r, err := load{addr: w.host(), requests: requests, workers: 16}.send(ctx)
	return tokens, errors.Join(err, r.first)
}

// redemption redeems a token as the mail server.
func (w *world) redemption(path, t string, check func(int, []byte) error) request {
	return request{
		raw:   raw(http.MethodPost, path, w.host(), http.Header{"Authorization": {basic(mailServer, clientSecret)}}, url.Values{"token": {t}}),
		check: check,
	}
}

func checkRedeemed(status int, body []byte) error {
	if status != http.StatusOK || !bytes.Contains(body, []byte(`"redemption":"first"`)) {
		return fmt.Errorf("not a first redemption: %d %.300s", status, body)
	}
	return nil
}

func checkActive(status int, body []byte) error {
	if status != http.StatusOK || !bytes.Contains(body, []byte(`"active":true`)) {
		return fmt.Errorf("not an active token: %d %.300s", status, body)
	}
	return nil
}

func checkKeys(status int, body []byte) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || status != http.StatusOK || len(set.Keys) == 0 {
		return fmt.Errorf("not a key set: %d %.300s", status, body)
	}
	return nil
}

// verified holds tokens against the keys that the server publishes.
func (w *world) verified(ctx context.Context, tokens []string) error {
	jwks, err := fetch(ctx, w.issuer+"/jwks.json")
	if err != nil {
		return err
	}
	set, err := token.ParseJWKS(jwks)
	if err != nil {
		return err
	}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: w.issuer, Keys: set, Now: now})
	if err != nil {
		return err
	}
	for _, t := range tokens {
		got, err := v.Verify(ctx, t)
		if err != nil {
			return fmt.Errorf("a token that was issued does not verify: %w", err)
		}
		if c := got.Claims(); c.Scope != scope || c.Act == nil || c.Subject != alice || !c.Audience.Has(mailURI) {
			return errors.New("a token that was issued says something else than was asked for")
		}
	}
	return nil
}
