package conformance_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

func joseCases() []testCase {
	return []testCase{
		{"JB-01", "algorithms are those agreed, one for each key", jbAlgorithms},
		{"JB-02", "only signatures without a shared secret are offered", jbOffered},
		{"JB-03", "an encrypted token is refused", func(c *check) {
			c.refusedEverywhere("five parts", b64([]byte(`{"alg":"dir","enc":"A256GCM"}`))+".."+b64([]byte("iv"))+"."+b64([]byte("text"))+"."+b64([]byte("tag")))
		}},
		{"JB-04", "keys belong to their issuer", jbIssuer},
		{"JB-05", "the audience is checked for every kind", jbAudience},
		{"JB-06", "a header brings no keys", jbHeaders},
		{"JB-07", "one kind of token does not pass for another", jbKinds},
		{"JB-08", "no passwords as keys", jbPassword},
		{"JB-09", "compact, strict base64url, nothing around it", jbEncoding},
		{"JB-10", "nothing compressed", func(c *check) {
			k, claims := c.idp.key, c.idp.claims(c.env, "alice", "mail.read")
			c.want(c.foreign(c.agent(), k.sign(obj{"typ": "JWT", "zip": "DEF"}, claims)).do(), 400, "invalid_request")
			a := c.agent()
			c.want(c.te(a, c.userToken("alice")).assertion(a.key.sign(obj{"zip": "DEF"}, a.claims(c.issuer))).do(), 401, "invalid_client")
		}},
		{"JB-11", "limits before anything is read", jbLimits},
	}
}

// input is a place where somebody can present a token, and what a refusal looks like there.
type input struct {
	name    string
	present func(c *check, token string) answer
	refused func(a answer) bool
}

// inputs are all of them.
func (c *check) inputs() []input {
	c.Helper()
	base := c.baseline()
	bad := func(a answer) bool {
		return a.token() == "" && (a.code() == "invalid_request" || a.code() == "invalid_client") && (a.status == 400 || a.status == 401 || a.status == 413)
	}
	return []input{
		{"subject access_token", func(c *check, tok string) answer { return base.on(c).set("subject_token", tok).do() }, bad},
		{"subject jwt", func(c *check, tok string) answer {
			return base.on(c).set("subject_token", tok).set("subject_token_type", jwtType).do()
		}, bad},
		{"subject id_token", func(c *check, tok string) answer {
			return base.on(c).set("subject_token", tok).set("subject_token_type", idToken).do()
		}, bad},
		{"actor jwt", func(c *check, tok string) answer {
			return base.on(c).set("actor_token", tok).set("actor_token_type", jwtType).do()
		}, bad},
		{"actor access_token", func(c *check, tok string) answer {
			return base.on(c).set("actor_token", tok).set("actor_token_type", accessToken).do()
		}, bad},
		{"client assertion", func(c *check, tok string) answer { return base.on(c).assertion(tok).do() }, bad},
		{"proof", func(c *check, tok string) answer { return base.on(c).header("Dpop", tok).do() }, func(a answer) bool {
			return a.token() == "" && a.status == 400 && (a.code() == "invalid_dpop_proof" || a.code() == "invalid_request")
		}},
		{"introspection", func(c *check, tok string) answer { return c.ask("/introspect", c.rs1, url.Values{"token": {tok}}) }, func(a answer) bool {
			return a.status == 200 && a.json["active"] == false || a.status == 413 || a.status == 400
		}},
		{"redemption", func(c *check, tok string) answer { return c.redeem(c.rs1, tok, nonce()).do() }, func(a answer) bool {
			return a.status == 410 || a.status == 413 || a.status == 400
		}},
	}
}

// on is a copy for another part of the case.
func (x *exchange) on(c *check) *exchange {
	y := x.but()
	y.c = c
	return y
}

// refusedEverywhere presents something that is no token at every input.
func (c *check) refusedEverywhere(what, token string) {
	c.Helper()
	for _, in := range c.inputs() {
		if a := in.present(c, token); !in.refused(a) {
			c.Errorf("%s at %s: %d %s", what, in.name, a.status, a.body)
		}
	}
}

func jbAlgorithms(c *check) {
	claims := c.idp.claims(c.env, "alice", "mail.read")
	agent := c.agent()
	der, err := x509.MarshalPKIXPublicKey(c.idp.key.signer.Public())
	if err != nil {
		c.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk := mustJSON(c.idp.key.public())
	kid := c.idp.key.kid
	none := func(alg string) string {
		return b64(mustJSON(obj{"alg": alg, "typ": "JWT", "kid": kid})) + "." + b64(mustJSON(claims)) + "."
	}
	zero := func(n int) string {
		return b64(mustJSON(obj{"alg": "ES256", "typ": "JWT", "kid": kid})) + "." + b64(mustJSON(claims)) + "." + b64(make([]byte, n))
	}
	hs := func(secret []byte) string {
		return hmacSign(secret, obj{"alg": "HS256", "typ": "JWT", "kid": kid}, claims)
	}
	answers := map[string]answer{}
	for what, tok := range map[string]string{
		"none": none("none"), "None": none("None"), "nOnE": none("nOnE"), "NONE": none("NONE"), "empty alg": none(""),
		"none, with a signature": none("none") + "AAAA", "HS256 by PEM": hs(pemKey), "HS256 by DER": hs(der), "HS256 by JWK": hs(jwk), "HS256 by nothing": hs(nil),
		"es256": c.idp.key.sign(obj{"alg": "es256", "typ": "JWT"}, claims), "ES384": c.idp.key.sign(obj{"alg": "ES384", "typ": "JWT"}, claims),
		"zeros": zero(64), "short": zero(63), "long": zero(65), "DER": derSigned(c.idp.key, claims), "no alg": c.idp.key.sign(obj{"alg": nil, "typ": "JWT"}, claims),
	} {
		answers[what] = c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
	}
	c.alike(answers)
	x := c.te(agent, c.userToken("alice"))
	own := agent.claims(c.issuer)
	for _, tok := range []string{
		b64(mustJSON(obj{"alg": "none"})) + "." + b64(mustJSON(own)) + ".",
		hmacSign(mustJSON(agent.key.public()), obj{"alg": "HS256", "kid": agent.key.kid}, own),
		derSigned(agent.key, own), agent.key.sign(obj{"alg": "ES384"}, own),
	} {
		c.want(x.but().assertion(tok).do(), 401, "invalid_client")
	}
	c.sub("an algorithm of the server's that is not the issuer's", func(c *check) {
		k := newKey("EdDSA")
		k.kid = kid
		c.want(c.foreign(agent, k.sign(obj{"typ": "JWT"}, claims)).do(), 400, "invalid_request")
	})
}

// derSigned has an ECDSA signature in the wrong form.
func derSigned(k *key, claims any) string {
	signed := b64(mustJSON(obj{"alg": "ES256", "typ": "JWT", "kid": k.kid})) + "." + b64(mustJSON(claims))
	raw := k.raw("ES256", []byte(signed))
	integer := func(b []byte) []byte {
		if b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return append([]byte{2, byte(len(b))}, b...)
	}
	body := append(integer(raw[:32]), integer(raw[32:])...)
	return signed + "." + b64(append([]byte{0x30, byte(len(body))}, body...))
}

func jbOffered(c *check) {
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	for name, v := range meta.json {
		if !strings.Contains(name, "alg_values") {
			continue
		}
		for _, alg := range stringsOf(v) {
			if alg == "none" || strings.HasPrefix(alg, "HS") || alg == "" {
				c.Errorf("%s has %q", name, alg)
			}
		}
	}
}

func jbIssuer(c *check) {
	agent := c.agent()
	claims := c.idp.claims(c.env, "alice", "mail.read")
	for what, tok := range map[string]string{
		"the agent's key":          agent.key.sign(obj{"typ": "JWT"}, claims),
		"our issuer by their key":  c.idp.key.sign(obj{"typ": "JWT"}, merge(claims, obj{"iss": c.issuer})),
		"an unknown issuer":        c.idp.key.sign(obj{"typ": "JWT"}, merge(claims, obj{"iss": "https://unknown.test"})),
		"the issuer with a slash":  c.idp.key.sign(obj{"typ": "JWT"}, merge(claims, obj{"iss": c.idp.issuer + "/"})),
		"the issuer in an array":   c.idp.key.sign(obj{"typ": "JWT"}, merge(claims, obj{"iss": []string{c.idp.issuer}})),
		"a made-up key, their kid": newKey("ES256").sign(obj{"typ": "JWT", "kid": c.idp.key.kid}, claims),
	} {
		if a := c.foreign(agent, tok).do(); a.status != 400 || a.code() != "invalid_request" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func jbAudience(c *check) {
	x := c.baseline()
	for _, aud := range []any{"https://other.test", c.issuer + "/", c.issuer + "/token", nil, []string{}, obj{}, 7, ""} {
		c.want(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"aud": aud})).do(), 400, "invalid_request")
		c.want(x.but().actor(obj{"aud": aud}).do(), 400, "invalid_request")
		c.want(x.but().assertion(x.who.assertion(c.issuer, obj{"aud": aud})).do(), 401, "invalid_client")
	}
	token, _ := c.mailToken()
	c.want(c.redeem(c.rs3, token, nonce()).do(), 403, "wrong_audience")
}

func jbHeaders(c *check) {
	var hits atomic.Int32
	own := newKey("ES256")
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_ = json.NewEncoder(w).Encode(jwksOf(own))
	}))
	defer trap.Close()
	agent := c.agent()
	claims := c.idp.claims(c.env, "alice", "mail.read")
	answers := map[string]answer{}
	for what, header := range map[string]obj{
		"jku": {"jku": trap.URL + "/jwks"}, "x5u": {"x5u": trap.URL + "/cert"}, "jwk": {"jwk": own.jwk}, "x5c": {"x5c": []string{"MIIB"}},
		"jku and their kid": {"jku": trap.URL, "kid": c.idp.key.kid}, "kid is a path": {"kid": "../../../../etc/passwd"}, "kid is a query": {"kid": "x' OR '1'='1"},
		"kid is huge": {"kid": strings.Repeat("k", 9000)}, "kid is a number": {"kid": 7}, "no kid": {"kid": nil},
		"crit": {"crit": []string{"exp"}, "exp": in(60), "kid": c.idp.key.kid}, "empty crit": {"crit": []string{}, "kid": c.idp.key.kid},
	} {
		tok := own.sign(merge(obj{"typ": "JWT"}, header), claims)
		if header["kid"] == c.idp.key.kid && what != "jku and their kid" {
			tok = c.idp.key.sign(merge(obj{"typ": "JWT"}, header), claims)
		}
		answers[what] = c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
		x := c.te(agent, c.userToken("alice"))
		c.want(x.assertion(own.sign(header, agent.claims(c.issuer))).do(), 401, "invalid_client")
	}
	c.alike(answers)
	if hits.Load() != 0 {
		c.Errorf("a header made the server fetch, %d times", hits.Load())
	}
}

func jbKinds(c *check) {
	token, _ := c.mailToken()
	spent, _ := c.mailToken()
	x := c.baseline()
	k := newKey("ES256")
	kinds := map[string]func() string{
		"one-transaction token": func() string { return token },
		"receipt":               sync1(func() string { return c.first(c.rs1, spent).str("receipt") }),
		"client assertion":      func() string { return c.rs1.assertion(c.issuer) },
		"proof":                 func() string { return c.proof(k, "/token") },
		"jwt of the issuer":     func() string { return c.idp.token(c.env, "alice", "mail.read") },
		"id token":              func() string { return c.idp.token(c.env, "alice", "", obj{"scope": nil, "aud": x.who.id}) },
	}
	for _, typ := range []string{"txntoken+jwt", "oauth-id-jag+jwt", "secevent+jwt", "token-introspection+jwt", "statuslist+jwt", "wit+jwt"} {
		kinds[typ] = func() string {
			return c.idp.key.sign(obj{"typ": typ}, c.idp.claims(c.env, "alice", "mail.read"))
		}
	}
	// What is meant to pass, or is refused for another reason than its kind: the diagonal.
	diagonal := map[string]bool{
		"subject jwt/jwt of the issuer": true, "subject id_token/id token": true, "proof/proof": true, "introspection/one-transaction token": true,
		"redemption/one-transaction token": true, "client assertion/client assertion": true,
	}
	inputs := c.inputs()
	// inputs have an agent of their own, so that the ID token here is another's
	diagonal["subject id_token/id token"] = false
	for kind, mint := range kinds {
		for _, in := range inputs {
			if diagonal[in.name+"/"+kind] {
				continue
			}
			if a := in.present(c, mint()); !in.refused(a) {
				c.Errorf("a %s passes at %s: %d %s", kind, in.name, a.status, a.body)
			}
		}
	}
	c.first(c.rs1, token)
}

func sync1(make func() string) func() string {
	made := ""
	return func() string {
		if made == "" {
			made = make()
		}
		return made
	}
}

func jbPassword(c *check) {
	agent := c.agent()
	header := b64([]byte(`{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2s":"AAAAAAAAAAA","p2c":2147483647,"typ":"JWT"}`))
	tok := header + "." + b64(make([]byte, 40)) + "." + b64(make([]byte, 12)) + "." + b64([]byte("text")) + "." + b64(make([]byte, 16))
	a := c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
	if a.took > 30*time.Second {
		c.Errorf("it took %s", a.took)
	}
	three := header + "." + b64(mustJSON(c.idp.claims(c.env, "alice", "mail.read"))) + "." + b64(make([]byte, 64))
	c.want(c.foreign(agent, three).do(), 400, "invalid_request")
}

func jbEncoding(c *check) {
	agent := c.agent()
	good := c.idp.token(c.env, "alice", "mail.read")
	c.asks(c.foreign(agent, good))
	p := strings.Split(good, ".")
	signed := func(s string) string { return s } // what follows changes the text, not what it says
	tail := func(s string) string {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		i := strings.IndexByte(alphabet, s[len(s)-1])
		return s[:len(s)-1] + string(alphabet[i^1])
	}
	std := func(s string) string {
		raw, _ := base64.RawURLEncoding.DecodeString(s)
		return base64.StdEncoding.EncodeToString(raw)
	}
	flat := mustJSON(obj{"protected": p[0], "payload": p[1], "signature": p[2]})
	general := mustJSON(obj{"payload": p[1], "signatures": []obj{{"protected": p[0], "signature": p[2]}, {"protected": p[0], "signature": p[2]}}})
	answers := map[string]answer{}
	for what, tok := range map[string]string{
		"padding": p[0] + "." + p[1] + "." + p[2] + "==", "padding in the middle": p[0] + "=." + p[1] + "." + p[2], "space after": good + " ",
		"space before": " " + good, "trailing garbage": good + "A", "four parts": good + ".", "four dots": good + "..", "two parts": p[0] + "." + p[1],
		"standard alphabet": std(p[0]) + "." + std(p[1]) + "." + std(p[2]), "other tail bits": p[0] + "." + p[1] + "." + tail(p[2]),
		"flattened": string(flat), "general": string(general), "in quotes": `"` + signed(good) + `"`, "empty": "..", "a comma": good + "," + good,
	} {
		answers[what] = c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
	}
	c.alike(answers)
	c.sub("no second spelling of an assertion", func(c *check) {
		used := agent.assertion(c.issuer)
		x := c.te(agent, c.userToken("alice"))
		c.asks(x.but().assertion(used))
		q := strings.Split(used, ".")
		for _, again := range []string{used + "=", q[0] + "." + q[1] + "." + tail(q[2]), used + " "} {
			if a := x.but().assertion(again).do(); a.status != 401 && a.status != 400 || a.code() == "interaction_required" {
				c.Errorf("%d %s", a.status, a.body)
			}
		}
	})
}

func jbLimits(c *check) {
	agent := c.agent()
	claims := c.idp.claims(c.env, "alice", "mail.read")
	raw := func(payload string) string {
		return c.idp.key.signRaw("ES256", mustJSON(obj{"alg": "ES256", "typ": "JWT", "kid": c.idp.key.kid}), []byte(payload))
	}
	body := strings.TrimSuffix(string(mustJSON(claims)), "}")
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"m%d":1`, i)
		}
		return b.String()
	}
	auds := mustJSON(append(make([]string, 9), c.issuer))
	answers := map[string]answer{}
	for what, tok := range map[string]string{
		"sub twice": raw(body + `,"sub":"bob"}`), "aud twice": raw(body + `,"aud":"x"}`), "act twice": raw(body + `,"act":{"iss":"a","sub":"b"},"act":{"iss":"a","sub":"c"}}`),
		"twice by another spelling": raw(body + `,"su\u0062":"bob"}`), "twice inside": raw(body + `,"act":{"iss":"a","sub":"b","sub":"c"}}`),
		"deep": raw(body + `,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`), "members": raw(body + many(80) + `}`),
		"audiences": raw(strings.Replace(body, `"aud":"`+c.issuer+`"`, `"aud":`+string(auds), 1) + `}`),
		"an array":  raw(`[` + body + `}]`), "a string": raw(`"x"`), "null": raw(`null`), "two objects": raw(body + `}{}`), "not UTF-8": raw(body + ",\"x\":\"\xff\"}"),
		"half a surrogate": raw(body + `,"x":"\ud800"}`),
	} {
		answers[what] = c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
	}
	for what, exp := range map[string]string{"text": `"9999999999"`, "1e308": "1e308", "negative": "-1", "fraction": fmt.Sprint(in(60), ".5"), "null": "null", "huge": "99999999999999999999"} {
		answers["exp "+what] = c.want(c.foreign(agent, raw(strings.Replace(body, fmt.Sprint(`"exp":`, claims["exp"]), `"exp":`+exp, 1)+`}`)).do(), 400, "invalid_request")
	}
	for what, changes := range map[string]obj{"scope as array": {"scope": []string{"mail.read"}}, "sub as number": {"sub": 7}} {
		answers[what] = c.want(c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", changes)).do(), 400, "invalid_request")
	}
	c.alike(answers)
	for _, size := range []int{20 << 10, 1 << 20} {
		a := c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", obj{"padding": strings.Repeat("x", size)})).do()
		if a.status != 413 && a.status != 400 || a.token() != "" {
			c.Errorf("a token of %d bytes: %d %s", size, a.status, a.code())
		}
	}
	for what, tok := range map[string]string{
		"ten thousand levels": raw(body + `,"act":` + strings.Repeat(`{"act":`, 4000) + `{}` + strings.Repeat(`}`, 4000) + `}`),
		"a chain of hundreds": c.idp.token(c.env, "alice", "mail.read", obj{"act": nest(200)}),
	} {
		if a := c.foreign(agent, tok).do(); a.status != 413 && a.status != 400 || a.token() != "" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}
