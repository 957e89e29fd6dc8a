package endpoint

import (
	"encoding/json"
	"net/http"

	"obolus/oauth"
	"obolus/token"
)

// facts are what a resource server learns of an active token: RFC 7662 section 2.2, RFC 8693 section 4, RFC 9396 section 9.2,
// RFC 9449 section 6.2.
type facts struct {
	Active    bool                `json:"active"`
	Scope     string              `json:"scope,omitempty"`
	ClientID  string              `json:"client_id"`
	TokenType string              `json:"token_type"`
	Expires   int64               `json:"exp"`
	IssuedAt  int64               `json:"iat"`
	NotBefore int64               `json:"nbf,omitempty"`
	Subject   string              `json:"sub"`
	Audience  token.Audience      `json:"aud"`
	Issuer    string              `json:"iss"`
	ID        string              `json:"jti"`
	Txn       string              `json:"txn,omitempty"`
	TxnMode   string              `json:"txn_mode,omitempty"`
	Act       *token.Actor        `json:"act,omitempty"`
	Confirm   *token.Confirmation `json:"cnf,omitempty"`
	Details   json.RawMessage     `json:"authorization_details,omitempty"`
	AuthTime  int64               `json:"auth_time,omitempty"`
	ACR       string              `json:"acr,omitempty"`
	AMR       []string            `json:"amr,omitempty"`
}

func factsOf(c token.Claims) facts {
	f := facts{
		Active: true, Scope: c.Scope, ClientID: c.ClientID, TokenType: oauth.Bearer, Expires: c.Expires, IssuedAt: c.IssuedAt,
		NotBefore: c.NotBefore, Subject: c.Subject, Audience: c.Audience, Issuer: c.Issuer, ID: c.ID, Txn: c.Txn, TxnMode: c.TxnMode,
		Act: c.Act, Confirm: c.Confirm, Details: c.Details, AuthTime: c.AuthTime, ACR: c.ACR, AMR: c.AMR,
	}
	if c.Confirm != nil && c.Confirm.JKT != "" {
		f.TokenType = oauth.DPoP
	}
	return f
}

// introspect is RFC 7662: it tells about a token to those whom it concerns, and changes nothing. Whatever is not active for the
// one who asks reads the same.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(w, r)
	if err != nil {
		return err
	}
	who, err := s.proven(r, f)
	if err != nil {
		return err
	}
	if err := s.asked.allow(who.ID()); err != nil {
		return err
	}
	if f.get("token") == "" {
		return missing("token")
	}
	found, err := s.cfg.Transactions.Introspect(r.Context(), who, f.get("token"))
	if err != nil {
		return err
	}
	if !found.Active {
		write(w, http.StatusOK, map[string]bool{"active": false})
		return nil
	}
	write(w, http.StatusOK, factsOf(found.Claims))
	return nil
}
