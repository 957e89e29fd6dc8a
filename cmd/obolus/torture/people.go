//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"obolus/internal/browser"
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
		b, err := browser.New(&http.Transport{MaxIdleConnsPerHost: 4})
		if err != nil {
			return err
		}
		p := &person{name: userName(i), browser: b}
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
	page, err := p.browser.Open(ctx, w.issuer+"/sign-in")
	if err == nil {
		_, err = p.browser.SignIn(ctx, page, p.name, password)
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
	page, err := p.browser.Open(ctx, uri)
	if err != nil {
		return err
	}
	until := 0 // as long as can be
	for _, end := range page.Options("until") {
		if n, err := strconv.Atoi(end); err == nil {
			until = max(until, n)
		}
	}
	ticks := url.Values{"uses": {"any"}, "until": {strconv.Itoa(until)}}
	if uses > 0 {
		ticks.Set("uses", "times")
		ticks.Set("times", strconv.Itoa(uses))
	}
	_, err = p.browser.Allow(ctx, page, ticks)
	return err
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
