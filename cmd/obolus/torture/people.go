//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	obolus "obolus/token"
)

// The users and agents. Those agents that are stopped or used up are registered as they are needed.
const (
	peopleCount  = 4
	steadyAgents = 6
)

func userName(i int) string  { return fmt.Sprint("user", i) }
func agentName(i int) string { return fmt.Sprint("agent", i) }

// usesSecret: every second steady agent has a secret, all others a key. Those with a secret work again at once when an epoch has
// begun; the others must wait for the next second.
func usesSecret(agent string) bool {
	number, steady := strings.CutPrefix(agent, "agent")
	i, err := strconv.Atoi(number)
	return steady && err == nil && i%2 == 1
}

// settle has the users sign in and allow the steady agents everything.
func (w *world) settle(ctx context.Context) error {
	w.afterTheSecond()
	for i := range peopleCount {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return err
		}
		p := &person{name: userName(i), browser: &http.Client{
			Jar: jar, Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
		if err := w.signIn(ctx, p); err != nil {
			return fmt.Errorf("sign-in: %w", err)
		}
		w.people = append(w.people, p)
		for j := range steadyAgents {
			if err := w.allow(ctx, agentName(j), p, 0); err != nil {
				return fmt.Errorf("consent: %w", err)
			}
		}
	}
	return await("the resource server", 20*time.Second, func() error {
		res, err := w.http.Get("http://" + w.rsAddr + "/") //nolint:noctx // the client has a timeout
		if err == nil {
			err = res.Body.Close()
		}
		return err
	})
}

// afterTheSecond waits into the next second, because what was signed in the second in which an epoch begins is refused.
func (w *world) afterTheSecond() {
	now := time.Now()
	time.Sleep(time.Until(now.Truncate(time.Second).Add(time.Second + 20*time.Millisecond)))
}

func (w *world) signIn(ctx context.Context, p *person) error {
	at := w.issuer + "/sign-in"
	page, err := w.page(ctx, p, at)
	if err != nil {
		return err
	}
	return w.press(ctx, p, at, page, url.Values{"user": {p.name}, "password": {password}})
}

// page opens an address.
func (w *world) page(ctx context.Context, p *person, at string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return "", err
	}
	a, err := sendBy(p.browser, req)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("the page has status %d", a.status)
	}
	return string(a.body), err
}

var (
	hiddenForm = regexp.MustCompile(`name="form" value="([^"]*)"`)      //nolint:gochecknoglobals // a constant that the language cannot call one
	hiddenBack = regexp.MustCompile(`name="return_to" value="([^"]*)"`) //nolint:gochecknoglobals // and another
	someEnd    = regexp.MustCompile(`<option value="([0-9]+)"`)         //nolint:gochecknoglobals // and another
)

// press fills in the form of a page that sends to its own address, and presses its button.
func (w *world) press(ctx context.Context, p *person, at, page string, values url.Values) error {
	if i := strings.Index(page, `class="card`); i >= 0 {
		page = page[i:] // past the form by which one signs out
	}
	hidden := hiddenForm.FindStringSubmatch(page)
	if hidden == nil {
		return errors.New("the page has no form")
	}
	values.Set("form", html.UnescapeString(hidden[1]))
	if back := hiddenBack.FindStringSubmatch(page); back != nil {
		values.Set("return_to", html.UnescapeString(back[1]))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(values.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", w.issuer)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	a, err := sendBy(p.browser, req)
	if err == nil && a.status >= http.StatusBadRequest {
		err = fmt.Errorf("the button is answered by %d: %.300s", a.status, a.body)
	}
	return err
}

// allow has an agent ask and the user allow it, so many times, or any number of times for zero.
func (w *world) allow(ctx context.Context, agent string, p *person, uses int) error {
	a, err := w.ask(ctx, request{agent: agent, user: p, server: -1})
	if err != nil {
		return err
	}
	uri := a.str("interaction_uri")
	if uri == "" {
		return fmt.Errorf("no question but %d %.300s", a.status, a.body)
	}
	page, err := w.page(ctx, p, uri)
	if err != nil {
		return err
	}
	until := 0 // as long as can be
	for _, end := range someEnd.FindAllStringSubmatch(page, -1) {
		if n, err := strconv.Atoi(end[1]); err == nil {
			until = max(until, n)
		}
	}
	if until == 0 {
		return errors.New("the page has no end to choose")
	}
	ticks := url.Values{"uses": {"any"}, "until": {strconv.Itoa(until)}, "decision": {"allow"}, "scope": {"0"}}
	if uses > 0 {
		ticks.Set("uses", "times")
		ticks.Set("times", strconv.Itoa(uses))
	}
	return w.press(ctx, p, uri, page, ticks)
}

// newAgent registers an agent that nobody knows yet.
func (w *world) newAgent(ctx context.Context, kind string) (string, error) {
	id := fmt.Sprint(kind, w.serial.Add(1))
	jwks, err := obolus.NewPublicSet(w.key.Public()).JWKS()
	if err != nil {
		return "", err
	}
	a, err := w.admin(ctx, -1, http.MethodPut, "/agents/"+id, obj{
		"id": id, "name": "Agent " + id, "jwks": json.RawMessage(jwks), "auth": "private_key_jwt", "ceiling": ceiling(),
	})
	if err == nil && a.status >= http.StatusBadRequest {
		err = fmt.Errorf("the registration is answered by %d: %.300s", a.status, a.body)
	}
	return id, err
}
