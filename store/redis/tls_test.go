package redis_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/redis"
	"obolus/store/storetest/servers"
)

// authority certifies in a folder.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes a certificate and its key under a name.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, crypto.Signer) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// server are the arguments of a server that speaks TLS at a port, with clients that have certificates.
func (a *authority) server(port string) []string {
	return []string{
		"--tls-port", port, "--tls-auth-clients", "yes", "--tls-replication", "yes",
		"--tls-ca-cert-file", a.file("ca.pem"), "--tls-cert-file", a.file("server.pem"), "--tls-key-file", a.file("server.key"),
	}
}

// A private authority certifies the server and whoever may connect.
func TestTLS(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	a.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"redis.internal"}, ExtKeyUsage: both})
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	stranger.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	port := func() string { return strconv.Itoa(servers.FreePort(t)) }
	single, spread, watch := port(), port(), port()
	master := servers.StartRedis(t, a.server(single)...)
	cluster := servers.StartRedis(t, append(a.server(spread), "--cluster-enabled", "yes", "--cluster-config-file", "nodes", "--cluster-announce-ip", "127.0.0.1", "--tls-cluster", "yes")...)
	if said := cluster.Say("CLUSTER ADDSLOTSRANGE 0 16383"); said != "+OK\r\n" {
		t.Fatal(said)
	}
	master.SentinelAt("127.0.0.1:"+single, a.server(watch)...)
	trust := "ca_file=" + a.file("ca.pem")
	shown := "&cert_file=" + a.file("client.pem") + "&key_file=" + a.file("client.key")
	for name, tc := range map[string]struct{ url, want string }{
		"one":                  {"rediss://127.0.0.1:" + single + "?" + trust + shown, ""},
		"one, by another name": {"rediss://127.0.0.1:" + single + "?server_name=redis.internal&" + trust + shown, ""},
		"Sentinel":             {"rediss+sentinel://127.0.0.1:" + watch + "/0?master=obolus&" + trust + shown, ""},
		"Cluster":              {"rediss+cluster://127.0.0.1:" + spread + "?" + trust + shown, ""},
		"a name it has not":    {"rediss://127.0.0.1:" + single + "?server_name=redis.example&" + trust + shown, "certificate"},
		"no authority":         {"rediss://127.0.0.1:" + single + "?" + strings.TrimPrefix(shown, "&"), "certificate"},
		"another authority":    {"rediss://127.0.0.1:" + single + "?ca_file=" + stranger.file("ca.pem") + shown, "certificate"},
		"no certificate":       {"rediss://127.0.0.1:" + single + "?" + trust, "certificate required"},
		"a stranger's": {
			"rediss://127.0.0.1:" + single + "?" + trust + "&cert_file=" + stranger.file("client.pem") + "&key_file=" + stranger.file("client.key"), "unknown certificate authority",
		},
		"no TLS": {"redis://127.0.0.1:" + single, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last error
			for late := time.Now().Add(time.Minute); time.Now().Before(late); { // a Cluster of one takes a moment to find out that it is whole
				e, err := redis.Open(t.Context(), patient(tc.url), redis.Options{})
				if err == nil {
					_, err = e.Do(t.Context(), store.Batch{Commits: []store.Commit{commit(1, true)}})
					_ = e.Close()
				}
				if last = err; err == nil || tc.want != "" {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			if tc.want == "" && last != nil || tc.want != "" && (!errors.Is(last, store.ErrUnavailable) || !strings.Contains(last.Error(), tc.want)) {
				t.Errorf("got %v, want %q", last, tc.want)
			}
		})
	}
}
