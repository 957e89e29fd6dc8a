package exchange

import (
	"obolus/oauth"
	"obolus/token"
)

// held are the keys that a request proves to hold, or that a token is bound to: a key by its thumbprint, and a certificate by its own.
type held struct{ jkt, x5t string }

// bind says what the token to be is bound to. A key goes with an exchange in one of two ways (OAuth Actor Profile, presenter
// transition): continuation, without an actor token, keeps the key of the subject token; with one, the key is that of the new
// presenter. A bound token never becomes an unbound one. A DPoP proof always binds; the certificate of the connection does where
// something demands it: the agent's registration, a credential that could be used again, or a token that is bound to it.
func bind(f *facts, by *actor) (*token.Confirmation, error) {
	have, subject := held{x5t: f.who.Certificate()}, held{}
	if f.ask.Proof != nil {
		have.jkt = f.ask.Proof.JKT
	}
	if c := f.subject.claims.Confirm; c != nil {
		subject = held{jkt: c.JKT, x5t: c.X5T}
	}
	want, kind := subject, "subject"
	if by != nil {
		want, kind = by.held, "actor"
	}
	if err := f.demand(have, want, kind); err != nil {
		return nil, err
	}
	bound := subject != held{} || want != held{} || f.who.Bound()
	c := token.Confirmation{JKT: have.jkt}
	if f.agent.CertificateBound || want.x5t != "" || bound && have.jkt == "" {
		c.X5T = have.x5t
	}
	switch {
	case c != token.Confirmation{}:
		return &c, nil
	case bound:
		return nil, errNoProof()
	default:
		return nil, nil //nolint:nilnil // a token that is bound to nothing is an ordinary one
	}
}

// demand holds what the request proves to what the agent's registration and the token of a kind want of it.
func (f *facts) demand(have, want held, kind string) error {
	switch {
	case have.jkt == "" && f.agent.DPoP:
		return oauth.Refuse(oauth.InvalidDPoPProof, oauth.ReasonProofMissing, "the agent is registered for DPoP and sent no proof")
	case have.jkt == "" && want.jkt != "":
		return errNoProof()
	case want.jkt != "" && have.jkt != want.jkt:
		return oauth.Refuse(oauth.InvalidDPoPProof, oauth.ReasonProof, "the DPoP proof is by another key than that of the "+kind+" token")
	case have.x5t == "" && f.agent.CertificateBound:
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonCertificate, "the agent is registered for tokens bound to its certificate, and showed none")
	case want.x5t != "" && have.x5t != want.x5t:
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonCertificate, "the "+kind+" token is bound to another certificate than that of the connection")
	default:
		return nil
	}
}

func errNoProof() error {
	return oauth.Refuse(oauth.InvalidDPoPProof, oauth.ReasonProofMissing, "a token of the request is bound to a key, and no DPoP proof was sent")
}
