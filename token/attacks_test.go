package token_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"obolus/token"
)

func TestEveryEntranceTakesItsOwn(t *testing.T) {
	t.Parallel()
	for _, alg := range token.Algorithms() {
		for _, e := range entrances(t, alg) {
			if err := e.check(forge(e.key, alg, e.head.text(), e.payload.text())); err != nil {
				t.Errorf("%s, %s: %v", alg, e.name, err)
			}
		}
	}
}

// TestAttacksOnTheForm changes what surrounds good claims, or how they are written: conformance section 6.1 and JB.
func TestAttacksOnTheForm(t *testing.T) {
	t.Parallel()
	// Each gets a good token and everything it was made of, and gives a bad one.
	attacks := map[string]func(e entrance, good string) string{
		"alg none with empty signature": func(e entrance, good string) string {
			_, payload, _ := parts(good)
			return b64.EncodeToString([]byte(e.head.with("alg", "none").text())) + "." + payload + "."
		},
		"alg none with the old signature": func(e entrance, good string) string { return rehead(e, good, e.head.with("alg", "none")) },
		"alg nOnE":                        func(e entrance, good string) string { return rehead(e, good, e.head.with("alg", "nOnE")) },
		"alg None":                        func(e entrance, good string) string { return rehead(e, good, e.head.with("alg", "None")) },
		"alg in other case":               func(e entrance, _ string) string { return headed(e, e.head.with("alg", "es256")) },
		"alg missing":                     func(e entrance, _ string) string { return headed(e, e.head.without("alg")) },
		"alg empty":                       func(e entrance, _ string) string { return headed(e, e.head.with("alg", "")) },
		"alg a number":                    func(e entrance, _ string) string { return headed(e, e.head.with("alg", 256)) },
		"alg ES384 by a P-256 key":        func(e entrance, _ string) string { return headed(e, e.head.with("alg", "ES384")) },
		"alg RS256 by an EC key":          func(e entrance, _ string) string { return headed(e, e.head.with("alg", "RS256")) },
		"alg PBES2": func(e entrance, _ string) string {
			return headed(e, e.head.with("alg", "PBES2-HS256+A128KW").with("p2c", 1<<30))
		},
		"HS256 keyed with the PEM of the public key": func(e entrance, _ string) string {
			return forgeHMAC(publicPEM(e.key), e.head.with("alg", "HS256").text(), e.payload.text())
		},
		"HS256 keyed with the DER of the public key": func(e entrance, _ string) string {
			block, _ := pem.Decode(publicPEM(e.key))
			return forgeHMAC(block.Bytes, e.head.with("alg", "HS256").text(), e.payload.text())
		},
		"HS256 signature under ES256": func(e entrance, _ string) string { return forgeHMAC(publicPEM(e.key), e.head.text(), e.payload.text()) },

		"signature all zero": func(_ entrance, good string) string { return resign(good, make([]byte, 64)) },
		"signature of s = 0": func(_ entrance, good string) string {
			return resign(good, append(signatureOf(good)[:32], make([]byte, 32)...))
		},
		"signature of r = 0": func(_ entrance, good string) string {
			return resign(good, append(make([]byte, 32), signatureOf(good)[32:]...))
		},
		"signature of all ones":   func(_ entrance, good string) string { return resign(good, []byte(strings.Repeat("\xff", 64))) },
		"signature empty":         func(_ entrance, good string) string { return resign(good, nil) },
		"signature a byte short":  func(_ entrance, good string) string { return resign(good, signatureOf(good)[:63]) },
		"signature a byte longer": func(_ entrance, good string) string { return resign(good, append(signatureOf(good), 0)) },
		"signature in DER":        func(e entrance, good string) string { return resign(good, der(signatureOf(good))) },
		"signature changed": func(_ entrance, good string) string {
			sig := signatureOf(good)
			sig[5] ^= 1
			return resign(good, sig)
		},
		"signature by another key": func(e entrance, _ string) string {
			return forge(pairs()["other"], token.ES256, e.head.text(), e.payload.text())
		},
		"payload changed": func(e entrance, good string) string {
			head, _, sig := parts(good)
			return head + "." + b64.EncodeToString([]byte(e.payload.with("sub", "mallory").with("jti", "x").text())) + "." + sig
		},

		"crit unknown": func(e entrance, _ string) string {
			return headed(e, e.head.with("crit", []string{"exp"}).with("exp", 1))
		},
		"crit empty":            func(e entrance, _ string) string { return headed(e, e.head.with("crit", []string{})) },
		"crit names the absent": func(e entrance, _ string) string { return headed(e, e.head.with("crit", []string{"b64"})) },
		"b64 false":             func(e entrance, _ string) string { return headed(e, e.head.with("b64", false)) },
		"zip":                   func(e entrance, _ string) string { return headed(e, e.head.with("zip", "DEF")) },
		"enc":                   func(e entrance, _ string) string { return headed(e, e.head.with("enc", "A128GCM")) },
		"jku":                   func(e entrance, _ string) string { return headed(e, e.head.with("jku", "https://evil.test/jwks")) },
		"x5u":                   func(e entrance, _ string) string { return headed(e, e.head.with("x5u", "https://evil.test/cert")) },
		"x5c":                   func(e entrance, _ string) string { return headed(e, e.head.with("x5c", []string{"MII"})) },
		"jwk not an object":     func(e entrance, _ string) string { return headed(e, e.head.with("jwk", "x")) },
		"kid unknown":           func(e entrance, _ string) string { return headed(e, e.head.with("kid", "nobody")) },
		"kid empty":             func(e entrance, _ string) string { return headed(e, e.head.with("kid", "")) },
		"kid too long":          func(e entrance, _ string) string { return headed(e, e.head.with("kid", strings.Repeat("k", 257))) },
		"kid a path":            func(e entrance, _ string) string { return headed(e, e.head.with("kid", "../../dev/null")) },
		"kid an object":         func(e entrance, _ string) string { return headed(e, e.head.with("kid", object{})) },
		"typ of another kind":   func(e entrance, _ string) string { return headed(e, e.head.with("typ", "secevent+jwt")) },
		"typ empty":             func(e entrance, _ string) string { return headed(e, e.head.with("typ", "")) },
		"typ only a prefix":     func(e entrance, _ string) string { return headed(e, e.head.with("typ", "application/")) },
		"typ with a space":      func(e entrance, _ string) string { return headed(e, e.head.with("typ", " at+jwt")) },
		"typ with a look-alike": func(e entrance, _ string) string { return headed(e, e.head.with("typ", "at+\u212awt")) },
		"typ a list": func(e entrance, _ string) string {
			return headed(e, e.head.with("typ", []string{"at+jwt", "JWT", "dpop+jwt"}))
		},
		"header with alg twice": func(e entrance, _ string) string {
			return forge(e.key, token.ES256, strings.Replace(e.head.text(), "{", `{"alg":"ES256",`, 1), e.payload.text())
		},
		"header not an object": func(e entrance, _ string) string { return forge(e.key, token.ES256, `["ES256"]`, e.payload.text()) },
		"header empty":         func(e entrance, _ string) string { return forge(e.key, token.ES256, ``, e.payload.text()) },
		"header nested deeply": func(e entrance, _ string) string {
			return forge(e.key, token.ES256, strings.Replace(e.head.text(), "{", `{"x":`+nested(10_000)+`,`, 1), e.payload.text())
		},

		"two parts":         func(_ entrance, good string) string { return good[:strings.LastIndex(good, ".")] },
		"four parts":        func(_ entrance, good string) string { return good + ".e30" },
		"five parts, a JWE": func(_ entrance, good string) string { return good + ".e30.e30" },
		"four dots":         func(_ entrance, good string) string { return good + ".." },
		"nothing":           func(entrance, string) string { return "" },
		"two dots":          func(entrance, string) string { return ".." },
		"flattened JSON":    func(_ entrance, good string) string { return flattened(good) },
		"general JSON":      func(_ entrance, good string) string { return general(good) },
		"padding":           func(_ entrance, good string) string { return strings.Replace(good, ".", "=.", 1) },
		"padding behind":    func(_ entrance, good string) string { return good + "==" },
		"space before":      func(_ entrance, good string) string { return " " + good },
		"space behind":      func(_ entrance, good string) string { return good + " " },
		"line break behind": func(_ entrance, good string) string { return good + "\n" },
		"line break inside": func(_ entrance, good string) string { return good[:40] + "\r\n" + good[40:] },
		"tab inside":        func(_ entrance, good string) string { return good[:40] + "\t" + good[40:] },
		"standard alphabet": func(_ entrance, good string) string { return good[:len(good)-2] + "+/" },
		"tail bits set":     func(_ entrance, good string) string { return good[:len(good)-1] + twin(good[len(good)-1]) },
		"something behind":  func(_ entrance, good string) string { return good + "AAAA" },
		"bearer before":     func(_ entrance, good string) string { return "Bearer " + good },
		"larger than 16 KiB": func(e entrance, _ string) string {
			return payloaded(e, e.payload.with("x", strings.Repeat("x", 20<<10)))
		},
		"a MiB":                 func(_ entrance, good string) string { return good + strings.Repeat("A", 1<<20) },
		"payload not an object": func(e entrance, _ string) string { return forge(e.key, token.ES256, e.head.text(), `["x"]`) },
		"payload null":          func(e entrance, _ string) string { return forge(e.key, token.ES256, e.head.text(), `null`) },
		"payload empty":         func(e entrance, _ string) string { return forge(e.key, token.ES256, e.head.text(), ``) },
		"payload no JSON": func(e entrance, _ string) string {
			return forge(e.key, token.ES256, e.head.text(), e.payload.text()+"}")
		},
		"payload not UTF-8":                      func(e entrance, _ string) string { return rewritten(e, "{", "{\"x\":\"\xff\",") },
		"payload with a member of 10 000 levels": func(e entrance, _ string) string { return rewritten(e, "{", `{"x":`+nested(6000)+`,`) },
		"payload with 13 levels":                 func(e entrance, _ string) string { return rewritten(e, "{", `{"x":`+nested(12)+`,`) },
		"payload with 65 members":                func(e entrance, _ string) string { return payloaded(e, crowded(e.payload)) },
		"iat twice":                              func(e entrance, _ string) string { return rewritten(e, "{", `{"iat":1800000000,`) },
		"iat twice, once escaped":                func(e entrance, _ string) string { return rewritten(e, "{", `{"\u0069at":1800000000,`) },
		"jti a number":                           func(e entrance, _ string) string { return payloaded(e, e.payload.with("jti", 7)) },
		"jti null":                               func(e entrance, _ string) string { return payloaded(e, e.payload.with("jti", nil)) },
		"iat a string":                           func(e entrance, _ string) string { return payloaded(e, e.payload.with("iat", "1800000000")) },
		"iat fractional":                         func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":1800000000.5`) },
		"iat in the scientific way":              func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":18e8`) },
		"iat whole but written as a fraction":    func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":1800000000.0`) },
		"iat 1e308":                              func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":1e308`) },
		"iat negative":                           func(e entrance, _ string) string { return payloaded(e, e.payload.with("iat", -1)) },
		"iat above 2^53":                         func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":9007199254740992`) },
		"iat above 2^64": func(e entrance, _ string) string {
			return rewritten(e, `"iat":1800000000`, `"iat":99999999999999999999`)
		},
		"iat NaN":                 func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":NaN`) },
		"iat with a leading zero": func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":01800000000`) },
		"iat with a plus":         func(e entrance, _ string) string { return rewritten(e, `"iat":1800000000`, `"iat":+1800000000`) },
		"iat a minute ahead":      func(e entrance, _ string) string { return payloaded(e, e.payload.with("iat", start.Unix()+61)) },
	}
	for _, e := range entrances(t, token.ES256) {
		for name, attack := range attacks {
			t.Run(e.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				good := forge(e.key, token.ES256, e.head.text(), e.payload.text())
				if err := e.check(good); err != nil {
					t.Fatal(err)
				}
				bad := attack(e, good)
				if bad == good {
					t.Fatal("the attack changed nothing")
				}
				if err := e.check(bad); err == nil {
					t.Errorf("accepted %.300s", bad)
				}
			})
		}
	}
}

// TestAttacksOnTheClaims changes single claims of tokens that are read as [token.Claims].
func TestAttacksOnTheClaims(t *testing.T) {
	t.Parallel()
	now := start.Unix()
	attacks := map[string]func(object) object{
		"iss of another":           func(o object) object { return o.with("iss", "https://evil.test") },
		"iss with a slash":         func(o object) object { return o.with("iss", o["iss"].(string)+"/") },
		"iss in other case":        func(o object) object { return o.with("iss", strings.ToUpper(o["iss"].(string))) },
		"iss missing":              func(o object) object { return o.without("iss") },
		"iss a list":               func(o object) object { return o.with("iss", []any{o["iss"]}) },
		"sub a number":             func(o object) object { return o.with("sub", 1) },
		"sub null":                 func(o object) object { return o.with("sub", nil) },
		"aud an object":            func(o object) object { return o.with("aud", object{issuer: true}) },
		"aud a list of numbers":    func(o object) object { return o.with("aud", []any{o["aud"], 1}) },
		"aud a list with null":     func(o object) object { return o.with("aud", []any{o["aud"], nil}) },
		"aud with nine":            func(o object) object { return o.with("aud", []string{issuer, "2", "3", "4", "5", "6", "7", "8", "9"}) },
		"aud with ten thousand":    func(o object) object { return o.with("aud", make([]string, 4000)) },
		"exp over":                 func(o object) object { return o.with("exp", now) },
		"exp long over":            func(o object) object { return o.with("exp", now-1000).with("iat", now-2000).with("nbf", now-2000) },
		"exp missing":              func(o object) object { return o.without("exp") },
		"exp zero":                 func(o object) object { return o.with("exp", 0) },
		"exp minus zero":           func(o object) object { return o.with("exp", json.RawMessage("-0")) },
		"exp negative":             func(o object) object { return o.with("exp", -now) },
		"exp a string":             func(o object) object { return o.with("exp", "1800000060") },
		"exp fractional":           func(o object) object { return o.with("exp", float64(now)+60.5) },
		"exp null":                 func(o object) object { return o.with("exp", nil) },
		"nbf ahead":                func(o object) object { return o.with("nbf", now+61) },
		"nbf a string":             func(o object) object { return o.with("nbf", "0") },
		"auth_time fractional":     func(o object) object { return o.with("auth_time", 1.5) },
		"scope a list":             func(o object) object { return o.with("scope", []string{"a", "b"}) },
		"client_id a list":         func(o object) object { return o.with("client_id", []string{"a"}) },
		"txn a number":             func(o object) object { return o.with("txn", 1) },
		"txn_mode false":           func(o object) object { return o.with("txn_mode", false) },
		"acr a list":               func(o object) object { return o.with("acr", []string{"1"}) },
		"amr a string":             func(o object) object { return o.with("amr", "pwd") },
		"amr with null":            func(o object) object { return o.with("amr", []any{nil}) },
		"act a string":             func(o object) object { return o.with("act", agentID) },
		"act null":                 func(o object) object { return o.with("act", nil) },
		"act a list":               func(o object) object { return o.with("act", []any{object{"sub": agentID}}) },
		"act in act a list":        func(o object) object { return o.with("act", object{"sub": agentID, "act": []any{}}) },
		"act with sub a number":    func(o object) object { return o.with("act", object{"sub": 1}) },
		"act chain of a thousand":  func(o object) object { return o.with("act", chainOf(300)) },
		"may_act a string":         func(o object) object { return o.with("may_act", agentID) },
		"cnf a string":             func(o object) object { return o.with("cnf", "x") },
		"cnf with jkt a number":    func(o object) object { return o.with("cnf", object{"jkt": 1}) },
		"cnf with x5t a number":    func(o object) object { return o.with("cnf", object{"x5t#S256": 1}) },
		"details an object":        func(o object) object { return o.with("authorization_details", object{"type": "x"}) },
		"tctx a string":            func(o object) object { return o.with("tctx", "x") },
		"tctx with consent a list": func(o object) object { return o.with("tctx", object{"consent": []string{}}) },
		"tctx with source a list":  func(o object) object { return o.with("tctx", object{"source": []string{}}) },
		"tctx with origin a list":  func(o object) object { return o.with("tctx", object{"origin": []string{}}) },
	}
	for _, e := range entrances(t, token.ES256)[:3] {
		for name, attack := range attacks {
			t.Run(e.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				bad := attack(e.payload)
				if err := e.check(payloaded(e, bad)); err == nil {
					t.Errorf("accepted %.300s", bad.text())
				}
			})
		}
	}
}

// TestNamesAreTakenExactly: encoding/json would let SUB overwrite sub.
func TestNamesAreTakenExactly(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	e := entrances(t, token.ES256)[0]
	got, err := v.Verify(t.Context(), rewritten(e, "{", `{"SUB":"mallory","Iss":"https://evil.test","EXP":1,`))
	if err != nil || got.Claims().Subject != "alice" {
		t.Errorf("got %+v, %v", got.Claims(), err)
	}
	if err := e.check(forge(key, token.ES256, strings.Replace(e.head.without("alg").text(), "{", `{"ALG":"ES256",`, 1), e.payload.text())); err == nil {
		t.Error("ALG was taken for alg")
	}
}

// The functions below make variations of a good token.

func headed(e entrance, head object) string {
	return forge(e.key, token.ES256, head.text(), e.payload.text())
}

func payloaded(e entrance, payload object) string {
	return forge(e.key, token.ES256, e.head.text(), payload.text())
}

// rewritten replaces the first occurrence of a text in the payload.
func rewritten(e entrance, from, to string) string {
	return forge(e.key, token.ES256, e.head.text(), strings.Replace(e.payload.text(), from, to, 1))
}

// rehead replaces the header and leaves the signature.
func rehead(_ entrance, good string, head object) string {
	_, payload, sig := parts(good)
	return b64.EncodeToString([]byte(head.text())) + "." + payload + "." + sig
}

func resign(good string, sig []byte) string {
	head, payload, _ := parts(good)
	return head + "." + payload + "." + b64.EncodeToString(sig)
}

func signatureOf(good string) []byte {
	_, _, sig := parts(good)
	raw, err := b64.DecodeString(sig)
	if err != nil {
		panic(err)
	}
	return raw
}

// der writes two numbers as ECDSA signatures are written elsewhere.
func der(raw []byte) []byte {
	number := func(n []byte) []byte { return append([]byte{2, byte(len(n) + 1), 0}, n...) }
	body := append(number(raw[:32]), number(raw[32:])...)
	return append([]byte{0x30, byte(len(body))}, body...)
}

// twin is the letter whose bits differ in the last one, which carries nothing at the end of 64 bytes.
func twin(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func flattened(good string) string {
	head, payload, sig := parts(good)
	return object{"protected": head, "payload": payload, "signature": sig}.text()
}

func general(good string) string {
	head, payload, sig := parts(good)
	one := object{"protected": head, "signature": sig}
	return object{"payload": payload, "signatures": []object{one, one}}.text()
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func crowded(o object) object {
	for i := range 65 {
		o = o.with("x"+strings.Repeat("y", i), 1)
	}
	return o
}

func chainOf(n int) object {
	act := object{"iss": issuer, "sub": agentID}
	for range n - 1 {
		act = object{"iss": issuer, "sub": agentID, "act": act}
	}
	return act
}

func publicPEM(p pair) []byte {
	out, err := x509.MarshalPKIXPublicKey(p.Public().Key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out})
}
