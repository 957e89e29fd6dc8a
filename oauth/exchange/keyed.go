package exchange

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/token"
	"obolus/transaction"
)

// An agent that names its request by an Idempotency-Key gets the same transaction for it again when the answer was lost, in a token
// that supersedes the lost one, paid for once. Everything is decided anew: who asks, what the user still allows, the
// guardrails.

const maxKey = 255 // characters of an Idempotency-Key

// name makes the name of the request, if its agent gave it one.
func (a ask) name(client string, s subject) (*transaction.Keyed, error) {
	if a.IdempotencyKey == "" {
		return nil, nil //nolint:nilnil // most requests have no name
	}
	if len(a.IdempotencyKey) > maxKey {
		return nil, oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "the Idempotency-Key is too long")
	}
	parent := ""
	if s.own != nil && s.claims.TxnMode == oauth.ModeRedeem {
		parent = s.claims.Txn
	}
	return transaction.NewKeyed(client, a.IdempotencyKey, parent, a.digest()), nil
}

// digest is of everything that was asked, without what is new in every request: the credential and the proof.
func (a ask) digest() string {
	parts := []string{
		a.SubjectToken, string(a.SubjectTokenType), string(a.ActorTokenType), string(a.RequestedTokenType), a.Scope, a.Details,
		strings.Join(a.Resources, " "), strings.Join(a.Audiences, " "),
	}
	quoted, _ := json.Marshal(parts) //nolint:errchkjson // strings only
	return token.Hash(string(quoted))
}

// paidBy finds the grant that paid for the earlier exchange of the same name. That it is used up by now does not matter: it was used
// for this. Taken back, it is.
func (x *Exchange) paidBy(f *facts, l limits) (consent.Grant, granted, error) {
	i := slices.IndexFunc(f.bundle.Grants, func(d consent.Drawn) bool { return d.ID == f.earlier.Grant })
	if i < 0 || !f.bundle.Grants[i].LiveAt(x.cfg.Now()) || f.bundle.Grants[i].AgentKeys != f.who.Fingerprint() {
		return consent.Grant{}, granted{}, oauth.Refuse(oauth.AccessDenied, oauth.ReasonGrantWithdrawn, "the user has taken the consent back")
	}
	g := f.bundle.Grants[i].Grant
	out, err := narrow(l.within(g))
	return g, out, err
}

// duplicate answers a request whose very bytes came twice, as networks and HTTP clients do, with the answer that the first one got:
// when its assertion or its proof was spent by that. The answer is bound to the agent's key, or it is not given.
func (x *Exchange) duplicate(ctx context.Context, d duplicated, event *audit.Event) (oauth.TokenAnswer, error) {
	a, refusal := d.ask, d.refusal
	spent := slices.Contains([]oauth.Reason{oauth.ReasonAssertionUsed, oauth.ReasonProofUsed}, oauth.AsError(refusal).Reason)
	k, err := a.name(d.who, d.subject)
	if !spent || err != nil || k == nil || a.Proof == nil || a.Bytes == [32]byte{} {
		return oauth.TokenAnswer{}, refusal
	}
	sealed, err := x.cfg.Transactions.Answered(ctx, k)
	if errors.Is(err, transaction.ErrNoAnswer) {
		return oauth.TokenAnswer{}, refusal
	}
	if err != nil {
		return oauth.TokenAnswer{}, err
	}
	var answer oauth.TokenAnswer
	if plain, err := a.open(sealed); err != nil || json.Unmarshal(plain, &answer) != nil {
		return oauth.TokenAnswer{}, refusal
	}
	event.User, event.Txn, event.Why = d.subject.user, answer.Txn, "the same request was delivered twice"
	return answer, nil
}

// duplicated is a request that was refused when its credential and its proof were to be spent.
type duplicated struct {
	who     string
	ask     ask
	subject subject
	refusal error
}

// keep keeps the answer for duplicate.
func (x *Exchange) keep(ctx context.Context, f *facts, answer oauth.TokenAnswer) error {
	if f.named == nil || f.ask.Proof == nil || f.ask.Bytes == [32]byte{} {
		return nil
	}
	plain, err := json.Marshal(answer) //nolint:gosec // it is sealed before it goes anywhere
	if err != nil {
		return err
	}
	sealed, err := f.ask.seal(plain)
	if err != nil {
		return err
	}
	return x.cfg.Transactions.KeepAnswer(ctx, f.named, sealed)
}

// box is a cipher whose key is the digest of the request's bytes: with it only one text is ever sealed, so the nonce may stand
// still.
func (a ask) box() (cipher.AEAD, error) {
	key := sha256.Sum256(append([]byte("obolus answer\n"), a.Bytes[:]...))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (a ask) seal(plain []byte) ([]byte, error) {
	box, err := a.box()
	if err != nil {
		return nil, err
	}
	return box.Seal(nil, make([]byte, box.NonceSize()), plain, nil), nil //nolint:gosec // one key, one text: see box
}

func (a ask) open(sealed []byte) ([]byte, error) {
	box, err := a.box()
	if err != nil {
		return nil, err
	}
	return box.Open(nil, make([]byte, box.NonceSize()), sealed, nil)
}
