package endpoint

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// document is the metadata of RFC 8414 section 2, with the members of RFC 9126, 9207, 9396, 9449 and 9728 section 4, and ours. It lists
// what works, and nothing else.
type document struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Keys          string `json:"jwks_uri"`
	Push          string `json:"pushed_authorization_request_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	Redemption    string `json:"redemption_endpoint"`
	Transaction   string `json:"transaction_endpoint"` // {txn} stands for the transaction
	Events        string `json:"events_endpoint,omitempty"`
	Receiver      string `json:"event_receiver_endpoint,omitempty"`

	ResponseTypes []string          `json:"response_types_supported"`
	ResponseModes []string          `json:"response_modes_supported"`
	GrantTypes    []oauth.GrantType `json:"grant_types_supported"`
	Challenges    []string          `json:"code_challenge_methods_supported"`
	Prompts       []string          `json:"prompt_values_supported"`
	ACRValues     []string          `json:"acr_values_supported,omitempty"`

	TokenAuth         []oauth.AuthMethod `json:"token_endpoint_auth_methods_supported"`
	TokenAlgs         []string           `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuth []oauth.AuthMethod `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAlgs []string           `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth    []oauth.AuthMethod `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAlgs    []string           `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	RedemptionAuth    []oauth.AuthMethod `json:"redemption_endpoint_auth_methods_supported"`
	RedemptionAlgs    []string           `json:"redemption_endpoint_auth_signing_alg_values_supported"`

	ProofAlgs     []string `json:"dpop_signing_alg_values_supported"`
	DetailTypes   []string `json:"authorization_details_types_supported"`
	Scopes        []string `json:"scopes_supported,omitempty"`
	Resources     []string `json:"protected_resources,omitempty"`
	NamesIssuer   bool     `json:"authorization_response_iss_parameter_supported"`
	RequirePushed bool     `json:"require_pushed_authorization_requests"`
	RequestObject bool     `json:"request_parameter_supported"`
	RequestURI    bool     `json:"request_uri_parameter_supported"`

	CertificateBound bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	Aliases          *aliases `json:"mtls_endpoint_aliases,omitempty"`
}

func (s *Server) document() document {
	at := func(path string) string { return s.cfg.Issuer + path }
	proven := s.methods()
	public := append(slices.Clone(proven), oauth.AuthNone)
	algs := token.ProofAlgorithms()
	events, receiver := "", ""
	if s.cfg.Feed != nil {
		events = at(pathEvents)
	}
	if s.cfg.Receiver != nil {
		receiver = at(pathReceive)
	}
	return document{
		Issuer: s.cfg.Issuer, Events: events, Receiver: receiver, Authorization: at(pathAuthorize), Token: at(pathToken), Keys: at(pathKeys), Push: at(pathPush),
		Introspection: at(pathIntrospect), Revocation: at(pathRevoke), Redemption: at(pathRedeem), Transaction: at(pathTxn),
		ResponseTypes: []string{"code"}, ResponseModes: []string{"query"},
		GrantTypes: []oauth.GrantType{oauth.GrantAuthorizationCode, oauth.GrantTokenExchange},
		Challenges: []string{"S256"}, Prompts: []string{"none", "login", "consent", "select_account"}, ACRValues: s.cfg.Settings.ACRValues,
		TokenAuth: public, TokenAlgs: algs, IntrospectionAuth: proven, IntrospectionAlgs: algs,
		RevocationAuth: public, RevocationAlgs: algs, RedemptionAuth: proven, RedemptionAlgs: algs,
		ProofAlgs: algs, DetailTypes: s.cfg.Details.Names(), NamesIssuer: true, RequirePushed: s.cfg.Settings.RequirePushed,
		CertificateBound: s.cfg.Certificate != nil, Aliases: s.aliases(),
	}
}

const (
	metadataFresh = 5 * time.Second // how long a document is told as it was
	metadataMost  = 500             // resources, and as many scopes, that it lists
)

// metadata keeps the document for a moment, since anybody may ask for it.
type metadata struct {
	mu    sync.Mutex
	body  []byte
	until time.Time
}

// describe gives the document as it is now, or was a moment ago.
func (s *Server) describe(ctx context.Context) ([]byte, error) {
	m := &s.metadata
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.cfg.Now().Before(m.until) {
		return m.body, nil
	}
	doc := s.document()
	all, err := s.resources(ctx)
	if err != nil {
		return nil, err
	}
	for _, res := range all {
		if res.Disabled || len(doc.Resources) >= metadataMost {
			continue
		}
		doc.Resources = append(doc.Resources, res.URI)
		for scope := range res.Scopes {
			doc.Scopes = append(doc.Scopes, scope)
		}
	}
	slices.Sort(doc.Scopes)
	doc.Scopes = slices.Compact(doc.Scopes)
	doc.Scopes = doc.Scopes[:min(len(doc.Scopes), metadataMost)]
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	m.body, m.until = body, s.cfg.Now().Add(metadataFresh)
	return body, nil
}

// discover answers the well-known paths. Host and query of the request make no difference.
func (s *Server) discover(w http.ResponseWriter, r *http.Request) error {
	body, err := s.describe(r.Context())
	if err != nil {
		return err
	}
	public(w, r, body)
	return nil
}

// keys answers with the public keys: RFC 7517 section 5.
func (s *Server) keys(w http.ResponseWriter, r *http.Request) error {
	public(w, r, s.cfg.Keys.JWKS())
	return nil
}

// public sends what anybody may read and keep for a while.
func public(w http.ResponseWriter, r *http.Request, body []byte) {
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Del("Pragma")
	h.Set("ETag", tag)
	h.Set("Content-Type", "application/json")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
