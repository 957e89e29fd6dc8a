package conformance_test

import (
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

func fetchCases() []testCase {
	return []testCase{
		{"CM-06", "keys are fetched from the public Internet and nowhere else", cmSpecial},
		{"NEG-100", "a client that calls itself by a URL is looked up nowhere", negDocument},
		{"NEG-098", "no redirect is followed, and nothing in the clear", negRedirected},
	}
}

// lookout listens at every address of this machine and counts who comes.
type lookout struct {
	port string
	came atomic.Int32
}

func (c *check) lookout() *lookout {
	c.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		c.Fatal(err)
	}
	out := &lookout{port: port}
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			out.came.Add(1)
			_ = conn.Close()
		}
	}()
	return out
}

// publishing registers an agent whose keys are at an address, unless the registry refuses it.
func (c *check) publishing(uri string) *client {
	c.Helper()
	agent := newClient(c.name("agent"), "ES256")
	a := c.tryAdmin(http.MethodPut, "/agents/"+agent.id, c.registration(agent, obj{"jwks": nil, "jwks_uri": uri}))
	if a.status == http.StatusUnprocessableEntity {
		return nil
	}
	if a.status >= http.StatusBadRequest {
		c.Fatalf("%s: %d %s", uri, a.status, a.body)
	}
	return agent
}

func cmSpecial(c *check) {
	p := c.apart(func(o *options) { o.tls = true }) // one that is there to be tried out may reach this machine
	here := p.lookout()
	inside := []string{
		"127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost", "LOCALHOST.", "2130706433", "127.1",
		"169.254.169.254", "[::ffff:a9fe:a9fe]", "[fe80::1]", "10.0.0.1", "10.255.255.254", "172.16.0.1", "192.168.0.1", "[::ffff:a00:1]", "100.64.0.1", "[fd00::1]",
		"[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]", "192.0.2.1", "198.18.0.1", "[2001:db8::1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255",
	}
	if name, err := os.Hostname(); err == nil {
		inside = append(inside, name)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		c.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			inside = append(inside, n.IP.String())
		}
	}
	uris := []string{"http://127.0.0.1:" + here.port + "/jwks", "http://169.254.169.254/latest/meta-data"}
	for _, host := range inside {
		uris = append(uris, "https://"+host+":"+here.port+"/jwks")
	}
	asked := map[*client]string{}
	for _, uri := range uris {
		if agent := p.publishing(uri); agent != nil {
			asked[agent] = uri
		}
	}
	agents := slices.Collect(maps.Keys(asked))
	for i, a := range p.together(len(agents)*len(p.nodes), func(i int) call { return p.te(agents[i%len(agents)], "x.y.z").node(1 + i/len(agents)).ready() }) {
		uri := asked[agents[i%len(agents)]]
		if a.status != http.StatusUnauthorized || a.code() != "invalid_client" {
			p.Errorf("%s: %d %s", uri, a.status, a.body)
		}
		took := a.took
		for range 4 { // a call takes as long each time, a busy machine does not
			if took > 2900*time.Millisecond {
				took = min(took, p.te(agents[i%len(agents)], "x.y.z").node(1+i/len(agents)).do().took)
			}
		}
		if u, err := url.Parse(uri); err == nil && net.ParseIP(u.Hostname()) != nil && took > 2900*time.Millisecond {
			p.Errorf("%s: it took %s, as if somebody was called", uri, took)
		}
	}
	if n := here.came.Load(); n != 0 {
		p.Errorf("%d connections", n)
	}
	for _, addr := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "::1", "fd00::1", "64:ff9b::a9fe:a9fe"} {
		if strings.Contains(addr, ":") && !hasIPv6() {
			continue
		}
		if !strings.Contains(p.logs(), "the address is not on the public internet: "+addr+`"`) {
			p.Errorf("the log does not say that %s was refused for what it is", addr)
		}
	}
	// The same call from a server that may reach this machine: the lookout would have seen one.
	c.want(c.te(c.publishing("https://127.0.0.1:"+here.port+"/jwks"), "x.y.z").do(), 401, "invalid_client")
	if here.came.Load() == 0 {
		c.Error("nobody comes to the lookout")
	}
}

func negDocument(c *check) {
	here := c.lookout() // which the server may reach
	for _, id := range []string{"http://127.0.0.1:" + here.port + "/client.json", "https://localhost:" + here.port + "/client", "https://app.example.com/client.json"} {
		f := c.flow(c.person("alice"), "mail.read").set("client_id", id)
		if p := f.open(); p.gone != nil || p.status < http.StatusBadRequest {
			c.Errorf("%s: %d, sent to %v", id, p.status, p.gone)
		}
		c.want(c.post("/par", f.query), 401, "invalid_client")
		c.want(c.post("/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {nonce()}, "redirect_uri": {redirect}, "code_verifier": {nonce() + nonce()}}), 401, "invalid_client")
		stranger := &client{id: id, key: newKey("ES256")}
		c.want(c.te(stranger, c.userToken("alice")).do(), 401, "invalid_client")
	}
	if n := here.came.Load(); n != 0 {
		c.Errorf("%d connections", n)
	}
	if supported := c.ok(c.get("/.well-known/oauth-authorization-server", 0)).json["client_id_metadata_document_supported"]; supported == true {
		c.Error("the metadata says that there are such documents")
	}
}

// hasIPv6 says whether this machine knows it.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// negRedirected has an installation that may reach this machine look for keys that it would find if it followed.
func negRedirected(c *check) {
	agent := newClient(c.name("agent"), "ES256")
	var hits atomic.Int32
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(mustJSON(jwksOf(agent.key)))
	}))
	c.Cleanup(keys.Close)
	var asked atomic.Int32
	from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		status, err := strconv.Atoi(r.URL.Query().Get("status"))
		if err != nil {
			status = http.StatusFound
		}
		http.Redirect(w, r, r.URL.Query().Get("to"), status)
	}))
	c.Cleanup(from.Close)
	published := func(uri string) *exchange {
		c.Helper()
		if a := c.change("/agents/"+agent.id, c.registration(agent, obj{"jwks": nil, "jwks_uri": uri})); a.status >= 400 {
			c.Fatalf("%d %s", a.status, a.body)
		}
		return c.te(agent, c.userToken("alice"))
	}
	c.register(agent)
	for i, to := range []string{keys.URL + "/jwks", "https://169.254.169.254/latest/meta-data", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "file:///etc/passwd"} {
		status := []int{301, 302, 303, 307, 308}[i%5]
		before := asked.Load()
		c.want(published(from.URL+"/?"+url.Values{"to": {to}, "status": {strconv.Itoa(status)}}.Encode()).do(), 401, "invalid_client")
		if asked.Load() == before {
			c.Errorf("%s: nobody asked", to)
		}
	}
	if n := hits.Load(); n != 0 {
		c.Errorf("%d redirects were followed", n)
	}
	c.asks(published(keys.URL + "/jwks")) // where the keys are indeed
}
