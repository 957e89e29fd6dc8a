package web_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"html"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"golang.org/x/crypto/argon2"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth/authcode"
	"obolus/token"
	"obolus/users"
	"obolus/web"
)

const (
	password      = "correct horse battery"
	operatorToken = "operators-token-0123456789"
)

// site is the pages on a real core, reached over TLS under the name of the issuer.
type site struct {
	t     *testing.T
	w     *world.World
	book  *users.Book
	flow  *authcode.Flow
	ts    *httptest.Server
	agent *token.SigningKey // of agent-a
	cfg   web.Config
}

func newSite(t *testing.T, change func(*web.Config)) *site {
	t.Helper()
	s := &site{t: t, w: world.New(t)}
	s.w.Populate()
	s.agent = s.w.Agent("agent-a", func(a *agents.Agent) {
		a.Name, a.Owner, a.Operator, a.Homepage = "Mail Helper", "Acme Ltd", "Acme Cloud", "https://acme.example/helper"
	})
	s.w.Agent("agent-b", nil)
	var err error
	s.book, err = users.NewBook(users.BookConfig{
		Records: s.w.Records, Live: s.w.Live, Claim: s.w.Registry.Claim, Record: s.w.Recorder.Record, Now: s.w.Now, Providers: []string{"acme"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.flow, err = authcode.New(authcode.Config{
		Issuer: world.Issuer, Live: s.w.Live, Mirror: s.w.Mirror, Record: s.w.Recorder.Record, Stop: s.w.Tx.Stop, Now: s.w.Now,
		RequestLifetime: 10 * time.Minute, Remember: 15 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg = web.Config{
		Issuer: world.Issuer, Users: s.book, Registry: s.w.Registry, Consents: s.w.Consents, Flow: s.flow, Lifecycle: s.w.Tx,
		Ledger: s.w.Ledger, Live: s.w.Live, Record: s.w.Recorder.Record, Details: s.w.Details, OperatorToken: operatorToken,
		DefaultLifetime: 24 * time.Hour, MaxLifetime: 30 * 24 * time.Hour, Now: s.w.Now, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&s.cfg)
	}
	server, err := web.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	router := mux.NewRouter().UseEncodedPath().SkipClean(true) // as the server does
	u, err := url.Parse(s.cfg.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	if u.Path == "" {
		server.Register(router)
	} else {
		server.Register(router.PathPrefix(u.Path).Subrouter())
	}
	s.ts = httptest.NewUnstartedServer(router)
	s.ts.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // browsers hang up
	s.ts.StartTLS()
	t.Cleanup(s.ts.Close)
	s.user("alice", "Alice")
	return s
}

func (s *site) user(id, name string) {
	s.t.Helper()
	hash := argon2.IDKey([]byte(password), []byte("saltsalt"), 1, 8, 1, 32) // cheap: these tests sign in often
	enc := base64.RawStdEncoding
	secret := users.Secret{Hash: "$argon2id$v=19$m=8,t=1,p=1$" + enc.EncodeToString([]byte("saltsalt")) + "$" + enc.EncodeToString(hash)}
	if _, err := s.book.Put(s.t.Context(), users.Account{ID: id, Name: name}, secret, 0); err != nil {
		s.t.Fatal(err)
	}
}

// ask lets agent-a ask a user something and returns the path of the page.
func (s *site) ask(user string, change func(*consent.Ask)) string {
	s.t.Helper()
	a, _, err := s.w.Registry.Agent(s.t.Context(), "agent-a")
	if err != nil {
		s.t.Fatal(err)
	}
	ask := consent.Ask{User: user, Agent: "agent-a", Target: "mail", Scopes: []string{"mail.read", "mail.send"}, AgentKeys: a.Fingerprint()}
	if change != nil {
		change(&ask)
	}
	in, err := s.w.Consents.Ask(s.t.Context(), ask)
	if err != nil {
		s.t.Fatal(err)
	}
	return "/consent/" + in.ID
}

// open lets the app begin the code flow and returns the path of the page.
func (s *site) open(change func(*authcode.Request)) string {
	s.t.Helper()
	r := authcode.Request{
		ClientID: "app", RedirectURI: "https://app.test/cb", State: "st", Resource: world.Issuer, Scopes: []string{"mail.read", "mail.send"},
		Challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", MaxAge: -1,
	}
	if change != nil {
		change(&r)
	}
	r, err := s.flow.Open(s.t.Context(), r, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return "/consent/" + r.ID
}

func (s *site) grants(user string) []consent.Drawn {
	s.t.Helper()
	list, err := s.w.Consents.GrantsOf(s.t.Context(), user)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// browser is one browser: cookies, and no redirect is followed unasked.
type browser struct {
	s      *site
	client *http.Client
	header http.Header // sent along
}

func (s *site) browser() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{s: s, header: http.Header{}, client: &http.Client{
		Jar: jar, Transport: s.transport(), Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// transport leads every name to the test server.
func (s *site) transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.ts.Listener.Addr().String())
		},
	}
}

// page is an answer, read.
type page struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, path string, form url.Values) page {
	b.s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	if strings.HasPrefix(path, "/") {
		u, err := url.Parse(b.s.cfg.Issuer)
		if err != nil {
			b.s.t.Fatal(err)
		}
		path = u.Scheme + "://" + u.Host + path
	}
	req, err := http.NewRequestWithContext(b.s.t.Context(), method, path, body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	maps.Copy(req.Header, b.header)
	if form != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	return page{b.s.t, res.StatusCode, res.Header, strings.ReplaceAll(string(data), "&#43;", "+")} // as it is read
}

func (b *browser) get(path string) page { b.s.t.Helper(); return b.do(http.MethodGet, path, nil) }

func (b *browser) post(path string, form url.Values) page {
	b.s.t.Helper()
	return b.do(http.MethodPost, path, form)
}

// signIn signs in with a password and follows to where it was to lead.
func (b *browser) signIn(user, back string) page {
	b.s.t.Helper()
	form := b.get("/sign-in?fresh=1&return_to=" + url.QueryEscape(back)).want(200).form()
	form.Set("user", user)
	form.Set("password", password)
	return b.post("/sign-in", form)
}

// signedIn is a browser in which a user has signed in.
func (s *site) signedIn(user string) *browser {
	s.t.Helper()
	b := s.browser()
	b.signIn(user, "").leads("/agents")
	return b
}

// operator is a browser in which an operator has signed in.
func (s *site) operator() *browser {
	s.t.Helper()
	b := s.browser()
	form := b.get("/console/sign-in").want(200).form()
	form.Set("token", operatorToken)
	b.post("/console/sign-in", form).leads("/console")
	return b
}

func (p page) want(status int) page {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("status %d, want %d: %s %s", p.status, status, p.header.Get("Location"), title(p.body))
	}
	return p
}

// leads wants a redirect by GET to a place that begins so.
func (p page) leads(to string) page {
	p.t.Helper()
	p.want(http.StatusSeeOther)
	if !strings.HasPrefix(p.header.Get("Location"), to) {
		p.t.Fatalf("leads to %q, want %q", p.header.Get("Location"), to)
	}
	return p
}

func (p page) location() string { return p.header.Get("Location") }

func (p page) has(texts ...string) page {
	p.t.Helper()
	for _, text := range texts {
		if !strings.Contains(p.body, text) {
			p.t.Fatalf("%q is not on the page:\n%s", text, p.body)
		}
	}
	return p
}

func (p page) hasNot(texts ...string) page {
	p.t.Helper()
	for _, text := range texts {
		if strings.Contains(p.body, text) {
			p.t.Fatalf("%q is on the page", text)
		}
	}
	return p
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)">`)

// form has the hidden members of the page's main form.
func (p page) form() url.Values {
	p.t.Helper()
	_, main, _ := strings.Cut(p.body, "<main")
	main, _, _ = strings.Cut(main, "</form>")
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(main, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

// signOutForm is the form in the header of the page.
func (p page) signOutForm() url.Values {
	p.t.Helper()
	head, _, _ := strings.Cut(p.body, "<main")
	m := hidden.FindStringSubmatch(head)
	if m == nil {
		p.t.Fatal("nobody can sign out here")
	}
	return url.Values{m[1]: {html.UnescapeString(m[2])}}
}

func title(body string) string {
	_, rest, _ := strings.Cut(body, "<h1>")
	found, _, _ := strings.Cut(rest, "</h1>")
	return found
}
