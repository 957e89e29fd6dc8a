//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"obolus/internal/browser"
	obolus "obolus/token"
)

const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeJWT       = "urn:ietf:params:oauth:token-type:jwt"
	jwtBearer     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// token is a token that was issued, and what its claims say.
type token struct {
	raw     string
	jti     string
	epoch   uint64
	txn     string
	agent   string
	grant   string
	target  string // the resource server that may redeem it
	expires time.Time
}

// answer is what came back, read whole.
type answer struct {
	status int
	body   []byte
	fields obj // of a JSON object
	header http.Header
}

func (a answer) str(name string) string {
	s, _ := a.fields[name].(string)
	return s
}

// why is the reason of a refusal in a word.
func (a answer) why() string {
	for _, name := range []string{"reason", "error"} {
		if s := a.str(name); s != "" {
			return s
		}
	}
	return strconv.Itoa(a.status)
}

// send sends a request and reads the answer.
func (w *world) send(req *http.Request) (answer, error) { return sendBy(w.http, req) }

func sendBy(c *http.Client, req *http.Request) (answer, error) {
	res, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, 64<<20)); err != nil {
		return answer{}, err
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/") {
		_ = json.Unmarshal(a.body, &a.fields) // a list has no fields
	}
	return a, nil
}

// at is the address of a path at one server; at the one they share for -1.
func (w *world) at(server int, path string) string {
	if server < 0 {
		return w.issuer + path
	}
	return "http://" + w.servers[server].door.addr() + path
}

func (w *world) form(ctx context.Context, server int, path string, form url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.at(server, path), strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// definite says whether an answer settles what happened.
func definite(a answer, err error) bool {
	return err == nil && a.status < http.StatusInternalServerError
}

// request is an exchange that an agent asks for.
type request struct {
	agent  string
	user   *person
	key    string // Idempotency-Key; empty: none
	server int
	client int
}

// ask sends an exchange and returns the answer.
func (w *world) ask(ctx context.Context, r request) (answer, error) {
	subject, err := r.user.token(w)
	if err != nil {
		return answer{}, err
	}
	form := url.Values{
		"grant_type": {grantExchange}, "subject_token": {subject}, "subject_token_type": {typeJWT}, "resource": {mailURI}, "scope": {scope},
	}
	if err := w.prove(form, r.agent); err != nil {
		return answer{}, err
	}
	req, err := w.form(ctx, r.server, "/token", form)
	if err != nil {
		return answer{}, err
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", `"`+r.key+`"`)
	}
	return w.send(req)
}

// prove adds what an agent authenticates with.
func (w *world) prove(form url.Values, agent string) error {
	if usesSecret(agent) {
		form.Set("client_id", agent)
		form.Set("client_secret", clientSecret)
		return nil
	}
	assertion, err := obolus.SignAssertion(w.key, agent, w.issuer, time.Now())
	if err != nil {
		return err
	}
	form.Set("client_assertion_type", jwtBearer)
	form.Set("client_assertion", assertion)
	return nil
}

// exchange asks for a token and writes down that it was issued. What was not answered has no effect that could make an
// acceptance right, so it is only counted.
func (w *world) exchange(ctx context.Context, r request) (token, answer, error) {
	call := w.history.now()
	a, err := w.ask(ctx, r)
	ret := w.history.now()
	kind := "exchange"
	if r.key != "" {
		kind = "exchange with a key"
	}
	if !definite(a, err) {
		w.history.count(kind, "unknown")
		return token{}, a, errUnknown
	}
	if a.status != http.StatusOK {
		w.history.count(kind, a.why())
		return token{}, a, nil
	}
	t, err := readToken(a.str("access_token"))
	if err != nil {
		return token{}, a, err
	}
	w.history.count(kind, "issued")
	w.history.issued(t, op{
		action: issue, outcome: granted, call: call, ret: ret, client: r.client, server: r.server, jti: t.jti, epoch: t.epoch,
	})
	return t, a, nil
}

var errUnknown = errors.New("it is not known what happened")

// readToken reads the claims. Who verifies tokens is the resource server's guard, not we.
func readToken(raw string) (token, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return token{}, errors.New("the token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return token{}, err
	}
	var c struct {
		ID      string          `json:"jti"`
		Txn     string          `json:"txn"`
		Client  string          `json:"client_id"`
		Aud     obolus.Audience `json:"aud"`
		Exp     int64           `json:"exp"`
		Context struct {
			Consent string `json:"consent"`
		} `json:"tctx"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return token{}, err
	}
	head, _, _ := strings.Cut(c.ID, ".")
	epoch, err := strconv.ParseUint(strings.TrimPrefix(head, "e"), 36, 64)
	if err != nil || c.Txn == "" || !c.Aud.Has(mailURI) {
		return token{}, fmt.Errorf("the token is of another kind: %s", payload)
	}
	return token{
		raw: raw, jti: c.ID, epoch: epoch, txn: c.Txn, agent: c.Client, grant: c.Context.Consent, target: mailServer, expires: time.Unix(c.Exp, 0),
	}, nil
}

// redemption is an attempt to redeem a token.
type redemption struct {
	token    token
	by       string
	id, hash string
	server   int
	client   int
}

// redeem tries to redeem a token as a resource server, and writes down what came of it.
func (w *world) redeem(ctx context.Context, r redemption) outcome {
	o := op{
		action: redeem, call: w.history.now(), ret: forever, client: r.client, server: r.server, jti: r.token.jti, epoch: r.token.epoch,
		by: r.by, id: r.id, hash: r.hash,
	}
	req, err := w.form(ctx, r.server, "/redeem", url.Values{"token": {r.token.raw}, "redemption_id": {r.id}, "request_hash": {r.hash}})
	if err != nil {
		return unknown
	}
	req.SetBasicAuth(r.by, clientSecret)
	a, err := w.send(req)
	if definite(a, err) {
		o.ret = w.history.now()
		o.outcome, o.said = redeemed(a), fmt.Sprint(a.status, " ", a.why())
	} else {
		o.said = fmt.Sprint(a.status, " ", err)
	}
	w.history.add(r.token.txn, o)
	w.history.count("redeem", o.ended())
	if o.outcome == first {
		w.history.ended(r.token)
	}
	return o.outcome
}

// redeemed reads an answer that is definite.
func redeemed(a answer) outcome {
	switch {
	case a.status == http.StatusOK && a.str("redemption") == "first":
		return first
	case a.status == http.StatusOK:
		return repeat // anything else that says yes is held to the same
	case a.status == http.StatusConflict:
		return consumed
	case a.status == http.StatusUnprocessableEntity:
		return mismatch
	default:
		return refused
	}
}

// ended names how a redemption ended, for the table.
func (o op) ended() string {
	if o.outcome != refused {
		return map[outcome]string{unknown: "unknown", first: "first", repeat: "repeat", consumed: "already_redeemed", mismatch: "request_mismatch"}[o.outcome]
	}
	_, why, _ := strings.Cut(o.said, " ")
	return why
}

// use sends a token to the resource server, which redeems it and does what is asked.
func (w *world) use(ctx context.Context, t token, client int) {
	o := op{
		action: redeem, call: w.history.now(), ret: forever, client: client, server: -1, jti: t.jti, epoch: t.epoch, by: mailServer,
		id: fmt.Sprint("guard-", w.serial.Add(1)),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.rsAddr+"/do", http.NoBody)
	if err != nil {
		return
	}
	req.Header.Set("Authorization", "Bearer "+t.raw)
	a, err := w.send(req)
	ended := "unknown"
	if definite(a, err) {
		o.ret = w.history.now()
		o.outcome, ended = refused, "refused"
		if a.status == http.StatusOK {
			o.outcome, ended = first, "done"
		}
		o.said = strconv.Itoa(a.status)
	}
	w.history.add(t.txn, o)
	w.history.count("request to the resource server", ended)
}

// admin calls the operators' interface.
func (w *world) admin(ctx context.Context, server int, method, path string, body any) (answer, error) {
	var text io.Reader = http.NoBody
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		text = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, w.at(server, "/admin/v1"+path), text)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+operatorToken)
	req.Header.Set("Content-Type", "application/json")
	return w.send(req)
}

// stop sends something that stops a transaction, and writes it down if it is acknowledged. What was not answered can only
// make refusals right.
func (w *world) stop(ctx context.Context, t token, o op, how func(context.Context) (answer, error)) bool {
	o.action, o.call = stopTxn, w.history.now()
	a, err := how(ctx)
	o.ret = w.history.now()
	if !definite(a, err) || a.status >= http.StatusBadRequest {
		w.history.count(o.said, failed(a, err))
		return false
	}
	w.history.count(o.said, "acknowledged")
	o.outcome = granted
	w.history.add(t.txn, o)
	w.history.ended(t)
	return true
}

func failed(a answer, err error) string {
	if !definite(a, err) {
		return "unknown"
	}
	return a.why()
}

// revoke is RFC 7009, by the agent.
func (w *world) revoke(ctx context.Context, t token, server, client int) bool {
	return w.stop(ctx, t, op{server: server, client: client, said: "revocation", jti: t.jti}, func(ctx context.Context) (answer, error) {
		form := url.Values{"token": {t.raw}}
		if err := w.prove(form, t.agent); err != nil {
			return answer{}, err
		}
		req, err := w.form(ctx, server, "/revoke", form)
		if err != nil {
			return answer{}, err
		}
		return w.send(req)
	})
}

// stopTransaction is an operator's stop of one transaction.
func (w *world) stopTransaction(ctx context.Context, t token, server, client int) bool {
	return w.stop(ctx, t, op{server: server, client: client, said: "stop of a transaction"}, func(ctx context.Context) (answer, error) {
		return w.admin(ctx, server, http.MethodPost, "/stops", obj{"kind": "txn", "id": t.txn})
	})
}

// report tells how a transaction went, and status asks.
func (w *world) report(ctx context.Context, t token, server int) {
	req, err := w.form(ctx, server, "/txn/"+t.txn, url.Values{"status": {"committed"}})
	if err != nil {
		return
	}
	req.SetBasicAuth(mailServer, clientSecret)
	a, err := w.send(req)
	w.history.count("report", told(a, err))
}

func (w *world) status(ctx context.Context, t token, server int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.at(server, "/txn/"+t.txn), http.NoBody)
	if err != nil {
		return
	}
	req.SetBasicAuth(mailServer, clientSecret)
	a, err := w.send(req)
	if definite(a, err) && a.status == http.StatusOK {
		w.history.count("status", a.str("status"))
		return
	}
	w.history.count("status", told(a, err))
}

func told(a answer, err error) string {
	if definite(a, err) && a.status < http.StatusBadRequest {
		return "done"
	}
	return failed(a, err)
}

// person is a user: somebody else's server says who they are to agents, and they sign in to allow things.
type person struct {
	name    string
	browser *browser.Browser

	mu     sync.Mutex
	signed string
	until  time.Time
}

// token is one that says who the user is. It is used again for some seconds.
func (p *person) token(w *world) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.signed, nil
	}
	signed, err := w.idp.token(w.issuer, p.name)
	if err == nil {
		p.signed, p.until = signed, time.Now().Add(5*time.Second)
	}
	return signed, err
}
