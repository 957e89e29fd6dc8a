package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/redis"
	"obolus/store/storetest/servers"
)

// certFolder has a certificate and its key for 127.0.0.1, which this process trusts.
var certFolder string

// TestMain makes the certificate first, because a process reads what it trusts only once.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "obolus-redis-")
	if err == nil {
		err = certify(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	certFolder = dir
	os.Setenv("SSL_CERT_FILE", filepath.Join(dir, "cert.pem"))
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func certify(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	servers.StartRedis(t, "--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(certFolder, "cert.pem"), "--tls-key-file", filepath.Join(certFolder, "key.pem"))
	e := open(t, "rediss://127.0.0.1:"+port, redis.Options{})
	if _, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{commit(1, true)}}); err != nil {
		t.Error(err)
	}
	for url, want := range map[string]string{
		"rediss://localhost:" + port: "certificate",
		"redis://127.0.0.1:" + port:  "",
	} {
		_, err := redis.Open(t.Context(), url, redis.Options{})
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
