package endpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"obolus/agents"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// The headers between a proxy and forward authentication.
const (
	headerClient   = "X-Obolus-Client"   // the proxy's own credentials: Basic …
	headerResource = "X-Obolus-Resource" // what it protects, where the query cannot say it
	headerScopes   = "X-Obolus-Scopes"   // what a token must be good for, likewise
)

// forward answers a proxy that asks about a request before it lets it through: nginx auth_request, Envoy ext_authz, Traefik
// ForwardAuth, Caddy forward_auth. Its configuration names the resource and the scopes that are needed, in the query (?resource=id&scope=…) or,
// where the query is that of the request, in headers that the proxy sets itself; and it shows in X-Obolus-Client that it is one of the
// resource's servers, so that nobody else can spend a token here. The token is checked, its DPoP proof too, and a one-transaction
// token is redeemed; one with authorization_details is refused, since the request is not seen here. 200 has the facts in headers, 401 and 403 are for the agent, 503 is for everything that is not its fault.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) error {
	q, err := s.question(r)
	if err != nil {
		return err
	}
	claims, err := s.admit(r, q)
	if err != nil {
		return s.challenge(w, q, err)
	}
	h := w.Header()
	h.Set("X-Obolus-Subject", printable(claims.Subject))
	h.Set("X-Obolus-Client", printable(claims.ClientID))
	h.Set("X-Obolus-Scope", claims.Scope) // tokens of printable ASCII
	h.Set("X-Obolus-Txn", printable(claims.Txn))
	h.Set("X-Obolus-Actor", "")
	if claims.Act != nil {
		h.Set("X-Obolus-Actor", printable(claims.Act.Subject))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// question is what a proxy asks.
type question struct {
	proxy    agents.Presented
	resource agents.Resource
	scopes   []string
	method   string // of the request that waits at the proxy
	uri      string
	scheme   string // Bearer or DPoP
	token    string
}

// question reads what the proxy says, and who it is. Whatever is wrong with that is not the agent's fault.
func (s *Server) question(r *http.Request) (question, error) {
	q := question{}
	resource, scopes, err := s.protects(r)
	if err != nil {
		return q, errProxy(err)
	}
	q.scopes = scopes
	creds := basic(r.Header.Get(headerClient))
	if creds.ClientID == "" {
		return q, errProxy(errors.New("no credentials in " + headerClient))
	}
	if q.proxy, err = s.check(r, creds); err != nil {
		return q, errProxy(err)
	}
	q.resource, err = s.cfg.Registry.ResourceAt(r.Context(), resource)
	switch {
	case errors.Is(err, agents.ErrNotFound):
		return q, errProxy(err)
	case err != nil:
		return q, oauth.Unavailable(err)
	case !q.resource.Names(creds.ClientID):
		return q, errProxy(errors.New("the proxy is none of the resource's servers"))
	}
	q.method, q.uri = s.original(r)
	return q, nil
}

// errProxy is for a proxy that is not set up rightly. It is told apart from the agent's mistakes by its status.
func errProxy(cause error) error {
	e := oauth.AsError(cause)
	if e.Code == oauth.TemporarilyUnavailable || e.Reason == oauth.ReasonRateLimited {
		return &oauth.Error{
			Code: oauth.TemporarilyUnavailable, Reason: e.Reason, Description: e.Description, RetryAfter: e.RetryAfter, Err: cause,
		}
	}
	return &oauth.Error{
		Code: oauth.TemporarilyUnavailable, Reason: oauth.ReasonNotRedeemer, Err: cause,
		Description: "the proxy is not set up as a server of this resource",
	}
}

// protects is the resource and the scopes that the proxy names.
func (s *Server) protects(r *http.Request) (resource string, scopes []string, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", nil, err
	}
	var scope string
	if r.URL.Path == s.base+pathForward && r.URL.RawQuery != "" {
		if len(query["resource"]) != 1 || len(query["scope"]) > 1 {
			return "", nil, errors.New("resource is not there once, or scope twice")
		}
		resource, scope = query.Get("resource"), query.Get("scope")
	} else {
		if len(r.Header.Values(headerResource)) != 1 || len(r.Header.Values(headerScopes)) > 1 {
			return "", nil, errors.New("no resource, or several")
		}
		resource, scope = r.Header.Get(headerResource), r.Header.Get(headerScopes)
	}
	scopes, ok := oauth.ParseScope(scope)
	if resource == "" || !ok {
		return "", nil, errors.New("no resource, or malformed scopes")
	}
	return resource, scopes, nil
}

// original is method and URI of the request that waits: as the usual headers say, or, when the proxy asks with the request's own
// method and path appended, that.
func (s *Server) original(r *http.Request) (method, uri string) {
	h := r.Header
	first := func(names ...string) string {
		for _, name := range names {
			if v := h.Get(name); v != "" {
				return v
			}
		}
		return ""
	}
	method, uri = first("X-Forwarded-Method", "X-Original-Method"), first("X-Original-URL")
	if method == "" {
		method = r.Method
	}
	if uri != "" {
		return method, uri
	}
	path := first("X-Forwarded-Uri", "X-Original-Uri")
	if path == "" {
		path = strings.TrimPrefix(r.URL.EscapedPath(), s.base+pathForward)
	}
	proto, host := first("X-Forwarded-Proto"), first("X-Forwarded-Host")
	if proto == "" {
		proto = "https"
	}
	if host == "" {
		host = r.Host
	}
	return method, proto + "://" + host + path
}

// admit checks the token of the request against what is protected, and spends it if it is good for one transaction. Spending
// comes last.
func (s *Server) admit(r *http.Request, q question) (token.Claims, error) {
	ctx := r.Context()
	var err error
	if q.scheme, q.token, err = bearer(r.Header); err != nil {
		return token.Claims{}, err
	}
	v, err := s.cfg.Verifier.Verify(ctx, q.token)
	if err != nil {
		return token.Claims{}, errToken(oauth.ReasonTokenInvalid, err)
	}
	claims := v.Claims()
	if len(claims.Audience) != 1 || claims.Audience[0] != q.resource.URI {
		return claims, errToken(oauth.ReasonAudience, nil)
	}
	jkt, err := s.bound(r, q, claims)
	if err != nil {
		return claims, err
	}
	if err := suffices(claims, q.scopes); err != nil {
		return claims, err
	}
	if claims.TxnMode == oauth.ModeRedeem {
		return claims, s.spend(ctx, r, q, jkt)
	}
	return claims, s.stands(ctx, q)
}

// suffices holds a token to the scopes that are needed. One that is limited by authorization_details is refused: nobody here can hold
// the request against them, and letting it through would widen it.
func suffices(claims token.Claims, scopes []string) error {
	insufficient := func(reason oauth.Reason, description string) error {
		return &oauth.Error{Code: oauth.InsufficientScope, Reason: reason, HTTPStatus: http.StatusForbidden, Description: description}
	}
	have := claims.Scopes()
	if slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(have, s) }) {
		return insufficient(oauth.ReasonSubjectScope, "the token is not good for this")
	}
	if len(claims.Details) > 0 {
		return insufficient(oauth.ReasonSubjectDetails, "the token is limited by authorization_details, which are not checked here")
	}
	return nil
}

// bearer reads the token of a request: RFC 6750 section 2.1, RFC 9449 section 7.1. There is exactly one, in the header.
func bearer(h http.Header) (scheme, compact string, err error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", "", &oauth.Error{Code: oauth.InvalidToken, Reason: oauth.ReasonMissing, HTTPStatus: http.StatusUnauthorized}
	}
	scheme, compact, _ = strings.Cut(values[0], " ")
	switch {
	case len(values) > 1:
		return "", "", malformed("there is more than one token")
	case strings.EqualFold(scheme, oauth.Bearer):
		scheme = oauth.Bearer
	case strings.EqualFold(scheme, oauth.DPoP):
		scheme = oauth.DPoP
	default:
		return "", "", errToken(oauth.ReasonTokenInvalid, errors.New("another scheme"))
	}
	return scheme, strings.TrimLeft(compact, " "), nil
}

func errToken(reason oauth.Reason, cause error) error {
	return &oauth.Error{
		Code: oauth.InvalidToken, Reason: reason, HTTPStatus: http.StatusUnauthorized, Description: "the token cannot be used here", Err: cause,
	}
}

// bound checks the proof of a bound token, and gives its key. A bound token does not go without a proof, nor an unbound one with
// one: RFC 9449 section 7.
func (s *Server) bound(r *http.Request, q question, claims token.Claims) (string, error) {
	jkt := ""
	if c := claims.Confirm; c != nil {
		if jkt = c.JKT; jkt == "" && c.X5T == "" {
			return "", errToken(oauth.ReasonKey, errors.New("bound in a way that is not known here"))
		}
		if err := s.certified(r, c.X5T); err != nil {
			return "", err
		}
	}
	if (jkt != "") != (q.scheme == oauth.DPoP) {
		return "", errToken(oauth.ReasonKey, errors.New("the scheme is not that of the token"))
	}
	if jkt == "" {
		return "", nil
	}
	proofs := r.Header.Values("DPoP")
	if len(proofs) != 1 {
		return "", unproven(errors.New("not exactly one proof"))
	}
	proof, err := token.VerifyProof(proofs[0], token.ProofExpect{Method: q.method, URI: q.uri, Now: s.cfg.Now, AccessToken: q.token})
	if err != nil {
		return "", unproven(err)
	}
	if proof.JKT != jkt {
		return "", errToken(oauth.ReasonKey, errors.New("the proof is by another key"))
	}
	out, err := s.apply(r.Context(), once("proof at "+q.resource.ID, proof))
	if err != nil {
		return "", err
	}
	if err := s.spent(proof, out); err != nil {
		return "", unproven(err)
	}
	return jkt, nil
}

// certified checks that the waiting request came over a connection with the certificate that its token is bound to: RFC 8705 section 3. The proxy
// tells of it, and is believed as far as it is trusted.
func (s *Server) certified(r *http.Request, x5t string) error {
	if x5t == "" {
		return nil
	}
	cert, err := s.certificate(r)
	if err != nil || cert.Thumbprint() != x5t {
		return errToken(oauth.ReasonKey, errors.Join(err, errors.New("the token is bound to another certificate than that of the request")))
	}
	return nil
}

func unproven(cause error) error {
	return &oauth.Error{
		Code: oauth.InvalidDPoPProof, Reason: oauth.ReasonProof, HTTPStatus: http.StatusUnauthorized,
		Description: "the DPoP proof is not valid for this request", Err: cause,
	}
}

// spend redeems a one-transaction token in the name of the proxy.
func (s *Server) spend(ctx context.Context, r *http.Request, q question, jkt string) error {
	_, err := s.cfg.Transactions.Redeem(ctx, transaction.Redemption{
		Server: q.proxy, Token: q.token, ID: "fwd-" + rand.Text(), JKT: jkt, Remote: s.cfg.Remote(r),
	})
	if err == nil {
		return nil
	}
	switch e := oauth.AsError(err); e.Code {
	case oauth.TemporarilyUnavailable, oauth.ServerError:
		return err
	case oauth.InvalidClient, oauth.WrongAudience:
		return errProxy(err)
	default:
		return errToken(e.Reason, err)
	}
}

// stands looks whether a session token still counts, and whether the proxy still is who it was.
func (s *Server) stands(ctx context.Context, q question) error {
	who, err := s.cfg.Clients.Settle(ctx, q.proxy)
	if err != nil {
		return errProxy(err)
	}
	found, err := s.cfg.Transactions.Introspect(ctx, who, q.token)
	if err != nil {
		return err
	}
	if !found.Active {
		return errToken(oauth.ReasonTokenRevoked, nil)
	}
	return nil
}

// challenge tells the agent what was wrong, in WWW-Authenticate: RFC 6750 section 3, RFC 9449 section 7.1. A request without a
// token is told no error.
func (s *Server) challenge(w http.ResponseWriter, q question, err error) error {
	e := oauth.AsError(err)
	if code := e.Status(); code != http.StatusUnauthorized && code != http.StatusForbidden {
		return err
	}
	params := ""
	if e.Reason != oauth.ReasonMissing {
		params = `, error="` + string(e.Code) + `"`
	}
	if len(q.scopes) > 0 {
		params += `, scope="` + strings.Join(q.scopes, " ") + `"`
	}
	h := w.Header()
	h.Add("WWW-Authenticate", `Bearer realm="obolus"`+params)
	h.Add("WWW-Authenticate", `DPoP realm="obolus", algs="`+strings.Join(token.ProofAlgorithms(), " ")+`"`+params)
	return err
}

// apply carries out one commit in the live store.
func (s *Server) apply(ctx context.Context, c store.Commit) (store.Outcome, error) {
	out, err := store.Apply(ctx, s.cfg.Live, c)
	if err != nil {
		return out, oauth.Unavailable(err)
	}
	return out, nil
}

// printable makes a name fit for a header, so that decoding it gives the name again, of whatever it consists: it is percent-encoded unless it is
// printable ASCII without a percent sign and without spaces at its ends, which get lost on the way.
func printable(name string) string {
	odd := func(r rune) bool { return r < 0x20 || r > 0x7e || r == '%' }
	if strings.ContainsFunc(name, odd) || strings.Trim(name, " ") != name {
		return url.PathEscape(name)
	}
	return name
}
