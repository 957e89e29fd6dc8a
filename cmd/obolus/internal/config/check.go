package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"obolus/agents"
	"obolus/cmd/obolus/internal/strictyaml"
)

// checker collects what is wrong with a configuration that could be read.
type checker struct {
	cfg      *Config
	tree     *strictyaml.Tree
	problems strictyaml.Problems
}

func (c *checker) bad(path, format string, args ...any) {
	c.problems = append(c.problems, c.tree.Problem(path, fmt.Sprintf(format, args...)))
}

// oneOf notes a value that is none of the known ones; an empty one is for whoever demands it.
func (c *checker) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.bad(path, "%q is none of %s", value, strings.Join(known, ", "))
	}
}

// between notes a duration outside its bounds.
func (c *checker) between(path string, d agents.Duration, least, most time.Duration) {
	switch v := time.Duration(d); {
	case v < 0:
		c.bad(path, "a duration cannot be negative")
	case v < least:
		c.bad(path, "%s is too short; at least %s", v, least)
	case v > most:
		c.bad(path, "%s is too long; at most %s", v, most)
	}
}

// server checks everything but the declared things.
func (c *checker) server() {
	cfg := c.cfg
	c.listen()
	if cfg.Issuer != "" {
		c.issuer("issuer", cfg.Issuer)
	} else if host, _, err := net.SplitHostPort(cfg.Listen); err == nil && !loopback(host) {
		c.bad("issuer", "must be set when the server listens on more than this machine")
	}
	c.stores()
	if (cfg.TLS.Cert == "") != (cfg.TLS.Key == "") {
		c.bad("tls", "cert and key are set together or not at all")
	}
	for _, f := range []struct{ path, name string }{{"tls.cert", cfg.TLS.Cert}, {"tls.key", cfg.TLS.Key}} {
		if f.name != "" {
			c.exists(f.path, f.name)
		}
	}
	c.clientCertificates()
	c.keys()
	c.between("tokens.lifetime", cfg.Tokens.Lifetime, time.Second, time.Hour)
	c.between("tokens.session_lifetime", cfg.Tokens.SessionLifetime, time.Second, 24*time.Hour)
	c.between("tokens.leeway", cfg.Tokens.Leeway, 0, time.Minute)
	c.oneOf("exchange.error_profile", cfg.Exchange.ErrorProfile, ProfileDefault, ProfileRFC8693)
	if domain := cfg.Exchange.TrustDomain; len(domain) > 256 || strings.ContainsFunc(domain, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
		c.bad("exchange.trust_domain", "%q is no name such as mail.example.com", domain)
	}
	c.oneOf("exchange.scope_mode", cfg.Exchange.ScopeMode, ScopeReject, ScopeNarrow)
	if d := cfg.Exchange.MaxDepth; d < 1 || d > 16 {
		c.bad("exchange.max_depth", "%d is not between 1 and 16", d)
	}
	c.between("consent.interaction_lifetime", cfg.Consent.InteractionLifetime, 10*time.Second, 24*time.Hour)
	c.between("consent.interval", cfg.Consent.Interval, time.Second, time.Minute)
	c.between("consent.max_lifetime", cfg.Consent.MaxLifetime, time.Minute, 10*366*24*time.Hour)
	c.between("consent.default_lifetime", cfg.Consent.DefaultLifetime, time.Minute, time.Duration(cfg.Consent.MaxLifetime))
	c.oneOf("log.level", cfg.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", cfg.Log.Format, "text", "json")
	c.networks("trusted_proxies", cfg.TrustedProxies)
	c.networks("own_networks", cfg.OwnNetworks)
}

func (c *checker) networks(path string, list []string) {
	for i, s := range list {
		if _, err := Network(s); err != nil {
			c.bad(fmt.Sprintf("%s[%d]", path, i), "%q is no network such as 10.0.0.0/8", s)
		}
	}
}

// Network reads a network in CIDR form, or a single address.
func Network(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Prefix(addr.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func (c *checker) listen() {
	_, port, err := net.SplitHostPort(c.cfg.Listen)
	if err != nil {
		c.bad("listen", "%q is no address such as 127.0.0.1:8420", c.cfg.Listen)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		c.bad("listen", "%q is no port", port)
	}
}

// issuer holds an issuer to RFC 8414 section 2, with http on this machine only, in the one spelling that every
// verifier compares equal.
func (c *checker) issuer(path, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		c.bad(path, "%q is no URL such as https://obolus.example.com", s)
	case u.Scheme != "https" && u.Scheme != "http":
		c.bad(path, "the scheme is https (or http on this machine), not %q", u.Scheme)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		c.bad(path, "http is only for 127.0.0.1, ::1 and localhost; use https")
	case u.User != nil:
		c.bad(path, "a user or password does not belong into it")
	case strings.ContainsAny(s, "?#"):
		c.bad(path, "a query or fragment does not belong into it (RFC 8414 section 2)")
	case strings.HasSuffix(s, "/"):
		c.bad(path, "write it without the slash at the end")
	case u.Host != strings.ToLower(u.Host):
		c.bad(path, "write the host in lower case")
	}
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// webURL notes a URL that is not https, or http on this machine.
func (c *checker) webURL(path, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		c.bad(path, "%q is no URL", s)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		c.bad(path, "must be https (or http on this machine)")
	}
}

func (c *checker) stores() {
	switch kind, rest, _ := strings.Cut(c.cfg.Records, ":"); kind {
	case "bolt":
		if rest == "" {
			c.bad("records", "bolt: wants the path of a file after it")
		}
	case "postgres", "postgresql":
		c.storeURL("records", c.cfg.Records)
	case "redis", "rediss", "redis+sentinel", "redis+cluster":
		c.bad("records", "is a Redis, which may lose what it acknowledged: records want bolt: or postgres://")
	default:
		c.bad("records", "begins with neither bolt: nor postgres://")
	}
	switch kind, rest, _ := strings.Cut(c.cfg.Live, ":"); kind {
	case "memory":
		if rest != "" {
			c.bad("live", "memory: has nothing after it")
		}
	case "redis", "rediss", "redis+sentinel", "redis+cluster":
		c.storeURL("live", c.cfg.Live)
	default:
		c.bad("live", "begins with none of memory:, redis://, rediss://, redis+sentinel://, redis+cluster://")
	}
}

// storeURL notes an address that cannot be one. It never shows it: there may be a password in it.
func (c *checker) storeURL(path, s string) {
	u, err := url.Parse(strings.ReplaceAll(s, ",", "-"))
	if err != nil {
		c.bad(path, "is no URL that can be read")
		return
	}
	if u.Opaque != "" || u.Host == "" && u.RawQuery == "" {
		c.bad(path, "names no server after %s://", u.Scheme)
	}
}

func (c *checker) keys() {
	k := c.cfg.Keys
	c.oneOf("keys.algorithm", k.Algorithm, algorithms()...)
	if k.RotateEvery != 0 {
		c.between("keys.rotate_every", k.RotateEvery, time.Minute, 366*24*time.Hour)
	}
	if k.EncryptionKey == "" {
		return
	}
	if sealed, err := base64.StdEncoding.DecodeString(k.EncryptionKey); err != nil || len(sealed) != 32 {
		c.bad("keys.encryption_key", "wants 32 random bytes in base64; `openssl rand -base64 32` makes them")
	}
}

// algorithms are those that sign tokens, the default first.
func algorithms() []string { return []string{"ES256", "EdDSA", "PS256", "RS256"} }

func (c *checker) exists(path, name string) bool {
	info, err := os.Stat(name)
	if err != nil || info.IsDir() {
		c.bad(path, "the file %s cannot be read", name)
		return false
	}
	return true
}

// Warnings are sentences about what works and should not be left so in production.
func (c Config) Warnings() []string {
	var out []string
	if u, err := url.Parse(c.Issuer); err == nil && u.Scheme == "http" {
		out = append(out, "the issuer is plain http: tokens and passwords can be read on the way; fine on one machine, never on a network")
	}
	if c.Live == "memory:" {
		out = append(out, "live data is kept in this process: every restart makes all outstanding tokens worthless, and a second server cannot share it")
	}
	if c.Keys.EncryptionKey == "" && c.Keys.EncryptionKeyFile == "" {
		out = append(out, "the master key lies in the data folder: whoever copies the folder has the signing keys")
	}
	if c.AllowAgentSecrets {
		out = append(out, "agents may authenticate by shared secrets; keys are safer")
	}
	for _, u := range c.Users {
		if u.Password != "" && u.PasswordFile == "" {
			out = append(out, "a password stands in the configuration; use password_hash or password_file")
			break
		}
	}
	if len(c.Policies) == 0 {
		out = append(out, "there are no guardrails: what a user allows within an agent's ceiling is granted")
	}
	return out
}
