package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"obolus/admin"
	"obolus/cmd/obolus/internal/config"
	"obolus/cmd/obolus/internal/server"
	"obolus/internal/browser"
	"obolus/token"
)

// world is everybody in the story.
type world struct {
	dir    string
	wire   *http.Transport
	server *server.Server
	mail   *mailbox
	agent  *agent
	alice  person
	bob    person
	clerk  *admin.Client // the operator

	redeemed string // the token that was used, and its transaction
	txn      string
	unspent  string // one that was not used
	bobs     string
}

// person is a user with a browser and an app.
type person struct {
	id, password string
	browser      *browser.Browser
	token        string
}

// names are the ids in the story. On stores that were given they are new each time, since those remember.
type names struct{ suffix string }

func (n names) id(s string) string { return s + n.suffix }

func (n names) name(s string) string {
	return strings.TrimSpace(s + " " + strings.TrimPrefix(n.suffix, "-"))
}

func build(ctx context.Context, o Options) (w *world, err error) {
	dir, err := os.MkdirTemp("", "obolus-demo-")
	if err != nil {
		return nil, err
	}
	w = &world{dir: dir, wire: &http.Transport{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	n := names{}
	if o.Records != "" || o.Live != "" {
		n.suffix = "-" + strings.ToLower(secret(3))
	}
	w.alice, w.bob = person{id: n.id("alice"), password: secret(9)}, person{id: n.id("bob"), password: secret(9)}
	for _, p := range []*person{&w.alice, &w.bob} {
		if p.browser, err = browser.New(w.wire); err != nil {
			return w, err
		}
	}
	if w.agent, err = newAgent(n.id("mailer"), w.wire); err != nil {
		return w, err
	}
	mailKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return w, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return w, err
	}
	w.mail = &mailbox{uri: "http://" + l.Addr().String(), server: n.id("mail-server")}
	if err := w.serve(ctx, o, n, mailKey); err != nil {
		return w, errors.Join(err, l.Close())
	}
	if err := w.mail.open(l, w.server.Issuer(), mailKey, w.wire); err != nil {
		return w, errors.Join(err, l.Close())
	}
	w.agent.issuer, w.agent.api = w.server.Issuer(), w.mail.uri
	return w, nil
}

// serve writes a configuration as anybody would, and starts the server with it.
func (w *world) serve(ctx context.Context, o Options, n names, mailKey *ecdsa.PrivateKey) error {
	text, err := w.configuration(o, n, mailKey)
	if err != nil {
		return err
	}
	file := filepath.Join(w.dir, "obolus.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(config.Sources{File: file})
	if err != nil {
		return err
	}
	if w.server, err = server.Start(ctx, cfg, server.Options{Version: o.Version}); err != nil {
		return err
	}
	key, err := os.ReadFile(cfg.Operators.TokenFile)
	if err != nil {
		return err
	}
	w.clerk = &admin.Client{Server: w.server.Issuer(), Token: strings.TrimSpace(string(key)), HTTP: &http.Client{Transport: w.wire}}
	return nil
}

const callback = "http://127.0.0.1/callback"

// configuration is the file: JSON, which is YAML too.
func (w *world) configuration(o Options, n names, mailKey *ecdsa.PrivateKey) ([]byte, error) {
	type object = map[string]any
	guard, err := token.NewSigningKey("", mailKey)
	if err != nil {
		return nil, err
	}
	sealed := sha256.Sum256([]byte("every demo seals its keys with this"))
	file := object{
		"listen": "127.0.0.1:0",
		"data":   "data", // beside the file
		"keys":   object{"encryption_key": base64.StdEncoding.EncodeToString(sealed[:])},
		"users": []object{
			{"id": w.alice.id, "name": "Alice", "password": w.alice.password},
			{"id": w.bob.id, "name": "Bob", "password": w.bob.password},
		},
		"clients": []object{
			{"id": n.id("app"), "name": n.name("Alice's app"), "redirect_uris": []string{callback}, "grant_types": []string{"authorization_code"}},
			{"id": n.id("mail-server"), "name": n.name("Mail"), "jwks": jwks(guard)},
		},
		"resources": []object{{
			"id": n.id("mail"), "uri": w.mail.uri, "name": n.name("Mail"), "servers": []string{n.id("mail-server")},
			"scopes": object{"mail.send": "Send mail in your name", "mail.read": "Read your mail"},
		}},
		"agents": []object{{
			"id": w.agent.id, "name": n.name("Mail helper"), "owner": "The mail team", "jwks": jwks(w.agent.key), "dpop_bound_access_tokens": true,
			"description": "Writes the boring mails for you.",
			"ceiling":     object{"resources": []string{n.id("mail")}, "scopes": []string{"mail.send", "mail.read"}},
		}},
	}
	if o.Live != "" {
		file["live"] = o.Live
	}
	if o.Records != "" {
		file["records"] = o.Records
	}
	if path, ok := strings.CutPrefix(o.Records, "bolt:"); ok { // not beside the file, which goes away
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		file["records"] = "bolt:" + path
	}
	return json.Marshal(file)
}

func jwks(key *token.SigningKey) json.RawMessage {
	set, err := token.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		return json.RawMessage(`{}`) // the configuration says what is wrong with it
	}
	return set
}

func secret(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return strings.NewReplacer("-", "x", "_", "y").Replace(base64.RawURLEncoding.EncodeToString(raw))
}

// Close ends everybody and leaves nothing behind.
func (w *world) Close() error {
	var errs []error
	if w.mail != nil {
		errs = append(errs, w.mail.Close())
	}
	w.wire.CloseIdleConnections()
	if w.server != nil {
		errs = append(errs, w.server.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
