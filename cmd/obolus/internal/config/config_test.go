package config_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/agents"
	"obolus/cmd/obolus/internal/config"
	"obolus/oauth"
	"obolus/token"
)

const jwk = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}`

// write puts a configuration file, and whatever else it names, into a folder of its own.
func write(t *testing.T, text string, more map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range more {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "obolus.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestNothingSaidIsUsable(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(config.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"issuer", cfg.Issuer, "http://127.0.0.1:8420"},
		{"listen", cfg.Listen, "127.0.0.1:8420"},
		{"records", cfg.Records, "bolt:obolus-data/records.db"},
		{"live", cfg.Live, "memory:"},
		{"operators' token", cfg.Operators.TokenFile, "obolus-data/operator.token"},
		{"algorithm", cfg.Keys.Algorithm, "ES256"},
		{"lifetime", time.Duration(cfg.Tokens.Lifetime).String(), "1m0s"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
	if cfg.AllowAgentSecrets {
		t.Error("agents may use secrets although nobody said so")
	}
}

func TestPortZeroHasNoIssuerYet(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(config.Sources{Flags: []config.Flag{{Name: "--listen", Path: "listen", Value: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Issuer != "" {
		t.Errorf("issuer %q before anybody listens", cfg.Issuer)
	}
	for _, c := range []struct {
		name, address, want string
		cert                string
	}{
		{"IPv4", "127.0.0.1:4711", "http://127.0.0.1:4711", ""},
		{"IPv6", "[::1]:4711", "http://[::1]:4711", ""},
		{"with a certificate", "127.0.0.1:4711", "https://127.0.0.1:4711", "cert.pem"},
	} {
		cfg.TLS.Cert = c.cert
		if got := cfg.IssuerAt(c.address); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWhoWins(t *testing.T) {
	t.Parallel()
	file := write(t, "listen: 127.0.0.1:1\ntokens:\n  lifetime: 10s\n  leeway: 1s\nexchange: {scope_mode: narrow}\n", nil)
	cfg, err := config.Load(config.Sources{
		File:    file,
		Environ: []string{"OBOLUS_LISTEN=127.0.0.1:2", "OBOLUS_TOKENS_LIFETIME=20s", "OBOLUS_CONFIG=x", "HOME=/"},
		Flags:   []config.Flag{{Name: "--listen", Path: "listen", Value: "127.0.0.1:3"}, {Name: "--issuer", Path: "issuer"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:3" {
		t.Errorf("listen %q: a flag wins over a variable", cfg.Listen)
	}
	if time.Duration(cfg.Tokens.Lifetime) != 20*time.Second {
		t.Errorf("lifetime %v: a variable wins over the file", time.Duration(cfg.Tokens.Lifetime))
	}
	if time.Duration(cfg.Tokens.Leeway) != time.Second || cfg.Exchange.ScopeMode != config.ScopeNarrow {
		t.Errorf("what only the file says is lost: %+v %+v", cfg.Tokens, cfg.Exchange)
	}
}

// whole is a configuration with one of everything.
const whole = `
issuer: https://obolus.example.com/tenant
listen: 0.0.0.0:443
data: data
live: redis://:secret@redis.example.com:6379/1
trusted_proxies: [10.0.0.0/8, 192.0.2.1]
own_networks: [10.20.0.0/16, "fd00::/8"]
keys: {algorithm: EdDSA, rotate_every: 240h}
resources:
  - id: mail
    uri: https://mail.example.com/mcp
    scopes: {mail.read: Read your mail, mail.send: Send mail in your name}
    servers: [mail-server]
  - id: reports
    uri: https://reports.example.com
    scopes: {reports.read: ""}
agents:
  - id: mailer
    name: Mail helper
    key_file: mailer.pub
    ceiling: {resources: [mail], scopes: [mail.read, mail.send]}
    delegates_to: [planner]
    default_resource: mail
  - id: planner
    name: Planner
    jwks_uri: https://planner.example.com/jwks.json
    state: proposed
clients:
  - id: mail-server
    name: Mail
    jwks: ` + jwk + `
  - id: app
    name: App
    redirect_uris: [http://127.0.0.1/callback, com.example.app:/callback]
    grant_types: [authorization_code]
users:
  - id: alice
    password_file: alice.txt
identity_providers:
  - {id: corp, issuer: https://login.example.com, client_id: obolus, client_secret: s3cr3t}
trusted_issuers:
  - {issuer: https://other.example.com, types: [jwt], clients: {their-app: mailer}}
policies:
  - file: night.cedar
`

func TestOneOfEverything(t *testing.T) {
	t.Parallel()
	file := write(t, whole, map[string]string{
		"mailer.pub": jwk, "alice.txt": "correct horse battery\n", "night.cedar": "forbid(principal, action, resource);",
	})
	cfg, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"the data folder stands beside the file", cfg.Data == filepath.Join(dir, "data")},
		{"and so do the records", cfg.Records == "bolt:"+filepath.Join(dir, "data", "records.db")},
		{"a resource that is served redeems", cfg.Resources[0].Redemption == agents.RedemptionRequired},
		{"one that is not does not", cfg.Resources[1].Redemption == agents.RedemptionNone},
		{"a resource signs like the server", cfg.Resources[0].Algorithm == "EdDSA"},
		{"a resource without a name has its id", cfg.Resources[0].Name == "mail"},
		{"an agent has a key and is active", cfg.Agents[0].Auth == oauth.AuthPrivateKeyJWT && cfg.Agents[0].State == agents.Active},
		{"unless it says otherwise", cfg.Agents[1].State == agents.Proposed},
		{"the key is in the agent", len(cfg.Agents[0].JWKS) > 0},
		{"a client with keys uses them", cfg.Clients[0].Auth == oauth.AuthPrivateKeyJWT},
		{"one without is public", cfg.Clients[1].Auth == oauth.AuthNone},
		{"a password comes from its file, without the end of the line", cfg.Users[0].Password == "correct horse battery"},
		{"a provider asks for what one needs", slices.Equal(cfg.IdentityProviders[0].Scopes, []string{"openid", "profile", "email"})},
		{"guardrails are read", strings.HasPrefix(cfg.Policies[0].Text, "forbid")},
	} {
		if !c.ok {
			t.Error(c.name)
		}
	}
	if warnings := strings.Join(cfg.Warnings(), "\n"); !strings.Contains(warnings, "master key") || strings.Contains(warnings, "plain http") {
		t.Errorf("warnings: %s", warnings)
	}
}

// agent makes a file with one agent and the resource it needs.
func agent(lines string) string {
	return "resources:\n  - {id: mail, uri: https://mail.example.com, scopes: {mail.read: ''}}\nagents:\n  - id: mailer\n    name: M\n" + lines
}

const keyed = "    jwks: " + jwk + "\n"

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		want       string // the exact sentences, with obolus.yaml for the file's path
	}{
		{"an unknown key", "lisen: 127.0.0.1:1\n", `obolus.yaml:1: unknown key "lisen"; did you mean "listen"?`},
		{"a key twice", "live: 'memory:'\nlive: 'memory:'\n", `obolus.yaml:2: key "live" is already set in line 1`},
		{"a number for a duration", "tokens: {lifetime: 60}\n", `obolus.yaml:1: tokens.lifetime: wants a duration like "60s", not a number (text goes in quotes)`},
		{"no address", "listen: nowhere\n", `obolus.yaml:1: listen: "nowhere" is no address such as 127.0.0.1:8420`},
		{"no port", "listen: 127.0.0.1:http\n", `obolus.yaml:1: listen: "http" is no port`},
		{"all the world without an issuer", "listen: 0.0.0.0:443\n", `obolus.yaml: issuer: must be set when the server listens on more than this machine`},
		{"http for the world", "issuer: http://obolus.example.com\n", `obolus.yaml:1: issuer: http is only for 127.0.0.1, ::1 and localhost; use https`},
		{"a slash at the end", "issuer: https://obolus.example.com/\n", `obolus.yaml:1: issuer: write it without the slash at the end`},
		{"a query in the issuer", "issuer: https://obolus.example.com?x=y\n", `obolus.yaml:1: issuer: a query or fragment does not belong into it (RFC 8414 section 2)`},
		{"a loud issuer", "issuer: https://Obolus.example.com\n", `obolus.yaml:1: issuer: write the host in lower case`},
		{"no issuer at all", "issuer: obolus\n", `obolus.yaml:1: issuer: "obolus" is no URL such as https://obolus.example.com`},
		{"unknown records", "records: mysql://x\n", `obolus.yaml:1: records: begins with neither bolt: nor postgres://`},
		{"records in a Redis", "records: redis://127.0.0.1\n", `obolus.yaml:1: records: is a Redis, which may lose what it acknowledged: records want bolt: or postgres://`},
		{"records without a file", "records: 'bolt:'\n", `obolus.yaml:1: records: bolt: wants the path of a file after it`},
		{"unknown live store", "live: memcached://x\n", `obolus.yaml:1: live: begins with none of memory:, redis://, rediss://, redis+sentinel://, redis+cluster://`},
		{"half a certificate", "tls: {cert: cert.pem}\n", "obolus.yaml:1: tls: cert and key are set together or not at all\nobolus.yaml:1: tls.cert: the file DIR/cert.pem cannot be read"},
		{"an unknown algorithm", "keys: {algorithm: HS256}\n", `obolus.yaml:1: keys.algorithm: "HS256" is none of ES256, EdDSA, PS256, RS256`},
		{"a weak master key", "keys: {encryption_key: aGFsbG8=}\n", "obolus.yaml:1: keys.encryption_key: wants 32 random bytes in base64; `openssl rand -base64 32` makes them"},
		{"a long life", "tokens: {lifetime: 48h}\n", `obolus.yaml:1: tokens.lifetime: 48h0m0s is too long; at most 1h0m0s`},
		{"a negative life", "tokens: {lifetime: -1s}\n", `obolus.yaml:1: tokens.lifetime: a duration cannot be negative`},
		{"a deep chain", "exchange: {max_depth: 99}\n", `obolus.yaml:1: exchange.max_depth: 99 is not between 1 and 16`},
		{"a network that is none", "own_networks: [10.0.0.0/8, 10.0.0.0/40]\n", `obolus.yaml:1: own_networks[1]: "10.0.0.0/40" is no network such as 10.0.0.0/8`},
		{"a strange network", "trusted_proxies: [everybody]\n", `obolus.yaml:1: trusted_proxies[0]: "everybody" is no network such as 10.0.0.0/8`},
		{"an agent without a key", agent(""), `obolus.yaml:4: agents[0]: authenticates by private_key_jwt and has no jwks, jwks_uri or key_file`},
		{"an agent with a secret", agent("    auth: client_secret_basic\n    secret: 0123456789abcdef\n"), "obolus.yaml:6: agents[0].auth: agents authenticate by private_key_jwt; `allow_agent_secrets: true` allows secrets"},
		{"an agent that proves nothing", agent("    auth: none\n"), `obolus.yaml:6: agents[0].auth: an agent must prove who it is`},
		{"two sources of keys", agent(keyed + "    jwks_uri: https://a.example.com/jwks\n"), `obolus.yaml:4: agents[0]: only one of jwks, jwks_uri and key_file is set`},
		{"an unknown resource", agent(keyed + "    ceiling: {resources: [bank], scopes: []}\n"), `obolus.yaml:7: agents[0].ceiling.resources[0]: there is no resource "bank"`},
		{"a scope of nobody", agent(keyed + "    ceiling: {resources: [mail], scopes: [mail.burn]}\n"), `obolus.yaml:7: agents[0].ceiling.scopes[0]: none of its resources has the scope "mail.burn"`},
		{"a foreign default", agent(keyed + "    default_resource: mail\n"), `obolus.yaml:7: agents[0].default_resource: "mail" is not among the resources of its ceiling`},
		{"a partner of nobody", agent(keyed + "    delegates_to: [ghost]\n"), `obolus.yaml:7: agents[0].delegates_to[0]: there is no agent "ghost"`},
		{"an unknown state", agent(keyed + "    state: asleep\n"), `obolus.yaml:7: agents[0].state: "asleep" is none of proposed, active, suspended, retired`},
		{"a state that the server keeps", agent(keyed + "    changed: {by: me}\n"), `obolus.yaml:4: agents[0]: changed and secret_hash are kept by the server and not declared`},
		{"an id twice", "users: [{id: a, password: 'aaaaaaaaa'}]\nclients: [{id: a, name: A}]\n", `obolus.yaml:1: users[0].id: "a" is already the id of the client at obolus.yaml:2`},
		{"no id", "users: [{id: 'a b', password: 'aaaaaaaaa'}]\n", `obolus.yaml:1: users[0].id: "a b" is no id: 1 to 128 printable characters without space, quotes, backslash, <, > and |`},
		{"a user without a password", "users: [{id: a}]\n", `obolus.yaml:1: users[0]: wants one of password, password_file and password_hash`},
		{"a hash of another kind", "users: [{id: a, password_hash: '$2a$10$x'}]\n", "obolus.yaml:1: users[0].password_hash: begins with $argon2id$; `obolus user hash` makes one"},
		{"a resource with a capital host", "resources: [{id: a, uri: 'https://A.example.com'}]\n", `obolus.yaml:1: resources[0].uri: write it as https://a.example.com`},
		{"a relative resource", "resources: [{id: a, uri: mail}]\n", `obolus.yaml:1: resources[0].uri: "mail": not absolute; wanted is an absolute URI such as https://api.example.com/mcp`},
		{"nobody to redeem", "resources: [{id: a, uri: 'https://a.example.com', redemption: required}]\n", `obolus.yaml:1: resources[0]: requires redemption and has no servers: nobody could redeem its tokens`},
		{"a ghost as server", "resources: [{id: a, uri: 'https://a.example.com', servers: [ghost]}]\n", `obolus.yaml:1: resources[0].servers[0]: there is no client or agent "ghost"`},
		{"a wildcard", "clients: [{id: a, name: A, redirect_uris: ['https://a.example.com/*']}]\n", `obolus.yaml:1: clients[0].redirect_uris[0]: redirect URIs are compared as they are; there are no wildcards`},
		{"http elsewhere", "clients: [{id: a, name: A, redirect_uris: ['http://a.example.com/']}]\n", `obolus.yaml:1: clients[0].redirect_uris[0]: http is only for 127.0.0.1, ::1 and localhost; use https`},
		{"a first party that proves nothing", "clients: [{id: a, name: A, first_party: true}]\n", `obolus.yaml:1: clients[0].first_party: a client that stands for its users' consent must prove who it is; set auth`},
		{"a short secret", "clients: [{id: a, name: A, secret: abc}]\n", "obolus.yaml:1: clients[0].secret: is shorter than 16 characters; `openssl rand -base64 32` makes a good one"},
		{"trusting oneself", "issuer: https://a.example.com\ntrusted_issuers: [{issuer: 'https://a.example.com'}]\n", `obolus.yaml:2: trusted_issuers[0].issuer: is this server itself, which is trusted anyway`},
		{"tokens that nobody takes", "trusted_issuers: [{issuer: 'https://a.example.com', types: [access_token]}]\n", `obolus.yaml:1: trusted_issuers[0].types[0]: "access_token" is none of jwt, id_token`},
		{"events of an issuer that is none", "trusted_issuers: [{issuer: 'https://a.example.com', events: {issuer: 'http://b.example.com'}}]\n", `obolus.yaml:1: trusted_issuers[0].events.issuer: must be https (or http on this machine)`},
		{"keys of events at no URL", "trusted_issuers: [{issuer: 'https://a.example.com', events: {jwks_uri: x}}]\n", `obolus.yaml:1: trusted_issuers[0].events.jwks_uri: "x" is no URL`},
		{"events with a shared secret", "trusted_issuers: [{issuer: 'https://a.example.com', events: {algorithms: [HS256]}}]\n", `obolus.yaml:1: trusted_issuers[0].events.algorithms[0]: "HS256" is none of ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512`},
		{"a token of events in the open", "trusted_issuers: [{issuer: 'https://a.example.com', events: {token_hash: secret}}]\n", "obolus.yaml:1: trusted_issuers[0].events.token_hash: is no SHA-256 in hex; `printf %s \"$TOKEN\" | sha256sum` makes one"},
		{"a token of events with half a hash", "trusted_issuers: [{issuer: 'https://a.example.com', events: {token_hash: abcd}}]\n", "obolus.yaml:1: trusted_issuers[0].events.token_hash: is no SHA-256 in hex; `printf %s \"$TOKEN\" | sha256sum` makes one"},
		{"addresses of users without accounts", "trusted_issuers: [{issuer: 'https://a.example.com', events: {email: true}}]\n", "obolus.yaml:1: trusted_issuers[0].events.email: the users of a trusted issuer have no accounts here that an address could be looked up in"},
		{"a trusted issuer with a shared secret", "trusted_issuers: [{issuer: 'https://a.example.com', algorithms: [HS256]}]\n", `obolus.yaml:1: trusted_issuers[0].algorithms[0]: "HS256" is none of ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512`},
		{"no file of guardrails", "policies: [{file: none.cedar}]\n", `obolus.yaml:1: policies[0].file: the file DIR/none.cedar cannot be read`},
		{"a policy of nothing", "policies: [{}]\n", `obolus.yaml:1: policies[0]: names no file`},
		{"a private key", agent("    key_file: private.jwk\n"), `obolus.yaml:6: agents[0].key_file: DIR/private.jwk: holds a private key; give the public one`},
		{"an empty secret file", "clients: [{id: a, name: A, secret_file: empty.txt}]\n", `obolus.yaml:1: clients[0].secret_file: the file DIR/empty.txt is empty`},
		{"two mistakes in their order", "live: x\nlog: {level: loud}\n", "obolus.yaml:1: live: begins with none of memory:, redis://, rediss://, redis+sentinel://, redis+cluster://\nobolus.yaml:2: log.level: \"loud\" is none of debug, info, warn, error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, c.file, map[string]string{"private.jwk": `{"kty":"EC","d":"x"}`, "empty.txt": "\n"})
			_, err := config.Load(config.Sources{File: file})
			if err == nil {
				t.Fatal("it was accepted")
			}
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), file, "obolus.yaml"), filepath.Dir(file), "DIR")
			if got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestVariablesAndFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		from config.Sources
		want string
	}{
		{"an unknown variable", config.Sources{Environ: []string{"OBOLUS_ISUER=x"}}, "OBOLUS_ISUER: no setting has this name; `obolus serve --help` lists them"},
		{"a wrong variable", config.Sources{Environ: []string{"OBOLUS_LOG_LEVEL=loud"}}, `OBOLUS_LOG_LEVEL: log.level: "loud" is none of debug, info, warn, error`},
		{"a wrong flag", config.Sources{Flags: []config.Flag{{Name: "--live", Path: "live", Value: "x"}}}, `--live: begins with none of memory:, redis://, rediss://, redis+sentinel://, redis+cluster://`},
		{"no file", config.Sources{File: "/nowhere/obolus.yaml"}, "the configuration file /nowhere/obolus.yaml does not exist"},
	} {
		if _, err := config.Load(c.from); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// A service called obolus in Kubernetes must not keep the server from starting.
func TestVariablesOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Sources{Environ: []string{
		"OBOLUS_PORT=tcp://10.0.0.1:80", "OBOLUS_SERVICE_HOST=10.0.0.1", "OBOLUS_PORT_80_TCP_ADDR=10.0.0.1", "OBOLUS_TOKEN_FILE=x", "OBOLUS_SERVER=y",
	}})
	if err != nil {
		t.Error(err)
	}
}

func TestAStoresPasswordIsNeverShown(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"redis://user:hunter2@:bad host/", "redis://user:hunter2@%zz", "redis:hunter2"} {
		_, err := config.Load(config.Sources{Flags: []config.Flag{{Name: "--live", Path: "live", Value: address}}})
		if err == nil {
			t.Errorf("%s was accepted", address)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	t.Parallel()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	ed, edPrivate, _ := ed25519.GenerateKey(rand.Reader)
	public := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	private, err := x509.MarshalPKCS8PrivateKey(edPrivate)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text, wrong string
		keys              int
	}{
		{"EC", public(&ec.PublicKey), "", 1},
		{"RSA", public(&rs.PublicKey), "", 1},
		{"Ed25519", public(ed), "", 1},
		{"several", public(ed) + public(&ec.PublicKey), "", 2},
		{"JWKS", jwk, "", 1},
		{"JWK", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "", 1},
		{"a private key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "holds a private key; give the public one", 0},
		{"a shared secret", `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, "holds a private key; give the public one", 0},
		{"nothing", "hello", "holds neither PEM, nor a JWK, nor a JWKS", 0},
		{"no JSON", "{", "is no JSON", 0},
		{"an empty set", `{"keys":[]}`, "is neither a JWK nor a JWKS with keys", 0},
	} {
		set, err := config.PublicKeys([]byte(c.text))
		if c.wrong != "" {
			if err == nil || err.Error() != c.wrong {
				t.Errorf("%s: %v, want %s", c.name, err, c.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		parsed, err := token.ParseJWKS(set)
		if err != nil || len(parsed.Keys()) != c.keys {
			t.Errorf("%s: %d keys, %v", c.name, len(parsed.Keys()), err)
		}
	}
}

// Whatever a file says, loading ends with a configuration or with sentences, each with its place.
func TestLoadNeverPanics(t *testing.T) {
	t.Parallel()
	paths := config.Variables()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(paths).Draw(t, "variable")
		value := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"[", "{}", "[{}]", "null", "1s", "true", "[a, b]", `[{"id":1}]`})).Draw(t, "value")
		if strings.ContainsRune(value, 0) {
			return
		}
		cfg, err := config.Load(config.Sources{Environ: []string{name + "=" + value}})
		if err == nil {
			if _, err := json.Marshal(cfg); err != nil {
				t.Fatal(err)
			}
		} else if strings.TrimSpace(err.Error()) == "" {
			t.Fatal("an error without a sentence")
		}
	})
}
