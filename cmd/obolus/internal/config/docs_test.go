package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/config"
)

const guide = "../../../../docs/configuration.md"

func readGuide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// notDeclared are members of records that the server keeps.
var notDeclared = map[string]bool{"by": true, "at": true, "why": true}

// keysOf lists the keys of a configuration, those within lists without the list.
func keysOf(t reflect.Type, path string, found map[string]bool) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			keysOf(f.Type, path, found)
			continue
		case name == "" || name == "-" || notDeclared[name]:
			continue
		}
		below := path + name
		if f.Type.Kind() == reflect.Slice {
			keysOf(f.Type, "", found)
		} else {
			keysOf(f.Type, below+".", found)
		}
		if f.Type.Kind() != reflect.Struct || f.Type == reflect.TypeFor[time.Time]() {
			found[below] = true
		}
	}
}

// The guide names every key, and a setting with the default that it has.
func TestGuideIsComplete(t *testing.T) {
	t.Parallel()
	text := readGuide(t)
	found := map[string]bool{}
	keysOf(reflect.TypeFor[config.Config](), "", found)
	if len(found) < 80 {
		t.Fatalf("only %d keys were found", len(found))
	}
	for key := range found {
		short := key[strings.LastIndexByte(key, '.')+1:]
		if !strings.Contains(text, "`"+key+"`") && (strings.Contains(key, "changed") || !strings.Contains(text, "`"+short+"`")) {
			t.Errorf("%s is not in %s", key, guide)
		}
	}
	d := config.Defaults()
	for key, value := range map[string]string{
		"listen": d.Listen, "data": d.Data, "live": d.Live, "log.level": d.Log.Level, "log.format": d.Log.Format, "keys.algorithm": d.Keys.Algorithm,
		"exchange.error_profile": d.Exchange.ErrorProfile, "exchange.scope_mode": d.Exchange.ScopeMode,
		"keys.rotate_every": short(d.Keys.RotateEvery), "tokens.lifetime": short(d.Tokens.Lifetime), "tokens.session_lifetime": short(d.Tokens.SessionLifetime),
		"tokens.leeway": short(d.Tokens.Leeway), "consent.interaction_lifetime": short(d.Consent.InteractionLifetime), "consent.interval": short(d.Consent.Interval),
		"consent.default_lifetime": short(d.Consent.DefaultLifetime), "consent.max_lifetime": short(d.Consent.MaxLifetime),
	} {
		if !strings.Contains(text, "| `"+key+"` | `"+value+"` |") {
			t.Errorf("%s has the default %s, and the guide does not say so", key, value)
		}
	}
}

// short writes a duration without what is zero at its end.
func short[T ~int64](d T) string {
	s := strings.TrimSuffix(time.Duration(d).String(), "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// The example of the guide is a configuration that is accepted.
func TestGuideExample(t *testing.T) {
	t.Parallel()
	_, after, _ := strings.Cut(readGuide(t), "```yaml\n")
	example, _, ok := strings.Cut(after, "```")
	if !ok {
		t.Fatal("the guide has no example")
	}
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for name, data := range map[string][]byte{
		"obolus.yaml": []byte(example), "app.pub": public, "mail-server.pub": public, "mailer.pub": public, "tls.crt": {}, "tls.key": {},
		"master.key": []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), "corp.secret": []byte("a secret of the provider\n"),
		"office-hours.cedar": []byte("permit (principal, action, resource);\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(config.Sources{File: filepath.Join(dir, "obolus.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Agents) != 1 || len(cfg.Resources) != 1 || len(cfg.Details) != 1 {
		t.Errorf("read %+v", cfg)
	}
}
