//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	obolus "obolus/token"
)

// The parties of every installation.
const (
	mailURI     = "https://mail.test/api"
	filesURI    = "https://files.test"
	mailServer  = "mail-server"
	filesServer = "files-server"
	scope       = "mail.read"

	clientSecret  = "a-secret-of-the-torture-0123456789"
	password      = "a-long-passphrase-of-the-torture"
	operatorToken = "b3BlcmF0b3ItdG9rZW4tb2YtdGhlLXRvcnR1cmUtMDE"
	masterKey     = "0123456789abcdef0123456789abcdef"

	leeway = 5 * time.Second // the server's own
)

// shape is what an installation is made of.
type shape struct {
	name     string
	servers  int
	local    bool // bolt and memory
	sentinel bool // a Sentinel decides which Redis leads
	workers  int
}

// shapes are those that are tortured.
func shapes() []shape {
	return []shape{
		{name: "postgres+redis", servers: 3, workers: 14},
		{name: "postgres+sentinel", servers: 2, sentinel: true, workers: 6},
		{name: "bolt+memory", servers: 1, local: true, workers: 4},
	}
}

// replica is one server, and the links that lead to it and away from it.
type replica struct {
	*child
	addr               string
	door               *link // from clients
	toRedis, toRecords *link // nil: there is none
}

// world is an installation: the servers, what they stand on and the network between.
type world struct {
	shape
	dir         string
	binary      string
	self        []string // what makes the binary a child
	history     *history
	servers     []*replica
	redis       *redisPair
	postgres    *postgresServer
	rs          *child // the resource server
	rsAddr      string
	effectsFile string
	front       *link // the address that all servers share, which is the issuer's
	turn        atomic.Uint32
	started     atomic.Pointer[[]*replica] // the servers, for the front, which is there before they are

	issuer string
	key    *obolus.SigningKey // of every agent that has one
	idp    *issuer            // of the users' tokens
	people []*person
	http   *http.Client
	config string
	quiet  atomic.Bool // nothing new is begun
	serial atomic.Uint32
	faults atomic.Pointer[nemesis]
}

// issuer is somebody else's authorization server, whose tokens say who the user is.
type issuer struct {
	url string
	key *obolus.SigningKey
	as  *obolus.Issuer
	srv *http.Server
}

func newIssuer() (*issuer, error) {
	key, err := obolus.GenerateKey(obolus.ES256, rand.Reader)
	if err != nil {
		return nil, err
	}
	jwks, err := obolus.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // close closes it
	if err != nil {
		return nil, err
	}
	i := &issuer{url: "http://" + l.Addr().String(), key: key}
	i.as = obolus.NewIssuer(i.url)
	i.srv = &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(jwks)
	})}
	go func() { _ = i.srv.Serve(l) }()
	return i, nil
}

// token says who the user is, for five minutes.
func (i *issuer) token(audience, user string) (string, error) {
	now := time.Now().Unix()
	payload, err := json.Marshal(obj{
		"iss": i.url, "sub": user, "aud": audience, "iat": now, "exp": now + 300, "jti": rand.Text(), "scope": scope,
	})
	if err != nil {
		return "", err
	}
	return i.as.SignAs("JWT", payload, i.key)
}

type obj = map[string]any

// build prepares an installation and starts it.
func build(ctx context.Context, s shape, dir string, self []string, start time.Time) (*world, error) {
	w := &world{shape: s, dir: filepath.Join(dir, s.name), self: self, history: newHistory(start)}
	for _, step := range []func() error{w.prepare, w.startStores, w.startServers, w.startResource} {
		if err := step(); err != nil {
			w.close()
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := w.settle(ctx); err != nil {
		w.close()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return w, nil
}

func (w *world) prepare() error {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	var err error
	if w.binary, err = os.Executable(); err != nil {
		return err
	}
	if w.key, err = obolus.GenerateKey(obolus.ES256, rand.Reader); err != nil {
		return err
	}
	if w.idp, err = newIssuer(); err != nil {
		return err
	}
	if w.front, err = newLink("front", w.somebody); err != nil {
		return err
	}
	w.issuer = "http://" + w.front.addr()
	w.http = &http.Client{
		Timeout: requestTime, Transport: &http.Transport{MaxIdleConnsPerHost: 32, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// requestTime is how long an answer is waited for.
const requestTime = 2 * time.Second

// somebody is the door of the next server that runs.
func (w *world) somebody() string {
	all := w.started.Load()
	if all == nil {
		return ""
	}
	for range *all {
		r := (*all)[int(w.turn.Add(1))%len(*all)]
		if !r.ended() {
			return r.door.addr()
		}
	}
	return ""
}

func (w *world) startStores() error {
	if w.local {
		return nil
	}
	var free ports
	var err error
	if w.postgres, err = startPostgres(&free); err != nil {
		return err
	}
	if w.redis, err = startRedis(w.dir, &free); err != nil {
		return err
	}
	if w.sentinel {
		if err := w.redis.startSentinel(w.dir, &free); err != nil {
			return err
		}
		return await("sentinel", 20*time.Second, w.redis.knowsReplica)
	}
	return nil
}

// startServers gives each server a configuration of its own, which differs in the links to its stores.
func (w *world) startServers() error {
	var free ports
	for i := range w.shape.servers {
		r := &replica{}
		var err error
		if r.addr, err = free.next(); err != nil {
			return err
		}
		records, live := "bolt:"+filepath.Join(w.dir, "records.db"), "memory:"
		if !w.local {
			if records, live, err = w.connect(r, i); err != nil {
				return err
			}
		}
		if r.door, err = newLink(fmt.Sprint("clients–server ", i+1), func() string { return r.addr }); err != nil {
			return err
		}
		file := filepath.Join(w.dir, fmt.Sprintf("server%d.yaml", i+1))
		cfg, err := w.configuration(r.addr, records, live)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, cfg, 0o600); err != nil {
			return err
		}
		r.child = &child{
			name: fmt.Sprintf("server%d", i+1), path: w.binary, args: append(w.self, file), env: []string{roleVariable + "=" + roleServer}, dir: w.dir,
		}
		w.servers = append(w.servers, r)
		if err := r.start(); err != nil {
			return err
		}
		if err := w.awaitServer(r); err != nil {
			return err
		}
	}
	w.started.Store(&w.servers)
	return nil
}

// connect makes the links from a server to its stores. Behind a Sentinel a server finds its Redis by itself.
func (w *world) connect(r *replica, i int) (records, live string, err error) {
	if r.toRecords, err = newLink(fmt.Sprintf("server %d–postgres", i+1), func() string { return w.postgres.addr }); err != nil {
		return "", "", err
	}
	records = "postgres://postgres@" + r.toRecords.addr() + "/postgres?sslmode=disable"
	if w.sentinel {
		return records, "redis+sentinel://" + w.redis.watch + "/0?master=obolus", nil
	}
	if r.toRedis, err = newLink(fmt.Sprintf("server %d–redis", i+1), w.redis.address); err != nil {
		return "", "", err
	}
	return records, "redis://" + r.toRedis.addr(), nil
}

func (w *world) awaitServer(r *replica) error {
	return await(r.name, 60*time.Second, func() error {
		if r.ended() {
			return fmt.Errorf("%w: %s", errEnded, r.tail())
		}
		return w.readiness(r)
	})
}

// readiness asks a server whether it is ready.
func (w *world) readiness(r *replica) error {
	res, err := w.http.Get("http://" + r.addr + "/readyz") //nolint:noctx // the client has a timeout
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// configuration is JSON, which is YAML.
func (w *world) configuration(listen, records, live string) ([]byte, error) {
	jwks, err := obolus.NewPublicSet(w.key.Public()).JWKS()
	if err != nil {
		return nil, err
	}
	operators := filepath.Join(w.dir, "operator.token")
	if err := os.WriteFile(operators, []byte(operatorToken), 0o600); err != nil {
		return nil, err
	}
	var users, agents []obj
	for i := range peopleCount {
		users = append(users, obj{"id": userName(i), "name": "User", "password": password})
	}
	for i := range steadyAgents {
		a := obj{"id": agentName(i), "name": "Agent " + agentName(i), "ceiling": ceiling()}
		if usesSecret(a["id"].(string)) { //nolint:errcheck,forcetypeassert // it is one
			a["auth"], a["secret"] = "client_secret_post", clientSecret
		} else {
			a["jwks"] = json.RawMessage(jwks)
		}
		agents = append(agents, a)
	}
	return json.Marshal(obj{
		"issuer": w.issuer, "listen": listen, "data": w.dir, "records": records, "live": live, "allow_agent_secrets": true,
		"keys":      obj{"encryption_key": base64.StdEncoding.EncodeToString([]byte(masterKey))},
		"operators": obj{"token_file": operators},
		"users":     users,
		"clients": []obj{
			{"id": mailServer, "name": "The mail server", "secret": clientSecret},
			{"id": filesServer, "name": "The file server", "secret": clientSecret},
		},
		"resources": []obj{
			{"id": "mail", "uri": mailURI, "name": "Mail", "scopes": obj{scope: "Read mail"}, "redemption": "required", "servers": []string{mailServer}},
			{"id": "files", "uri": filesURI, "name": "Files", "scopes": obj{"files.read": "Read files"}, "redemption": "required", "servers": []string{filesServer}},
		},
		"agents": agents,
		"trusted_issuers": []obj{{
			"issuer": w.idp.url, "jwks_uri": w.idp.url + "/jwks", "algorithms": []string{"ES256"}, "types": []string{"jwt"}, "scopes": []string{scope},
		}},
	})
}

func ceiling() obj { return obj{"resources": []string{"mail"}, "scopes": []string{scope}} }

func (w *world) startResource() error {
	var free ports
	var err error
	if w.rsAddr, err = free.next(); err != nil {
		return err
	}
	w.effectsFile = filepath.Join(w.dir, "effects")
	w.rs = &child{
		name: "resource", path: w.binary, args: append(w.self, w.rsAddr, w.issuer, mailURI, w.effectsFile),
		env: []string{roleVariable + "=" + roleResource}, dir: w.dir,
	}
	return w.rs.start()
}

func (w *world) close() {
	for _, r := range w.servers {
		if r.child != nil {
			r.resume()
			r.kill()
		}
	}
	if w.rs != nil {
		w.rs.kill()
	}
	w.redis.end()
	w.postgres.close()
	if w.front != nil {
		w.front.close()
	}
	for _, r := range w.servers {
		for _, l := range r.links() {
			l.close()
		}
	}
	if w.idp != nil {
		_ = w.idp.srv.Close()
	}
}

func (r *replica) links() []*link {
	var all []*link
	for _, l := range []*link{r.door, r.toRedis, r.toRecords} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}
