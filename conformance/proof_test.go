package conformance_test

import (
	"crypto/sha256"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

func proofCases() []testCase {
	return []testCase{
		{"DP-01", "there is one proof, and it is one JWT", dpOne},
		{"DP-02", "typ is dpop+jwt", dpType},
		{"DP-03", "jti, htm, htu and iat are there, and what they must be", dpClaims},
		{"DP-04", "the algorithm is a public one", dpAlgorithms},
		{"DP-05", "the key is in the header, and public", dpKey},
		{"DP-06", "htm is the method", dpMethod},
		{"DP-07", "htu is the address without query", dpAddress},
		{"DP-08", "a proof is of now", dpTime},
		{"DP-09", "a proof is used once", dpOnce},
		{"DP-10", "a proof binds the token to its key", dpBound},
		{"DP-11", "who is registered for proofs must send one", dpRequired},
		{"DP-12", "there is no refresh token to be bound", dpNoRefresh},
		{"DP-13", "introspection tells the key", dpIntrospected},
		{"DP-14", "a bound token is used with a proof, and no other", dpUsed},
		{"DP-15", "a refusal names the schemes", dpChallenge},
		{"DP-19", "dpop_jkt binds the code", dpCode},
		{"DP-20", "a pushed request is bound by its proof", dpPushed},
		{"DP-21", "without an actor token the key stays that of the subject token", dpContinued},
		{"DP-22", "with one the key is the actor's", dpRebound},
		{"DP-23", "a bound token never becomes an unbound one", dpNeverUnbound},
		{"DP-24", "a transaction token that was asked for with a proof is bound to its key", dpTransaction},
		{"DP-25", "a proof replayed is not a transaction replayed", dpTwoReplays},
		{"DP-27", "what the metadata lists works, and nothing else", dpListed},
	}
}

// refusedProof sends the baseline with something as its proof.
func (c *check) refusedProof(x *exchange, what, proof string) {
	c.Helper()
	if a := x.on(c).header("Dpop", proof).do(); a.status != http.StatusBadRequest || a.code() != "invalid_dpop_proof" || a.token() != "" {
		c.Errorf("%s: %d %s", what, a.status, a.body)
	}
}

func dpOne(c *check) {
	x, k := c.baseline(), newKey("ES256")
	one, two := c.proof(k, "/token"), c.proof(k, "/token")
	c.want(x.but().header("Dpop", one).header("Dpop", two).do(), 400, "invalid_dpop_proof")
	c.refusedProof(x, "joined by a comma", one+", "+two)
	for _, bad := range []string{"x", "x.y.z", one + ".", one[:len(one)-5], " "} {
		if bad != " " {
			c.refusedProof(x, bad, bad)
		}
	}
	for what, bad := range broken(one) {
		c.refusedProof(x, what, bad)
	}
	c.ok(x.but().header("Dpop", one).do())
}

func dpType(c *check) {
	x, k := c.baseline(), newKey("ES256")
	for _, typ := range []any{nil, "JWT", "at+jwt", "dpop", "", 7} {
		c.refusedProof(x, "typ", k.sign(obj{"typ": typ, "kid": nil, "jwk": k.jwk}, c.proofClaims("/token")))
	}
	c.ok(x.but().proof(k).do())
}

func dpClaims(c *check) {
	x, k := c.baseline(), newKey("ES256")
	for _, name := range []string{"jti", "htm", "htu", "iat"} {
		c.refusedProof(x, "without "+name, c.proof(k, "/token", obj{name: nil}))
		c.refusedProof(x, name+" of another type", c.proof(k, "/token", obj{name: []string{"x"}}))
	}
	c.refusedProof(x, "jti empty", c.proof(k, "/token", obj{"jti": ""}))
	c.refusedProof(x, "jti a number", c.proof(k, "/token", obj{"jti": 7}))
	c.refusedProof(x, "jti of 5 KiB", c.proof(k, "/token", obj{"jti": strings.Repeat("j", 5<<10)}))
	c.refusedProof(x, "iat as text", c.proof(k, "/token", obj{"iat": "now"}))
	c.ok(x.but().proof(k, obj{"foo": "bar"}).do())
}

func dpAlgorithms(c *check) {
	x, k := c.baseline(), newKey("ES256")
	claims := c.proofClaims("/token")
	header := obj{"typ": "dpop+jwt", "jwk": k.jwk}
	c.refusedProof(x, "HS256", hmacSign(mustJSON(k.jwk), merge(header, obj{"alg": "HS256"}), claims))
	c.refusedProof(x, "HS256 by oct", hmacSign([]byte("secret"), obj{"typ": "dpop+jwt", "alg": "HS256", "jwk": obj{"kty": "oct", "k": b64([]byte("secret"))}}, claims))
	for _, alg := range []string{"none", "None", "nOnE"} {
		c.refusedProof(x, alg, b64(mustJSON(merge(header, obj{"alg": alg})))+"."+b64(mustJSON(claims))+".")
	}
	c.refusedProof(x, "ES384 by a key for ES256", k.sign(obj{"alg": "ES384", "typ": "dpop+jwt", "kid": nil, "jwk": k.jwk}, claims))
	wide := newKey("ES384")
	c.refusedProof(x, "ES384", wide.sign(obj{"typ": "dpop+jwt", "kid": nil, "jwk": wide.jwk}, claims))
}

func dpKey(c *check) {
	x, k, other := c.baseline(), newKey("ES256"), newKey("ES256")
	claims := c.proofClaims("/token")
	sign := func(header obj) string { return k.sign(merge(obj{"typ": "dpop+jwt", "kid": nil}, header), claims) }
	c.refusedProof(x, "no key", sign(obj{}))
	c.refusedProof(x, "another key", sign(obj{"jwk": other.jwk}))
	c.refusedProof(x, "a private key", sign(obj{"jwk": merge(k.jwk, obj{"d": b64(make([]byte, 32))})}))
	c.refusedProof(x, "a certificate", sign(obj{"x5u": "https://evil.test/cert"}))
	c.refusedProof(x, "a key by reference", sign(obj{"jku": "https://evil.test/jwks", "kid": "1"}))
	c.refusedProof(x, "a kid alone", k.sign(obj{"typ": "dpop+jwt", "kid": x.who.key.kid}, claims))
	c.refusedProof(x, "a point off the curve", sign(obj{"jwk": merge(k.jwk, obj{"y": b64(make([]byte, 32))})}))
	c.refusedProof(x, "a key of the wrong shape", sign(obj{"jwk": []string{"x"}}))
	c.refusedProof(x, "crit", sign(obj{"jwk": k.jwk, "crit": []string{"x"}, "x": 1}))
}

func dpMethod(c *check) {
	x, k := c.baseline(), newKey("ES256")
	for _, m := range []string{"GET", "post", "Post", "POST ", ""} {
		c.refusedProof(x, m, c.proof(k, "/token", obj{"htm": m}))
	}
}

func dpAddress(c *check) {
	x, k := c.baseline(), newKey("ES256")
	for _, u := range []string{
		c.issuer + "/par", c.issuer, "https://evil.test/token", c.issuer + "/token/", strings.Replace(c.issuer, "http:", "https:", 1) + "/token",
		"/token", c.issuer + "/TOKEN", "x",
	} {
		c.refusedProof(x, u, c.proof(k, "/token", obj{"htu": u}))
	}
	c.ok(x.but().proof(k, obj{"htu": c.issuer + "/token?x=1#f"}).do())
	c.ok(x.but().proof(k, obj{"htu": "HTTP" + strings.TrimPrefix(c.issuer, "http") + "/token"}).do())
	evil := x.but().header("X-Forwarded-Host", "evil.test").header("X-Forwarded-Proto", "https")
	c.refusedProof(evil, "by what a header says", c.proof(k, "/token", obj{"htu": "https://evil.test/token"}))
	c.ok(evil.but().proof(k).do())
}

func dpTime(c *check) {
	x, k := c.baseline(), newKey("ES256")
	for what, iat := range map[string]any{
		"old": in(-90), "of the future": in(30), "negative": -1, "huge": 1e300, "a fraction": float64(in(0)) + 0.5, "zero": 0, "of 1970": 1,
	} {
		c.refusedProof(x, what, c.proof(k, "/token", obj{"iat": iat}))
	}
	c.ok(x.but().proof(k, obj{"iat": in(3)}).do())
}

func dpOnce(c *check) {
	x, k := c.baseline(), newKey("ES256")
	proof := c.proof(k, "/token")
	c.ok(x.but().header("Dpop", proof).node(1).do())
	c.refusedProof(x.but().node(1), "again", proof)
	c.refusedProof(x.but().node(2), "again, at the other process", proof)
	claims := c.proofClaims("/token")
	header := obj{"typ": "dpop+jwt", "kid": nil, "jwk": k.jwk}
	c.ok(x.but().header("Dpop", k.sign(header, claims)).do())
	c.refusedProof(x, "the same jti, signed anew", k.sign(header, claims))
	c.sub("of a hundred copies one counts", func(c *check) {
		same := c.proof(k, "/token")
		won := 0
		for _, a := range c.together(100, func(int) call { return x.on(c).header("Dpop", same).ready() }) {
			switch {
			case a.status == http.StatusOK:
				won++
			case a.code() != "invalid_dpop_proof":
				c.Errorf("%d %s", a.status, a.body)
			}
		}
		if won != 1 {
			c.Errorf("%d of 100 counted", won)
		}
	})
}

// keyOf is the thumbprint that a token is bound to.
func (c *check) keyOf(token string) string {
	c.Helper()
	cnf, _ := c.decode(token).claims["cnf"].(obj)
	jkt, _ := cnf["jkt"].(string)
	return jkt
}

func dpBound(c *check) {
	x := c.baseline()
	for _, alg := range []string{"ES256", "EdDSA", "RS256", "PS256"} {
		k := newKey(alg)
		a := c.ok(x.but().proof(k).do())
		if a.str("token_type") != "DPoP" || c.keyOf(a.token()) != k.thumbprint() {
			c.Errorf("%s: %s bound to %q", alg, a.str("token_type"), c.keyOf(a.token()))
		}
	}
	f, k := c.flow(c.person("alice"), "mail.read"), newKey("ES256")
	a := c.ok(c.do(call{method: http.MethodPost, path: "/token", form: f.form(f.code()), header: http.Header{"Dpop": {c.proof(k, "/token")}}}))
	if a.str("token_type") != "DPoP" || c.keyOf(a.token()) != k.thumbprint() {
		c.Errorf("of a code: %s bound to %q", a.str("token_type"), c.keyOf(a.token()))
	}
}

func dpRequired(c *check) {
	x := c.te(c.agent(obj{"dpop_bound_access_tokens": true}), c.userToken("alice"))
	c.want(x.but().do(), 400, "invalid_dpop_proof")
	k := newKey("ES256")
	c.want(x.but().proof(k).do(), 400, "interaction_required")
}

func dpIntrospected(c *check) {
	k := newKey("ES256")
	a := c.introspect(c.rs1, c.ok(c.baseline().proof(k).do()).token())
	cnf, _ := a.json["cnf"].(obj)
	if a.str("token_type") != "DPoP" || cnf["jkt"] != k.thumbprint() {
		c.Errorf("%s", a.body)
	}
}

// forward asks as a proxy would: resource server rs2 in front of the files.
func (c *check) forward(header http.Header) answer {
	c.Helper()
	h := http.Header{
		"X-Obolus-Client": {basic("rs2", rs2Secret).Get("Authorization")}, "X-Forwarded-Method": {http.MethodPost},
		"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"rs2.test"}, "X-Forwarded-Uri": {"/api/upload"},
	}
	maps.Copy(h, header)
	return c.do(call{method: http.MethodGet, path: "/authz?resource=" + url.QueryEscape(files) + "&scope=files.read", header: h})
}

// atFiles is a proof for the request that waits at the proxy.
func (c *check) atFiles(k *key, token string, changes ...obj) string {
	sum := sha256.Sum256([]byte(token))
	claims := merge(obj{"jti": nonce(), "htm": http.MethodPost, "htu": "https://rs2.test/api/upload", "iat": in(0), "ath": b64(sum[:])}, changes...)
	return k.sign(obj{"typ": "dpop+jwt", "kid": nil, "jwk": k.jwk}, claims)
}

func dpUsed(c *check) {
	k, other := newKey("ES256"), newKey("ES256")
	x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(files, "files.read"))
	bound, free := c.ok(x.but().proof(k).do()).token(), c.ok(x.but().do()).token()
	try := func(what string, status int, header http.Header) {
		c.Helper()
		if a := c.forward(header); a.status != status {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	try("bound, as Bearer", 401, http.Header{"Authorization": {"Bearer " + bound}})
	try("bound, as Bearer with a proof", 401, http.Header{"Authorization": {"Bearer " + bound}, "Dpop": {c.atFiles(k, bound)}})
	try("bound, without proof", 401, http.Header{"Authorization": {"DPoP " + bound}})
	try("bound, by another key", 401, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {c.atFiles(other, bound)}})
	try("bound, without ath", 401, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {c.atFiles(k, bound, obj{"ath": nil})}})
	try("bound, ath of another token", 401, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {c.atFiles(k, free)}})
	try("bound, for another method", 401, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {c.atFiles(k, bound, obj{"htm": "GET"})}})
	try("bound, for another address", 401, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {c.atFiles(k, bound, obj{"htu": "https://rs2.test/api/other"})}})
	try("free, as DPoP", 401, http.Header{"Authorization": {"DPoP " + free}, "Dpop": {c.atFiles(k, free)}})
	proof := c.atFiles(k, bound)
	try("bound, as it must be", 200, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {proof}})
	try("the proof again", 401, http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {proof}})
	try("free, as it must be", 200, http.Header{"Authorization": {"Bearer " + free}})
	try("free, again", 401, http.Header{"Authorization": {"Bearer " + free}})
}

func dpChallenge(c *check) {
	for _, header := range []http.Header{{}, {"Authorization": {"Bearer x.y.z"}}, {"Authorization": {"DPoP x.y.z"}}} {
		a := c.forward(header)
		challenge := strings.Join(a.header.Values("Www-Authenticate"), ", ")
		if a.status != 401 || !strings.Contains(challenge, "DPoP ") || !strings.Contains(challenge, `algs="`) || !strings.Contains(challenge, "Bearer ") {
			c.Errorf("%d %s", a.status, challenge)
		}
	}
	if a := c.forward(http.Header{"Authorization": {"Bearer x.y.z", "DPoP x.y.z"}}); a.status != 400 {
		c.Errorf("two tokens: %d", a.status)
	}
}

func dpCode(c *check) {
	k, other := newKey("ES256"), newKey("ES256")
	redeem := func(f *flow, header http.Header) answer {
		return c.do(call{method: http.MethodPost, path: "/token", form: f.form(f.code()), header: header})
	}
	bound := func() *flow { return c.flow(c.person("alice"), "mail.read").set("dpop_jkt", k.thumbprint()) }
	c.want(redeem(bound(), nil), 400, "invalid_grant")
	c.want(redeem(bound(), http.Header{"Dpop": {c.proof(other, "/token")}}), 400, "invalid_grant")
	c.ok(redeem(bound(), http.Header{"Dpop": {c.proof(k, "/token")}}))
}

func dpPushed(c *check) {
	k, other := newKey("ES256"), newKey("ES256")
	push := func(q url.Values, proof string) answer {
		return c.do(call{method: http.MethodPost, path: "/par", form: q, header: http.Header{"Dpop": {proof}}})
	}
	f := c.flow(c.person("alice"), "mail.read").set("dpop_jkt", other.thumbprint())
	c.want(push(f.query, c.proof(k, "/par")), 400, "invalid_dpop_proof")
	c.want(push(c.flow(c.person("alice"), "mail.read").query, c.proof(k, "/token")), 400, "invalid_dpop_proof")
	f = c.flow(c.person("alice"), "mail.read")
	pushed := push(f.query, c.proof(k, "/par"))
	if pushed.status != http.StatusCreated {
		c.Fatalf("%d %s", pushed.status, pushed.body)
	}
	keep := f.query
	f.query = url.Values{"client_id": {"app"}, "request_uri": {pushed.str("request_uri")}, "redirect_uri": keep["redirect_uri"], "state": keep["state"]}
	code := f.code()
	c.want(c.do(call{method: http.MethodPost, path: "/token", form: f.form(code), header: http.Header{"Dpop": {c.proof(other, "/token")}}}), 400, "invalid_grant")
	c.ok(c.do(call{method: http.MethodPost, path: "/token", form: f.form(code), header: http.Header{"Dpop": {c.proof(k, "/token")}}}))
}

// boundToken is a user's token that is bound to a key.
func (c *check) boundToken(k *key, scope string) string {
	c.Helper()
	f := c.flow(c.person("alice"), scope)
	return c.ok(c.do(call{method: http.MethodPost, path: "/token", form: f.form(f.code()), header: http.Header{"Dpop": {c.proof(k, "/token")}}})).token()
}

func dpContinued(c *check) {
	k := newKey("ES256")
	x := c.te(c.agent(), c.boundToken(k, "mail.read"))
	c.allow(c.person("alice"), x.but().proof(k), limits{})
	c.want(x.but().proof(newKey("ES256")).do(), 400, "invalid_dpop_proof")
	if jkt := c.keyOf(c.ok(x.but().proof(k).do()).token()); jkt != k.thumbprint() {
		c.Errorf("bound to %q", jkt)
	}
}

func dpRebound(c *check) {
	subject, actor := newKey("ES256"), newKey("ES256")
	x := c.te(c.agent(), c.boundToken(subject, "mail.read"))
	bound := func() *exchange { return x.but().actor(obj{"cnf": obj{"jkt": actor.thumbprint()}}) }
	c.allow(c.person("alice"), bound().proof(actor), limits{})
	c.want(bound().proof(subject).do(), 400, "invalid_dpop_proof")
	c.want(bound().proof(newKey("ES256")).do(), 400, "invalid_dpop_proof")
	if jkt := c.keyOf(c.ok(bound().proof(actor).do()).token()); jkt != actor.thumbprint() {
		c.Errorf("bound to %q", jkt)
	}
}

func dpNeverUnbound(c *check) {
	k := newKey("ES256")
	x := c.te(c.agent(), c.boundToken(k, "mail.read"))
	c.allow(c.person("alice"), x.but().proof(k), limits{})
	c.want(x.but().do(), 400, "invalid_dpop_proof")
	c.want(x.but().actor().do(), 400, "invalid_dpop_proof")
}

func dpNoRefresh(c *check) {
	k, b := newKey("ES256"), c.person("alice")
	proved := func(form url.Values) answer {
		return c.do(call{method: http.MethodPost, path: "/token", form: form, header: http.Header{"Dpop": {c.proof(k, "/token")}}})
	}
	f := c.flow(b, "mail.read")
	a := c.ok(proved(f.form(f.code())))
	if _, there := a.json["refresh_token"]; there || c.keyOf(a.token()) != k.thumbprint() {
		c.Errorf("%s", a.body)
	}
	offline := c.flow(b, "mail.read offline_access")
	if q := offline.back(offline.open()); q.Get("error") != "invalid_scope" {
		c.Errorf("offline_access: %v", q)
	}
	public := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.token()}, "client_id": {"app"}}
	c.want(proved(public), 400, "unsupported_grant_type")
	c.want(proved(asserted(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.token()}}, c.rs1.assertion(c.issuer))), 400, "unsupported_grant_type")
	for _, grant := range stringsOf(c.ok(c.get("/.well-known/oauth-authorization-server", 0)).json["grant_types_supported"]) {
		if grant == "refresh_token" {
			c.Error("the metadata lists it")
		}
	}
}

func dpTransaction(c *check) {
	k, name := newKey("ES256"), nonce()
	token, _ := c.mailToken()
	ask := func(proof, name string) answer {
		r := c.exchanged(c.rs1, token, name)
		r.header.Set("Dpop", proof)
		return c.do(r)
	}
	proof := c.proof(k, "/token")
	c.want(ask(c.proof(k, "/redeem"), name), 400, "invalid_dpop_proof")
	first := c.ok(ask(proof, name))
	if first.str("token_type") != "N_A" || c.keyOf(first.token()) != k.thumbprint() {
		c.Errorf("%s bound to %q", first.str("token_type"), c.keyOf(first.token()))
	}
	c.want(ask(proof, name), 400, "invalid_dpop_proof")
	if again := c.ok(ask(c.proof(k, "/token"), name)); again.token() != first.token() {
		c.Error("the same name gives another token")
	}
	c.want(ask(c.proof(k, "/token"), nonce()), 400, "invalid_request")
	other, _ := c.mailToken()
	if jkt := c.keyOf(c.ok(c.do(c.exchanged(c.rs1, other, nonce()))).token()); jkt != "" {
		c.Errorf("without a proof: bound to %q", jkt)
	}
}

func dpTwoReplays(c *check) {
	k := newKey("ES256")
	token := c.ok(c.baseline().proof(k).do()).token()
	c.want(c.redeem(c.rs1, token, nonce()).set("jkt", newKey("ES256").thumbprint()).do(), 403, "key_mismatch")
	c.ok(c.redeem(c.rs1, token, nonce()).set("jkt", k.thumbprint()).do())
	c.want(c.redeem(c.rs1, token, nonce()).set("jkt", k.thumbprint()).do(), 409, "already_redeemed")
	x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(files, "files.read"))
	sent := c.ok(x.proof(k).do()).token()
	use := func() answer {
		return c.forward(http.Header{"Authorization": {"DPoP " + sent}, "Dpop": {c.atFiles(k, sent)}})
	}
	c.ok(use())
	if a := use(); a.status != 401 || a.code() != "invalid_token" {
		c.Errorf("a fresh proof with a spent token: %d %s", a.status, a.body)
	}
}

func dpListed(c *check) {
	x := c.baseline()
	listed := stringsOf(c.ok(c.get("/.well-known/oauth-authorization-server", 0)).json["dpop_signing_alg_values_supported"])
	if len(listed) == 0 {
		c.Error("nothing is listed")
	}
	for _, alg := range listed {
		c.ok(x.but().proof(newKey(alg)).do())
	}
	k := newKey("ES384")
	c.refusedProof(x, "ES384", k.sign(obj{"typ": "dpop+jwt", "kid": nil, "jwk": k.jwk}, c.proofClaims("/token")))
}
