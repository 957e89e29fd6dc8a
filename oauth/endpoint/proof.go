package endpoint

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"obolus/agents"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
)

// proof reads and verifies the DPoP proof of a request: RFC 9449 section 4.3. Nil stands for none. What it does not check is
// whether the proof was used before: see spend.
func (s *Server) proof(w http.ResponseWriter, r *http.Request, path string) (*token.Proof, error) {
	p, err := s.verifyProof(r, path)
	if p != nil && err == nil {
		s.announce(w, p)
	}
	return p, err
}

func (s *Server) verifyProof(r *http.Request, path string) (*token.Proof, error) {
	headers := r.Header.Values("DPoP")
	if len(headers) == 0 {
		return nil, nil //nolint:nilnil // a request without a proof is an ordinary one
	}
	if len(headers) > 1 {
		return nil, errProof("there is more than one DPoP proof", nil)
	}
	p, err := token.VerifyProof(headers[0], token.ProofExpect{Method: r.Method, URI: s.target(r) + path, Now: s.cfg.Now})
	if err != nil {
		return nil, errProof("the DPoP proof is not valid for this request", err)
	}
	if s.cfg.Settings.RequireNonce && !s.nonces.valid(p.Nonce) {
		return nil, &oauth.Error{
			Code: oauth.UseDPoPNonce, Reason: oauth.ReasonProof, Description: "repeat the request with the nonce in DPoP-Nonce",
		}
	}
	return p, nil
}

// announce tells the client of a nonce that is newer than the one it used.
func (s *Server) announce(w http.ResponseWriter, p *token.Proof) {
	if !s.cfg.Settings.RequireNonce {
		return
	}
	if now := s.nonces.current(); p.Nonce != now {
		w.Header().Set("DPoP-Nonce", now)
	}
}

func errProof(description string, cause error) error {
	return &oauth.Error{Code: oauth.InvalidDPoPProof, Reason: oauth.ReasonProof, Description: description, Err: cause}
}

// proofMemory is how long a proof is remembered: longer than its window in both directions.
const proofMemory = 2 * time.Minute

// once is the commit by which a proof is spent, for one kind of place.
func once(place string, p *token.Proof) store.Commit {
	return agents.Once(place, p.JKT+" "+p.ID, proofMemory)
}

// spent says whether the commit was the first with this proof, in an epoch that remembers all of its time.
func (s *Server) spent(p *token.Proof, out store.Outcome) error {
	began := s.cfg.Live.Epoch().Began
	if out.Applied && (began.IsZero() || p.IssuedAt.After(began.Truncate(time.Second))) {
		return nil
	}
	return &oauth.Error{
		Code: oauth.InvalidDPoPProof, Reason: oauth.ReasonProofUsed,
		Description: "the DPoP proof was used before or is older than the server's memory",
	}
}

// nonceSlot is how long a nonce is the current one. It is accepted for as long again.
const nonceSlot = 2 * time.Minute

// nonces makes and knows the nonces of DPoP proofs without remembering any: each is a slot of time under a key, so that servers
// which share the key accept each other's.
type nonces struct {
	key []byte
	now func() time.Time
}

func (n nonces) current() string { return n.at(n.slot()) }

func (n nonces) valid(nonce string) bool {
	slot := n.slot()
	for _, s := range []int64{slot, slot - 1} {
		if nonce != "" && hmac.Equal([]byte(nonce), []byte(n.at(s))) {
			return true
		}
	}
	return false
}

func (n nonces) slot() int64 { return n.now().Unix() / int64(nonceSlot/time.Second) }

func (n nonces) at(slot int64) string {
	mac := hmac.New(sha256.New, n.key)
	mac.Write(strconv.AppendInt([]byte("dpop nonce "), slot, 10))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}
