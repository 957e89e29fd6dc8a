//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"obolus/token"
)

// The world of the scenarios. There is one user; how many there are matters to package main's scale alone.
const (
	mailURI  = "https://mail.test/api" // one transaction for each token
	notesURI = "https://notes.test"    // session tokens, for the guard
	callback = "https://app.test/callback"
	scope    = "mail.read"

	clientSecret = "a-secret-of-the-benchmark-0123456789"
	password     = "a-long-passphrase-of-the-benchmark"
	masterKey    = "0123456789abcdef0123456789abcdef"
)

// The agents and clients. Each agent authenticates in its own way.
const (
	keyAgent    = "signer" // private_key_jwt
	secretAgent = "keeper" // client_secret_post
	boundAgent  = "bound"  // private_key_jwt and DPoP
	mailServer  = "mail-server"
	app         = "app"
	alice       = "alice"
)

// stand is what a server stands on.
type stand struct {
	records, live string
}

// world is an installation that runs.
type world struct {
	issuer  string
	dir     string
	binary  string
	config  string
	on      stand
	nodes   []*child
	key     *token.SigningKey // of the agents
	person  *http.Client
	subject string // a user's token that comes again and again
}

// newWorld starts servers on their stores, signs a user in and has every agent allowed.
func newWorld(ctx context.Context, binary, dir string, on stand, nodes int) (*world, error) {
	w, err := prepareWorld(binary, dir, on)
	if err != nil {
		return nil, err
	}
	if err := w.start(ctx, nodes); err != nil {
		w.close()
		return nil, err
	}
	if err := w.settle(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// prepareWorld writes the configuration. The issuer is the address of the first node.
func prepareWorld(binary, dir string, on stand) (*world, error) {
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	w := &world{issuer: "http://" + addr, dir: dir, binary: binary, config: filepath.Join(dir, "obolus.yaml"), on: on, key: key}
	cfg, err := w.configuration()
	if err != nil {
		return nil, err
	}
	return w, os.WriteFile(w.config, cfg, 0o600)
}

type obj = map[string]any

// configuration is that of the server: JSON, which is YAML. What it does not name is as users have it who name nothing, but
// for lifetimes: what a run prepares must last for it.
func (w *world) configuration() ([]byte, error) {
	jwks, err := token.NewPublicSet(w.key.Public()).JWKS()
	if err != nil {
		return nil, err
	}
	set := json.RawMessage(jwks)
	ceiling := obj{"resources": []string{"mail", "notes"}, "scopes": []string{scope, "notes.read"}}
	return json.Marshal(obj{
		"issuer": w.issuer, "data": w.dir, "records": w.on.records, "live": w.on.live, "allow_agent_secrets": true,
		"keys":   obj{"encryption_key": base64.StdEncoding.EncodeToString([]byte(masterKey))},
		"tokens": obj{"session_lifetime": "12h", "lifetime": "10m"},
		"log":    obj{"level": "warn"},
		"users":  []obj{{"id": alice, "name": "Alice", "password": password}},
		"clients": []obj{
			{"id": app, "name": "The app", "redirect_uris": []string{callback}, "grant_types": []string{"authorization_code"}, "secret": clientSecret, "first_party": true},
			{"id": mailServer, "name": "The mail server", "secret": clientSecret},
		},
		"resources": []obj{
			{"id": "mail", "uri": mailURI, "name": "Mail", "scopes": obj{scope: "Read mail"}, "redemption": "required", "servers": []string{mailServer}},
			{"id": "notes", "uri": notesURI, "name": "Notes", "scopes": obj{"notes.read": "Read notes"}, "redemption": "none"},
		},
		"agents": []obj{
			{"id": keyAgent, "name": "Signing agent", "jwks": set, "ceiling": ceiling},
			{"id": secretAgent, "name": "Secretive agent", "auth": "client_secret_post", "secret": clientSecret, "ceiling": ceiling},
			{"id": boundAgent, "name": "Bound agent", "jwks": set, "dpop_bound_access_tokens": true, "ceiling": ceiling},
		},
	})
}

// start runs the servers; the first listens where the issuer says.
func (w *world) start(ctx context.Context, nodes int, env ...string) error {
	for i := range nodes {
		addr := strings.TrimPrefix(w.issuer, "http://")
		if i > 0 {
			var err error
			if addr, err = freePort(); err != nil {
				return err
			}
		}
		c, err := start(ctx, spec{
			name: fmt.Sprint("obolus", len(w.nodes)), path: w.binary, dir: w.dir, addr: addr,
			args: []string{"serve", "--config", w.config, "--listen", addr, "--data", filepath.Join(w.dir, fmt.Sprint("data", i))},
			env:  env,
		}, answers(addr, "/readyz"))
		if err != nil {
			return err
		}
		w.nodes = append(w.nodes, c)
	}
	return nil
}

// settle waits into the next second, because what was signed in the second in which an epoch begins is refused; then the
// user signs in and allows each agent everything.
func (w *world) settle(ctx context.Context) error {
	now := time.Now()
	time.Sleep(time.Until(now.Truncate(time.Second).Add(time.Second + 20*time.Millisecond)))
	if err := w.signIn(ctx); err != nil {
		return fmt.Errorf("sign-in: %w", err)
	}
	var err error
	if w.subject, err = w.userToken(ctx); err != nil {
		return fmt.Errorf("the user's token: %w", err)
	}
	for _, agent := range []string{keyAgent, secretAgent, boundAgent} {
		if err := w.consent(ctx, agent, mailURI, scope); err != nil {
			return fmt.Errorf("consent for %s: %w", agent, err)
		}
	}
	return w.consent(ctx, keyAgent, notesURI, "notes.read")
}

func (w *world) close() {
	for _, c := range w.nodes {
		c.end()
	}
	w.nodes = nil
}

// signIn is done by a browser without JavaScript.
func (w *world) signIn(ctx context.Context) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	w.person = &http.Client{
		Jar: jar, Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	at := w.issuer + "/sign-in"
	page, err := w.page(ctx, at)
	if err != nil {
		return err
	}
	_, err = w.press(ctx, at, page, url.Values{"user": {alice}, "password": {password}})
	return err
}

// page opens an address.
func (w *world) page(ctx context.Context, at string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return "", err
	}
	a, err := ask(w.person, req)
	if err != nil {
		return "", err
	}
	return string(a.body), a.want(http.StatusOK)
}

// press fills in the form of a page that sends to its own address, and presses its button.
func (w *world) press(ctx context.Context, at, page string, values url.Values) (answer, error) {
	if i := strings.Index(page, `class="card`); i >= 0 {
		page = page[i:] // past the form by which one signs out
	}
	hidden := regexp.MustCompile(`name="form" value="([^"]*)"`).FindStringSubmatch(page)
	if hidden == nil {
		return answer{}, errors.New("the page has no form")
	}
	values.Set("form", html.UnescapeString(hidden[1]))
	if back := regexp.MustCompile(`name="return_to" value="([^"]*)"`).FindStringSubmatch(page); back != nil {
		values.Set("return_to", html.UnescapeString(back[1]))
	}
	req, err := formRequest(ctx, at, values)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Origin", w.issuer)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	a, err := ask(w.person, req)
	if err == nil && a.status >= http.StatusBadRequest {
		err = a.want(http.StatusSeeOther)
	}
	return a, err
}

// answer is what came back, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) want(status int) error {
	if a.status != status {
		return fmt.Errorf("status %d, not %d: %.300s", a.status, status, a.body)
	}
	return nil
}

func ask(c *http.Client, req *http.Request) (answer, error) {
	res, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := appendAll(make([]byte, 0, 8<<10), res.Body)
	return answer{status: res.StatusCode, header: res.Header, body: body}, err
}

func formRequest(ctx context.Context, at string, values url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

// userToken runs the authorization code flow: RFC 6749, RFC 7636. The app is the operator's own, so that a sign-in is enough.
func (w *world) userToken(ctx context.Context) (string, error) {
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.issuer+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {app}, "redirect_uri": {callback}, "scope": {scope + " notes.read"}, "state": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode(), http.NoBody)
	if err != nil {
		return "", err
	}
	a, err := ask(w.person, req)
	if err != nil {
		return "", err
	}
	if at := a.header.Get("Location"); strings.HasPrefix(at, w.issuer+"/consent/") {
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody); err != nil {
			return "", err
		}
		if a, err = ask(w.person, req); err != nil {
			return "", err
		}
	}
	back, err := url.Parse(a.header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" {
		return "", fmt.Errorf("no code but %d %s %.200s", a.status, a.header.Get("Location"), a.body)
	}
	if req, err = formRequest(ctx, w.issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {callback}, "client_id": {app},
		"client_secret": {clientSecret}, "code_verifier": {verifier},
	}); err != nil {
		return "", err
	}
	if a, err = ask(plain(), req); err != nil {
		return "", err
	}
	return a.token()
}

// userTokens are that many, of which none has been used.
func (w *world) userTokens(ctx context.Context, n int) ([]string, error) {
	tokens, errs := make([]string, n), make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if tokens[i], errs[i] = w.userToken(ctx); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return tokens, errors.Join(errs...)
}

func (a answer) token() (string, error) {
	var said struct {
		Token string `json:"access_token"`
	}
	if err := a.want(http.StatusOK); err != nil {
		return "", err
	}
	if err := json.Unmarshal(a.body, &said); err != nil || said.Token == "" {
		return "", fmt.Errorf("no token in %.200s", a.body)
	}
	return said.Token, nil
}

// consent has an agent ask and the user allow it, any number of times.
func (w *world) consent(ctx context.Context, agent, resource, scopes string) error {
	form, head, err := w.exchangeForm(agent, w.subject, resource, scopes)
	if err != nil {
		return err
	}
	req, err := formRequest(ctx, w.issuer+"/token", form)
	if err != nil {
		return err
	}
	maps.Copy(req.Header, head)
	a, err := ask(plain(), req)
	if err != nil {
		return err
	}
	var said struct {
		URI string `json:"interaction_uri"`
	}
	if err := json.Unmarshal(a.body, &said); err != nil || said.URI == "" {
		return fmt.Errorf("no question but %d %.300s", a.status, a.body)
	}
	page, err := w.page(ctx, said.URI)
	if err != nil {
		return err
	}
	until := regexp.MustCompile(`<option value="([0-9]+)"`).FindStringSubmatch(page)
	if until == nil {
		return fmt.Errorf("no end to choose in %.300s", page)
	}
	ticks := url.Values{"uses": {"any"}, "until": {until[1]}, "decision": {"allow"}}
	for i := range strings.Fields(scopes) {
		ticks.Add("scope", fmt.Sprint(i))
	}
	_, err = w.press(ctx, said.URI, page, ticks)
	return err
}

const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccess    = "urn:ietf:params:oauth:token-type:access_token"
	jwtBearer     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// exchangeForm is an exchange, with the agent's own way to authenticate.
func (w *world) exchangeForm(agent, subject, resource, scopes string) (url.Values, http.Header, error) {
	form := url.Values{
		"grant_type": {grantExchange}, "subject_token": {subject}, "subject_token_type": {typeAccess}, "resource": {resource}, "scope": {scopes},
	}
	if agent == secretAgent {
		form.Set("client_id", agent)
		form.Set("client_secret", clientSecret)
		return form, nil, nil
	}
	assertion, err := token.SignAssertion(w.key, agent, w.issuer, time.Now())
	if err != nil {
		return nil, nil, err
	}
	form.Set("client_assertion_type", jwtBearer)
	form.Set("client_assertion", assertion)
	if agent != boundAgent {
		return form, nil, nil
	}
	proof, err := token.SignProof(w.key, token.ProofClaims{Method: http.MethodPost, URI: w.issuer + "/token"}, time.Now())
	return form, http.Header{"Dpop": {proof}}, err
}
