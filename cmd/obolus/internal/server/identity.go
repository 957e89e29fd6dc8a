package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"obolus/agents"
	"obolus/cmd/obolus/internal/config"
	"obolus/token"
	"obolus/token/fetch"
)

// identities are whose word is taken for who a client is, besides its own key: SPIFFE trust domains, platforms, and the authorities of
// certificates.
type identities struct {
	domains   []agents.TrustDomain
	workloads []agents.WorkloadIssuer
	clientCA  *kept[*x509.CertPool] // nil: none
	watch     []func(context.Context, *slog.Logger)
	clients   []*http.Client
}

func newIdentities(cfg config.Config, o Options) (*identities, error) {
	ids := &identities{}
	for _, d := range cfg.TrustDomains {
		if err := ids.domain(cfg, d, o.Now); err != nil {
			return nil, fmt.Errorf("trust domain %s: %w", d.ID, err)
		}
	}
	for _, w := range cfg.WorkloadIssuers {
		client, err := ids.client(cfg, w.CAFile)
		if err != nil {
			return nil, fmt.Errorf("workload issuer %s: %w", w.Issuer, err)
		}
		ids.workloads = append(ids.workloads, agents.WorkloadIssuer{
			Issuer: w.Issuer, Audience: w.Audience, Algorithms: w.Algorithms, Keys: token.NewRemoteKeys(token.RemoteConfig{
				URI: w.JWKSURI, Issuer: w.Issuer, Client: client, Now: o.Now, Algs: orRS256(w.Algorithms),
			}),
		})
	}
	if cfg.TLS.ClientCA == "" {
		return ids, nil
	}
	var err error
	ids.clientCA, err = keep(cfg.TLS.ClientCA, config.Authorities)
	if err != nil {
		return nil, fmt.Errorf("tls.client_ca: %w", err)
	}
	ids.watch = append(ids.watch, ids.clientCA.watch)
	return ids, nil
}

// orRS256 is what an RSA key is for that does not say: platforms sign by RS256.
func orRS256(algorithms []string) []string {
	if len(algorithms) > 0 {
		return algorithms
	}
	return []string{token.RS256}
}

func (ids *identities) domain(cfg config.Config, d config.TrustDomain, now func() time.Time) error {
	if d.BundleFile != "" {
		file, err := keep(d.BundleFile, token.ParseBundle)
		if err != nil {
			return err
		}
		ids.watch = append(ids.watch, file.watch)
		ids.domains = append(ids.domains, agents.TrustDomain{ID: d.ID, Keys: bundleKeys{file}, Authorities: bundleKeys{file}.authorities})
		return nil
	}
	client, err := ids.client(cfg, d.CAFile)
	if err != nil {
		return err
	}
	remote := token.NewRemoteKeys(token.RemoteConfig{URI: d.BundleURI, Client: client, Now: now, Bundle: true})
	ids.domains = append(ids.domains, agents.TrustDomain{ID: d.ID, Keys: remote, Authorities: remote.Authorities})
	return nil
}

// client fetches what an operator named, as outside does, from hosts that the authorities in a file certify.
func (ids *identities) client(cfg config.Config, caFile string) (*http.Client, error) {
	roots, err := config.AuthoritiesIn(caFile)
	if err != nil {
		return nil, err
	}
	reach := reach(cfg)
	reach.Roots = roots
	client := fetch.New(reach)
	ids.clients = append(ids.clients, client)
	return client, nil
}

// authorities are those of tls_client_auth; nil: there are none.
func (ids *identities) authorities() func() *x509.CertPool {
	if ids.clientCA == nil {
		return nil
	}
	return ids.clientCA.get
}

func (ids *identities) close() {
	for _, c := range ids.clients {
		c.CloseIdleConnections()
	}
}

// kept is what a file says, read again when it changes. One that cannot be read leaves what was there before.
type kept[T any] struct {
	file    string
	read    func([]byte) (T, error)
	current atomic.Pointer[T]
	stamp   string
}

func keep[T any](file string, read func([]byte) (T, error)) (*kept[T], error) {
	k := &kept[T]{file: file, read: read, stamp: stampOf(file)}
	return k, k.load()
}

func (k *kept[T]) load() error {
	data, err := os.ReadFile(k.file)
	if err != nil {
		return err
	}
	said, err := k.read(data)
	if err != nil {
		return fmt.Errorf("%s: %w", k.file, err)
	}
	k.current.Store(&said)
	return nil
}

func (k *kept[T]) get() T { return *k.current.Load() }

func (k *kept[T]) watch(ctx context.Context, log *slog.Logger) {
	every(ctx, pollTime, func() {
		stamp := stampOf(k.file)
		if stamp == k.stamp {
			return
		}
		if err := k.load(); err != nil {
			log.WarnContext(ctx, "a file changed and cannot be read; what it said before stays", "file", k.file, "cause", err)
			return
		}
		k.stamp = stamp
		log.InfoContext(ctx, "a file was read again", "file", k.file)
	})
}

// bundleKeys are the keys of a trust bundle in a file.
type bundleKeys struct{ file *kept[token.Bundle] }

var _ token.KeySource = bundleKeys{}

// Key finds the key of a JWT-SVID.
func (b bundleKeys) Key(ctx context.Context, kid string) (token.PublicKey, error) {
	return b.file.get().Keys.Key(ctx, kid)
}

func (b bundleKeys) authorities(context.Context) ([]*x509.Certificate, error) {
	return b.file.get().Authorities, nil
}

// handshake makes the TLS configuration. Clients are asked for a certificate if that is configured, and, if those who have one come by a
// name of their own, under that name only: browsers ask their users about it.
func handshake(cfg config.Config, cert *keyPair) *tls.Config {
	plain := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"h2", "http/1.1"}}
	if !cfg.TLS.ClientCertificates {
		return plain
	}
	asking := plain.Clone()
	asking.ClientAuth = tls.RequestClientCert
	own, issuer := hostOf(cfg.TLS.CertificateURL), hostOf(cfg.Issuer)
	if own == "" || own == issuer {
		return asking
	}
	plain.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if strings.EqualFold(hello.ServerName, own) {
			return asking, nil
		}
		return nil, nil //nolint:nilnil // crypto/tls takes it for "as configured"
	}
	return plain
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// fromProxy says whether the connection of a request is that of a trusted proxy.
func (d *door) fromProxy(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddr(host)
	return err == nil && d.trusted(at)
}
