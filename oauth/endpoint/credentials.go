package endpoint

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/token"
)

// credentials takes apart how a client shows who it is: Basic, a secret or an assertion in the body, or its name alone. Exactly
// one of them (OAuth 2.1 section 2.4).
func (s *Server) credentials(h http.Header, f form) (agents.Credentials, error) {
	authorization := h.Values("Authorization")
	secret, assertion, kind := f.get("client_secret"), f.get("client_assertion"), f.get("client_assertion_type")
	ways := len(authorization)
	if secret != "" {
		ways++
	}
	if assertion != "" || kind != "" {
		ways++
	}
	switch {
	case ways > 1:
		return agents.Credentials{}, malformed("a client authenticates in one way")
	case len(authorization) == 1:
		return named(f, basic(authorization[0]))
	case assertion != "" || kind != "":
		return s.asserted(f, assertion, kind)
	case secret != "":
		if f.get("client_id") == "" {
			return agents.Credentials{}, missing("client_id")
		}
		return agents.Credentials{Method: oauth.AuthSecretPost, ClientID: f.get("client_id"), Secret: secret}, nil
	case f.get("client_id") != "":
		return agents.Credentials{Method: oauth.AuthNone, ClientID: f.get("client_id")}, nil
	default:
		return agents.Credentials{}, errClient(errors.New("no credentials"))
	}
}

// basic reads HTTP Basic, whose both parts are encoded as in a form: RFC 6749 section 2.3.1. What cannot be read names nobody.
func basic(header string) agents.Credentials {
	none := agents.Credentials{Method: oauth.AuthSecretBasic}
	scheme, encoded, _ := strings.Cut(header, " ")
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil || !strings.EqualFold(scheme, "Basic") {
		return none
	}
	rawID, rawSecret, ok := strings.Cut(string(raw), ":")
	id, errID := url.QueryUnescape(rawID)
	secret, errSecret := url.QueryUnescape(rawSecret)
	if !ok || errID != nil || errSecret != nil || id == "" || secret == "" {
		return none
	}
	return agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: id, Secret: secret}
}

// asserted reads an assertion: RFC 7521 section 4.2. Who it is from is taken unverified, to find the key.
func (s *Server) asserted(f form, assertion, kind string) (agents.Credentials, error) {
	if assertion == "" {
		return agents.Credentials{}, missing("client_assertion")
	}
	if kind == "" {
		return agents.Credentials{}, missing("client_assertion_type")
	}
	if kind != oauth.AssertionJWT && kind != oauth.AssertionSPIFFE {
		return agents.Credentials{}, errClient(errors.New("unknown client_assertion_type"))
	}
	iss, sub, err := token.Peek(assertion)
	if err != nil {
		return agents.Credentials{}, errClient(err)
	}
	switch {
	case kind == oauth.AssertionSPIFFE:
		return s.workload(f, oauth.AuthSPIFFEJWT, sub, assertion)
	case s.cfg.Clients.Federates(iss):
		return s.workload(f, oauth.AuthFederated, "", assertion)
	default:
		return named(f, agents.Credentials{Method: oauth.AuthPrivateKeyJWT, ClientID: sub, Assertion: assertion})
	}
}

// named holds the credentials against a client_id that was sent as well.
func named(f form, c agents.Credentials) (agents.Credentials, error) {
	if id := f.get("client_id"); c.ClientID == "" || id != "" && id != c.ClientID {
		return c, errClient(errors.New("the credentials name nobody, or somebody else than client_id"))
	}
	return c, nil
}

func errClient(cause error) error {
	return oauth.Conceal(oauth.InvalidClient, oauth.ReasonClientAuth, "client authentication failed", cause)
}

// present checks who asks, up to the step that spends an assertion. A failure is in the ledger when present returns.
func (s *Server) present(r *http.Request, f form) (agents.Presented, error) {
	creds, err := s.credentials(r.Header, f)
	if err == nil {
		creds, err = s.beside(r, creds)
	}
	if err != nil {
		return agents.Presented{}, s.failed(r, creds, err)
	}
	p, err := s.check(r, creds)
	if err != nil {
		return p, err
	}
	return p, s.spendBeside(r, f, p)
}

// check has credentials checked, under the limits for guessing secrets.
func (s *Server) check(r *http.Request, creds agents.Credentials) (agents.Presented, error) {
	ctx, remote := r.Context(), s.cfg.Remote(r)
	guess := creds.Method == oauth.AuthSecretBasic || creds.Method == oauth.AuthSecretPost
	if guess {
		if err := s.tries.allow(ctx, creds.ClientID, remote); err != nil {
			return agents.Presented{}, err // not in the ledger, which a flood must not fill
		}
	}
	p, err := s.cfg.Clients.Present(ctx, creds)
	if err == nil {
		return p, nil
	}
	if guess && oauth.AsError(err).Code == oauth.InvalidClient {
		if limit := s.tries.failed(ctx, creds.ClientID, remote); limit != nil {
			err = limit
		}
	}
	return p, s.failed(r, creds, err)
}

// authenticate is present, and the step that spends an assertion.
func (s *Server) authenticate(r *http.Request, f form) (agents.Authenticated, error) {
	p, err := s.present(r, f)
	if err != nil {
		return agents.Authenticated{}, err
	}
	return s.settle(r, p)
}

// settle makes a presented client an authenticated one; a failure is in the ledger.
func (s *Server) settle(r *http.Request, p agents.Presented) (agents.Authenticated, error) {
	who, err := s.cfg.Clients.Settle(r.Context(), p)
	if err != nil {
		return who, s.failed(r, agents.Credentials{ClientID: p.ClientID()}, err)
	}
	return who, nil
}

// proven is authenticate for those endpoints that a client which only names itself cannot use.
func (s *Server) proven(r *http.Request, f form) (agents.Authenticated, error) {
	who, err := s.authenticate(r, f)
	if err == nil && who.Public() {
		return who, s.failed(r, agents.Credentials{ClientID: who.ID()}, errClient(errors.New("the client proved nothing")))
	}
	return who, err
}

// failed records that a client could not prove who it is, and gives the refusal.
func (s *Server) failed(r *http.Request, creds agents.Credentials, err error) error {
	e := oauth.AsError(err)
	if e.Code == oauth.TemporarilyUnavailable {
		return err
	}
	event := audit.Event{Kind: audit.KindClient, Client: clip(creds.ClientID), Remote: s.cfg.Remote(r)}
	return s.record(r.Context(), event, err)
}

// record writes the event of a refusal, and gives the refusal, or the one for a ledger that does not answer.
func (s *Server) record(ctx context.Context, event audit.Event, err error) error {
	event.Refused(err)
	if recorded := s.cfg.Record(ctx, event); recorded != nil {
		return recorded
	}
	return err
}

func clip(s string) string { return s[:min(len(s), 256)] }
