package endpoint

import (
	"errors"
	"net/http"
	"strings"

	"obolus/agents"
	"obolus/oauth"
	"obolus/token"
	"obolus/transaction"
)

// redeemed is the answer to a redemption: docs/redemption.md. The members of RFC 7662 are in it too, so that an introspection
// client which is pointed here uses a token once without knowing.
type redeemed struct {
	Redemption string `json:"redemption"` // first or repeat
	RedeemedAt int64  `json:"redeemed_at"`
	Receipt    string `json:"receipt"`
	facts
}

// redeem lets a resource server claim the one transaction of a token.
func (s *Server) redeem(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(w, r)
	if err != nil {
		return err
	}
	who, err := s.present(r, f)
	if err == nil && who.Public() {
		err = s.failed(r, agents.Credentials{ClientID: who.ClientID()}, errClient(errors.New("the client proved nothing")))
	}
	if err != nil {
		return err
	}
	if err := checkRedemption(f); err != nil {
		return err
	}
	done, err := s.cfg.Transactions.Redeem(r.Context(), transaction.Redemption{
		Server: who, Token: f.get("token"), ID: f.get("redemption_id"), Hash: f.get("request_hash"), JKT: f.get("jkt"), X5T: f.get("x5t#S256"),
		Remote: s.cfg.Remote(r),
	})
	if err != nil {
		return err
	}
	write(w, http.StatusOK, redeemedOf(done))
	return nil
}

func redeemedOf(done transaction.Redeemed) redeemed {
	answer := redeemed{Redemption: "first", RedeemedAt: done.At.Unix(), Receipt: done.Receipt, facts: factsOf(done.Claims)}
	if done.Repeat {
		answer.Redemption = "repeat"
	}
	return answer
}

// The longest redemption_id and request_hash.
const maxRedemption = 256

func checkRedemption(f form) error {
	switch {
	case f.get("token") == "":
		return missing("token")
	case len(f.get("redemption_id")) > maxRedemption || len(f.get("request_hash")) > maxRedemption:
		return malformed("redemption_id and request_hash have at most 256 characters")
	case f.get("jkt") != "" && !isDigest(f.get("jkt")):
		return malformed("jkt is not a SHA-256 thumbprint in base64url")
	case f.get("x5t#S256") != "" && !isDigest(f.get("x5t#S256")):
		return malformed("x5t#S256 is not a SHA-256 thumbprint in base64url")
	default:
		return nil
	}
}

// revoke is RFC 7009. token_type_hint is not needed to find a token, and ignored as section 2.1 allows.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(w, r)
	if err != nil {
		return err
	}
	who, err := s.authenticate(r, f)
	if err != nil {
		return err
	}
	if f.get("token") == "" {
		return missing("token")
	}
	if err := s.cfg.Transactions.Revoke(r.Context(), who, f.get("token"), s.cfg.Remote(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// assertionHeader carries a client assertion where there is no body to carry it.
const assertionHeader = "Client-Assertion"

// txn tells where a transaction stands, to the client or agent that owns it, a resource server it is for, or its signed-in user. A client
// authenticates by Basic or by an assertion in the header Client-Assertion.
func (s *Server) txn(w http.ResponseWriter, r *http.Request, id string) error {
	user, who, err := s.asker(r)
	if err != nil {
		return err
	}
	found, err := s.cfg.Transactions.Status(r.Context(), who, user, id)
	if err != nil {
		return noTxn(err)
	}
	write(w, http.StatusOK, found)
	return nil
}

// asker is who asks for a status: a client, or a person. A client that is not named by its credential says client_id in the query.
func (s *Server) asker(r *http.Request) (user string, who agents.Authenticated, err error) {
	f, err := bodiless(r)
	if err != nil {
		return "", who, err
	}
	if r.Header.Get("Authorization") == "" && f.get("client_assertion") == "" && f.get("client_id") == "" && s.cfg.User != nil {
		if user, ok := s.cfg.User(r); ok {
			return user, who, nil
		}
	}
	who, err = s.proven(r, f)
	return "", who, err
}

// bodiless is the form of a request without a body: the parameters by which a client authenticates, from the query and the header.
func bodiless(r *http.Request) (form, error) {
	f := form{values: map[string][]string{}}
	if id := r.URL.Query().Get("client_id"); id != "" {
		f.values.Set("client_id", id)
	}
	assertions := r.Header.Values(assertionHeader)
	if len(assertions) == 0 {
		return f, nil
	}
	if len(assertions) > 1 || len(assertions[0]) > maxToken {
		return f, malformed("there is one " + assertionHeader + ", of at most 16 KiB")
	}
	f.values.Set("client_assertion", assertions[0])
	f.values.Set("client_assertion_type", oauth.AssertionJWT)
	if _, sub, err := token.Peek(assertions[0]); err == nil && strings.HasPrefix(sub, "spiffe://") {
		f.values.Set("client_assertion_type", oauth.AssertionSPIFFE)
	}
	return f, nil
}

// report takes what a resource server says of how a transaction went.
func (s *Server) report(w http.ResponseWriter, r *http.Request, id string) error {
	f, err := readForm(w, r)
	if err != nil {
		return err
	}
	who, err := s.proven(r, f)
	if err != nil {
		return err
	}
	said := transaction.Phase(f.get("status"))
	switch said {
	case transaction.PhaseCommitted, transaction.PhaseFailed, transaction.PhaseIndeterminate:
	case "":
		return missing("status")
	default:
		return malformed("status is committed, failed or indeterminate")
	}
	if err := s.cfg.Transactions.Report(r.Context(), who, id, said, s.cfg.Remote(r)); err != nil {
		return noTxn(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// noTxn is alike for a transaction that never was and one of somebody else's.
func noTxn(err error) error {
	if errors.Is(err, transaction.ErrNotFound) {
		return status(http.StatusNotFound, oauth.ReasonTokenUnknown, "there is no such transaction")
	}
	return err
}
