package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gorilla/mux"
)

//go:embed templates/*.html assets/*
var files embed.FS

// Server answers for the pages.
type Server struct {
	cfg       Config
	base      string // path of the issuer, without the slash at its end
	origin    string // of the issuer
	cookies   cookieNames
	pages     map[string]*template.Template
	assets    map[string]asset
	providers sync.Map // id → *discovered
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	s := &Server{cfg: cfg, base: base, origin: u.Scheme + "://" + u.Host, cookies: cookiesFor(u.Scheme, base)}
	if s.assets, err = readAssets(); err != nil {
		return nil, err
	}
	s.pages, err = s.readPages()
	return s, err
}

// Register adds the pages to a router. With an issuer that has a path, the router is the one for what lies under it.
func (s *Server) Register(r *mux.Router) {
	for _, route := range []struct {
		path      string
		get, post handler
	}{
		{"/", s.index, nil},
		{"/sign-in", s.signInPage, s.signIn},
		{"/sign-in/{provider}", s.leaveForProvider, nil},
		{"/sign-in/{provider}/callback", s.comeFromProvider, nil},
		{"/sign-out", nil, s.signOut},
		{"/consent/{id}", s.consentPage, s.decide},
		{"/agents", s.minePage, s.mineStop},
		{"/console", s.asOperator(s.consolePage), nil},
		{"/console/sign-in", s.operatorSignInPage, s.operatorSignIn},
		{"/console/sign-out", nil, s.asOperator(s.operatorSignOut)},
		{"/console/stop", s.asOperator(s.stopPage), s.asOperator(s.stop)},
		{"/console/since", s.asOperator(s.sincePage), nil},
		{"/console/registry", s.asOperator(s.consoleRegistry), nil},
		{"/console/agent", s.asOperator(s.consoleAgent), s.asOperator(s.consoleSetState)},
		{"/console/ledger", s.asOperator(s.consoleLedger), nil},
		{"/console/ledger.jsonl", s.asOperator(s.exportLedger), nil},
		{"/console/ledger/{seq}", s.asOperator(s.consoleEvent), nil},
		{"/console/guardrails", s.asOperator(s.consoleGuardrails), nil},
		{"/console/transactions/{txn}", s.asOperator(s.consoleTransaction), nil},
	} {
		r.Handle(route.path, s.page(route.get, route.post)).Name(route.path)
	}
	r.Handle("/assets/{name}", http.HandlerFunc(s.asset)).Methods(http.MethodGet, http.MethodHead).Name("/assets")
}

// NotFound is the page for an address that leads nowhere.
func (s *Server) NotFound() http.Handler {
	nowhere := func(*visit) error {
		page := notHere()
		return &page
	}
	return s.page(nowhere, nowhere)
}

// index leads people who came by the bare address to what is theirs.
func (s *Server) index(v *visit) error { return s.see(v, s.base+home) }

// asset is an embedded file, under a name that changes with what is in it.
type asset struct {
	kind string
	data []byte
}

func readAssets() (map[string]asset, error) {
	entries, err := files.ReadDir("assets")
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
	found := map[string]asset{}
	for _, entry := range entries {
		data, err := files.ReadFile("assets/" + entry.Name())
		if err != nil {
			return nil, err
		}
		_, ext, _ := strings.Cut(entry.Name(), ".")
		found[assetName(entry.Name(), data)] = asset{kind: kinds[ext], data: data}
	}
	return found, nil
}

func assetName(name string, data []byte) string {
	stem, ext, _ := strings.Cut(name, ".")
	sum := sha256.Sum256(data)
	return stem + "-" + hex.EncodeToString(sum[:6]) + "." + ext
}

// assetPath is where an embedded file is served.
func (s *Server) assetPath(name string) (string, error) {
	data, err := files.ReadFile("assets/" + name)
	if err != nil {
		return "", err
	}
	return s.base + "/assets/" + assetName(name, data), nil
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.assets[mux.Vars(r)["name"]]
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if !ok {
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method == http.MethodGet {
		_, _ = w.Write(a.data)
	}
}
