package config_test

import (
	"strings"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/config"
	"obolus/internal/world"
	"obolus/oauth"
)

func TestIdentities(t *testing.T) {
	t.Parallel()
	ca := world.NewAuthority(t, time.Now)
	files := map[string]string{"ca.pem": string(ca.PEM()), "bundle.json": string(ca.Bundle()), "tls.crt": "", "tls.key": "", "empty.pem": "x", "empty.json": `{"keys":[]}`}
	const platforms = `
trust_domains: [{id: example.org, bundle_file: bundle.json}]
workload_issuers: [{issuer: 'https://cluster.example.com', algorithms: [RS256], ca_file: ca.pem}]
tls: {cert: tls.crt, key: tls.key, client_certificates: true, client_ca: ca.pem}
`
	cfg, err := config.Load(config.Sources{File: write(t, platforms+`
agents:
  - {id: a, name: A, spiffe_id: 'spiffe://example.org/a'}
  - {id: b, name: B, federated: {issuer: 'https://cluster.example.com', claims: {/kubernetes.io/namespace: mail}}}
  - {id: c, name: C, tls_client_auth_san_dns: c.test, tls_client_certificate_bound_access_tokens: true}
  - {id: d, name: D, auth: spiffe_x509, spiffe_id: 'spiffe://example.org/d'}
  - {id: e, name: E, auth: self_signed_tls_client_auth, jwks: `+jwk+`}
clients:
  - {id: f, name: F, spiffe_id: 'spiffe://example.org/f'}
`, files)})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []oauth.AuthMethod{oauth.AuthSPIFFEJWT, oauth.AuthFederated, oauth.AuthTLS, oauth.AuthSPIFFEX509, oauth.AuthSelfSigned} {
		if got := cfg.Agents[i].Auth; got != want {
			t.Errorf("agent %s authenticates by %s, want %s", cfg.Agents[i].ID, got, want)
		}
	}
	if cfg.Clients[0].Auth != oauth.AuthSPIFFEJWT || cfg.Agents[1].Federated.Claims["/kubernetes.io/namespace"] != "mail" {
		t.Errorf("%+v", cfg.Clients[0])
	}
	fine := "trusted_issuers: [{issuer: 'https://x.test', types: [id_token]}, {issuer: 'https://y.test', audience: z}]\nworkload_issuers: [{issuer: 'https://x.test'}, {issuer: 'https://y.test'}]"
	if _, err := config.Load(config.Sources{File: write(t, fine, nil)}); err != nil {
		t.Error(err)
	}
	for lines, want := range map[string]string{
		"agents: [{id: a, name: A, spiffe_id: 'spiffe://other.org/a'}]":                                             `"other.org" is not among the trust_domains`,
		"agents: [{id: a, name: A, spiffe_id: 'a'}]":                                                                "is no SPIFFE ID such as",
		"agents: [{id: a, name: A, auth: spiffe_jwt}]":                                                              "is not the SPIFFE ID of a workload",
		"agents: [{id: a, name: A, federated: {issuer: 'https://x.test', subject: x}}]":                             `"https://x.test" is not among the workload_issuers`,
		"agents: [{id: a, name: A, federated: {issuer: 'https://cluster.example.com'}}]":                            "name a subject or claims",
		"agents: [{id: a, name: A, auth: federated_jwt}]":                                                           "names no issuer",
		"agents: [{id: a, name: A, federated: {isuer: x}}]":                                                         "isuer",
		"agents: [{id: a, name: A, jwks: " + jwk + ", spiffe_id: 'spiffe://example.org/a', auth: private_key_jwt}]": "to which spiffe_id does not belong",
		"agents: [{id: a, name: A, tls_client_auth_san_dns: a, tls_client_auth_san_uri: b}]":                        "names 2 subjects",
		"agents: [{id: a, name: A, tls_client_auth_subject_dn: nobody}]":                                            "not a distinguished name",
		"agents: [{id: a, name: A, auth: self_signed_tls_client_auth}]":                                             "needs the key of its certificate",
		"clients: [{id: a, auth: tls_client_auth}]":                                                                 "names 0 subjects",
	} {
		refused(t, platforms+lines, files, want)
	}
	for lines, want := range map[string]string{
		"trust_domains: [{id: 'spiffe://x', bundle_file: bundle.json}]":                                                       "is no name of a trust domain",
		"trust_domains: [{id: x}]":                                                                                            "wants one of bundle_file and bundle_uri",
		"trust_domains: [{id: x, bundle_file: bundle.json, bundle_uri: 'https://x.test'}]":                                    "wants one of bundle_file and bundle_uri",
		"trust_domains: [{id: x, bundle_file: empty.json}]":                                                                   "is no SPIFFE trust bundle",
		"trust_domains: [{id: x, bundle_file: none.json}]":                                                                    "cannot be read",
		"trust_domains: [{id: x, bundle_uri: 'http://x.test'}]":                                                               "must be https",
		"trust_domains: [{id: x, bundle_file: bundle.json}, {id: x, bundle_file: bundle.json}]":                               "is already at",
		"workload_issuers: [{issuer: 'http://x.test'}]":                                                                       "must be https",
		"workload_issuers: [{issuer: 'https://x.test', jwks_uri: x}]":                                                         "is no URL",
		"workload_issuers: [{issuer: 'https://x.test', algorithms: [HS256]}]":                                                 "is none of",
		"workload_issuers: [{issuer: 'https://x.test', ca_file: empty.pem}]":                                                  "holds no certificate",
		"workload_issuers: [{issuer: 'https://x.test'}, {issuer: 'https://x.test'}]":                                          "is already at",
		"issuer: https://x.test\nworkload_issuers: [{issuer: 'https://x.test'}]":                                              "is this server itself",
		"trusted_issuers: [{issuer: 'https://x.test'}]\nworkload_issuers: [{issuer: 'https://x.test'}]":                       "a workload could pass for a user",
		"tls: {client_certificates: true}":                                                                                    "needs tls.cert and tls.key",
		"tls: {certificate_header: Client-Cert}":                                                                              "needs trusted_proxies",
		"trusted_proxies: [10.0.0.0/8]\ntls: {certificate_header: 'Client Cert'}":                                             "is no name of a header",
		"tls: {client_ca: ca.pem}":                                                                                            "are of no use without",
		"trusted_proxies: [10.0.0.0/8]\ntls: {certificate_header: Client-Cert, client_ca: empty.pem}":                         "holds no certificate",
		"trusted_proxies: [10.0.0.0/8]\ntls: {certificate_header: Client-Cert, certificate_url: 'x'}":                         "is no URL",
		"agents: [{id: a, name: A, tls_client_auth_san_dns: a}]":                                                              "needs the client's certificate",
		"agents: [{id: a, name: A, jwks: " + jwk + ", tls_client_certificate_bound_access_tokens: true}]":                     "needs the client's certificate",
		"trusted_proxies: [10.0.0.0/8]\ntls: {certificate_header: X}\nagents: [{id: a, name: A, tls_client_auth_san_dns: a}]": "needs tls.client_ca",
	} {
		refused(t, lines, files, want)
	}
}

func refused(t *testing.T, lines string, files map[string]string, want string) {
	t.Helper()
	_, err := config.Load(config.Sources{File: write(t, lines, files)})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s\ngave %v\nwant %q", lines, err, want)
	}
}
