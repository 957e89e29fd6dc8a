package docs_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is an issuer as the API server of a Kubernetes cluster is one: it publishes metadata and keys, and signs tokens of service accounts.
type cluster struct {
	*httptest.Server
	t    *testing.T
	key  *rsa.PrivateKey
	hits atomic.Int64 // of the keys
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		c.say(w, "application/json", map[string]any{
			"issuer": c.URL, "jwks_uri": c.URL + "/openid/v1/jwks", "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /openid/v1/jwks", func(w http.ResponseWriter, _ *http.Request) {
		c.hits.Add(1)
		c.say(w, "application/jwk-set+json", map[string]any{"keys": []any{map[string]any{
			"use": "sig", "kty": "RSA", "kid": "cluster-1", "alg": "RS256",
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) say(w http.ResponseWriter, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		c.t.Error(err)
	}
}

// token is what the kubelet writes into a pod of a service account, with changes.
func (c *cluster) token(namespace, account, audience string, changes map[string]any) string {
	c.t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{
		"aud": []string{audience}, "exp": now + 3600, "iat": now, "nbf": now, "iss": c.URL, "jti": "0fd1d6a1-" + rand.Text(),
		"sub": "system:serviceaccount:" + namespace + ":" + account,
		"kubernetes.io": map[string]any{
			"namespace": namespace, "node": map[string]any{"name": "node-1", "uid": "c1"}, "pod": map[string]any{"name": account + "-0", "uid": "c2"},
			"serviceaccount": map[string]any{"name": account, "uid": "c3"}, "warnafter": now + 3000,
		},
	}
	maps.Copy(claims, changes)
	return c.sign(map[string]any{"alg": "RS256", "kid": "cluster-1"}, claims)
}

func (c *cluster) sign(head, claims map[string]any) string {
	c.t.Helper()
	var parts []string
	for _, v := range []map[string]any{head, claims} {
		raw, err := json.Marshal(v)
		if err != nil {
			c.t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(raw))
	}
	signed := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, sum[:])
	if err != nil {
		c.t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// The guide to Kubernetes, carried out in its own words with the configuration and the commands that are in it. What is not real is the
// cluster, whose part of it is an issuer and a file.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	dir, server := t.TempDir(), port(t)
	kube, login := newCluster(t), newCluster(t)
	file := filepath.Join(dir, "token")
	text := strings.NewReplacer(
		"https://obolus.example.com", "http://"+server, "https://cluster.example.com", kube.URL, "https://login.example.com", login.URL,
		"/var/run/secrets/obolus/token", file, "/tmp/dpop.pem", filepath.Join(dir, "dpop.pem"),
	).Replace(read(t, "kubernetes.md"))
	config := blocks(text, "yaml")[0] + "\nlisten: " + server + "\nusers: [{id: alice, name: Alice, password: correct horse battery}]\n"
	if err := os.WriteFile(filepath.Join(dir, "obolus.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--config", "obolus.yaml")
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 20*time.Millisecond))) // what was signed before the start is refused

	user := login.sign(map[string]any{"alg": "RS256", "kid": "cluster-1", "typ": "JWT"}, map[string]any{
		"iss": login.URL, "sub": "alice", "aud": "http://" + server, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 600, "jti": rand.Text(), "auth_time": time.Now().Unix(),
	})
	setup, ask, _ := strings.Cut(blocks(text, "sh")[0], "\nexchange\n")
	if ask != "" {
		t.Fatal("the exchange is not the last command")
	}
	run := func(saToken, command string) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(saToken), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := shell(t, dir, server, setup+"\n"+command)
		cmd.Env = append(cmd.Env, "USER_TOKEN="+user)
		return output(t, cmd)
	}
	mine := kube.token("mail", "mailer", "http://"+server, nil)
	var asked struct {
		Link string `json:"interaction_uri"`
	}
	out := run(mine, "exchange")
	if err := json.Unmarshal([]byte(out), &asked); err != nil || asked.Link == "" {
		t.Fatalf("the first answer is no link: %s", out)
	}
	if _, err := person(t.Context(), asked.Link); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same token of the pod, as often as it likes
		var got struct {
			Token string `json:"access_token"`
			Type  string `json:"token_type"`
		}
		out = run(mine, "exchange")
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.Type != "DPoP" {
			t.Fatalf("%v: %s", err, out)
		}
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(got.Token, ".")[1])
		if err != nil || !strings.Contains(string(raw), `"act":{"iss":"http://`+server+`","sub":"mailer"`) || !strings.Contains(string(raw), `"cnf":{"jkt":`) {
			t.Errorf("%v: %s", err, raw)
		}
	}
	for name, c := range map[string]struct{ token, want string }{
		"another account":           {kube.token("mail", "other", "http://"+server, nil), "invalid_client"},
		"another namespace":         {kube.token("evil", "mailer", "http://"+server, nil), "invalid_client"},
		"a namespace in the name":   {kube.token("evil", "mailer", "http://"+server, map[string]any{"sub": "system:serviceaccount:mail:mailer"}), "invalid_client"},
		"the API server's audience": {kube.token("mail", "mailer", "https://kubernetes.default.svc", nil), "invalid_client"},
		"it has ended":              {kube.token("mail", "mailer", "http://"+server, map[string]any{"exp": time.Now().Unix() - 1}), "invalid_client"},
		"another cluster's":         {login.token("mail", "mailer", "http://"+server, nil), "invalid_client"},
		"another cluster's key":     {login.token("mail", "mailer", "http://"+server, map[string]any{"iss": kube.URL}), "invalid_client"},
		"no signature":              {mine[:strings.LastIndexByte(mine, '.')+1], "invalid_client"},
		"keys of its own":           {kube.sign(map[string]any{"alg": "RS256", "kid": "cluster-1", "jku": login.URL + "/openid/v1/jwks"}, map[string]any{"iss": kube.URL}), "invalid_client"},
	} {
		if out := run(c.token, "exchange"); !strings.Contains(out, `"error":"`+c.want+`"`) || strings.Contains(out, "access_token") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if n := kube.hits.Load(); n > 2 {
		t.Errorf("the cluster was asked for its keys %d times", n)
	}
	if out := run(mine, blocks(text, "sh")[1]); !strings.Contains(out, "workload_identity") {
		t.Errorf("the ledger does not say why:\n%s", out)
	}
	if resp, err := http.Get("http://" + server + "/.well-known/oauth-authorization-server"); err != nil {
		t.Error(err)
	} else {
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"federated_jwt"`) {
			t.Errorf("%v: %s", err, body)
		}
	}
}
