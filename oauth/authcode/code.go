package authcode

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"obolus/oauth"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// issued is the record of a code.
type issued struct {
	Granted  Granted   `json:"granted"`
	Hash     string    `json:"hash"`  // of the secret
	Stops    []uint64  `json:"stops"` // generations of user and client when the user decided
	Expires  time.Time `json:"expires"`
	Spent    bool      `json:"spent,omitempty"`
	Replayed bool      `json:"replayed,omitempty"` // it came again: its token is ended, or will be by who issues it
	JTI      string    `json:"jti,omitempty"`      // of the token that was issued for it
}

// errCode is the one answer to everything that is wrong with a code, so that nobody learns what.
func errCode(reason oauth.Reason, cause error) error {
	return oauth.Conceal(oauth.InvalidGrant, reason, "the code cannot be used", cause)
}

// Redeem spends a code for the first who presents it rightly: of any number at once, one. A code that comes again, and is
// right in everything else, has been stolen or leaked, and ends the token that was issued for it; one that is wrong
// otherwise changes nothing (OAuth 2.1 section 7.5.2). The error is a refusal. Whoever gets an answer issues the token and tells it
// to Issued.
func (f *Flow) Redeem(ctx context.Context, c Claim) (Granted, error) { //nolint:gocognit // one step after the other
	id, secret, ok := splitCode(c.Code)
	if !ok {
		return Granted{}, errCode(oauth.ReasonCode, errors.New("not a code"))
	}
	for {
		recs, err := store.Read(ctx, f.cfg.Live, store.Key{Partition: partition(id), Name: codeName})
		if err != nil {
			return Granted{}, unavailable(err)
		}
		code, err := readCode(recs[0])
		if err != nil {
			return Granted{}, err
		}
		if err := f.check(code, secret, c); err != nil {
			return Granted{}, err
		}
		if code.Spent {
			return Granted{}, f.replayed(ctx, recs[0], code)
		}
		if err := f.unstopped(ctx, code); err != nil {
			return Granted{}, err
		}
		granted := code.Granted
		if c.Narrow != nil {
			if granted.Request, err = c.Narrow(granted.Request); err != nil {
				return Granted{}, err
			}
		}
		code.Spent = true
		out, err := f.put(ctx, recs[0], code, code.Expires)
		if err != nil {
			return Granted{}, err
		}
		if out.Applied {
			return granted, nil
		}
		if out.Late {
			return Granted{}, errCode(oauth.ReasonCode, errors.New("the code has expired"))
		}
	}
}

// Issued tells which token was issued for a redeemed code. If the code has come again meanwhile the token is ended at once,
// and Issued returns without error all the same: what was answered is worth nothing then. If user or client were stopped
// meanwhile the token is ended too, and must not leave: the error is a refusal.
func (f *Flow) Issued(ctx context.Context, code, jti string) error {
	id, _, ok := splitCode(code)
	if !ok {
		return ErrNotFound
	}
	for {
		recs, err := store.Read(ctx, f.cfg.Live, store.Key{Partition: partition(id), Name: codeName})
		if err != nil {
			return unavailable(err)
		}
		kept, err := readCode(recs[0])
		if err != nil {
			return err
		}
		if kept.Replayed {
			return f.stop(ctx, jti, "the authorization code was used twice")
		}
		if err := f.unstopped(ctx, kept); err != nil {
			return errors.Join(err, f.stop(ctx, jti, "user or client were stopped while the token was issued"))
		}
		kept.JTI = jti
		out, err := f.put(ctx, recs[0], kept, time.Time{})
		if err != nil || out.Applied {
			return err
		}
	}
}

// check holds a claim against the code: its secret, client, time, verifier, redirect URI, key and resource. Whether it
// was spent is not looked at here.
func (f *Flow) check(code issued, secret string, c Claim) error {
	r := code.Granted.Request
	switch {
	case subtle.ConstantTimeCompare([]byte(token.Hash(secret)), []byte(code.Hash)) != 1:
		return errCode(oauth.ReasonCode, errors.New("no such code"))
	case r.ClientID != c.ClientID:
		return errCode(oauth.ReasonCode, errors.New("the code of another client"))
	case !code.Spent && !f.cfg.Now().Before(code.Expires):
		return errCode(oauth.ReasonCode, errors.New("the code has expired"))
	case !verifies(c.Verifier, r.Challenge):
		return errCode(oauth.ReasonPKCE, errors.New("the verifier is not that of the challenge"))
	case c.RedirectURI != "" && c.RedirectURI != r.RedirectURI:
		return errCode(oauth.ReasonRedirect, errors.New("another redirect URI"))
	case r.JKT != "" && c.JKT != r.JKT:
		return errCode(oauth.ReasonProof, errors.New("the code is bound to another key"))
	case slices.ContainsFunc(c.Resources, func(s string) bool { return s != r.Resource }):
		return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "the code is for another resource")
	default:
		return nil
	}
}

// replayed ends the token of a code that came again, once. If it is not known yet who issues it will end it.
func (f *Flow) replayed(ctx context.Context, rec store.Record, code issued) error {
	for !code.Replayed {
		if code.JTI != "" {
			if err := f.stop(ctx, code.JTI, "the authorization code was used twice"); err != nil {
				return err
			}
		}
		code.Replayed = true
		out, err := f.put(ctx, rec, code, time.Time{})
		if err != nil {
			return err
		}
		if out.Applied {
			break
		}
		rec = out.Seen[0]
		if code, err = readCode(rec); err != nil {
			return err
		}
	}
	return errCode(oauth.ReasonCode, errors.New("the code was used before"))
}

// stop ends the token of a code.
func (f *Flow) stop(ctx context.Context, jti, why string) error {
	err := f.cfg.Stop(ctx, transaction.Target{Kind: transaction.KindToken, ID: jti}, transaction.Cause{By: "server", Why: why})
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// unstopped refuses a code whose user or client was stopped since the user decided. A stop reaches tokens by itself; a code would
// be a way around it.
func (f *Flow) unstopped(ctx context.Context, code issued) error {
	now, err := f.stops(ctx, code.Granted.User, code.Granted.Request.ClientID)
	if err != nil {
		return err
	}
	if !slices.Equal(now, code.Stops) {
		return errCode(oauth.ReasonUserStopped, errors.New("user or client were stopped since"))
	}
	return nil
}

// stops are the generations of a user and a client.
func (f *Flow) stops(ctx context.Context, user, client string) ([]uint64, error) {
	keys, err := transaction.Watched(token.Claims{Subject: user, ClientID: client}, "-")
	if err != nil {
		return nil, err
	}
	recs, err := f.cfg.Mirror.Read(ctx, keys[:len(keys)-1]...) // no key has signed yet
	if err != nil {
		return nil, unavailable(err)
	}
	gens := make([]uint64, len(recs))
	for i, rec := range recs {
		gens[i] = rec.Version
	}
	return gens, nil
}

// put writes a code where it was read, for as long as a replay of it must be noticed.
func (f *Flow) put(ctx context.Context, rec store.Record, code issued, notAfter time.Time) (store.Outcome, error) {
	out, err := store.Apply(ctx, f.cfg.Live, store.Commit{
		Partition: rec.Partition,
		If:        []store.Condition{{Name: codeName, Is: store.AtVersion, Version: rec.Version}},
		Writes:    []store.Write{{Name: codeName, Value: code.json(), TTL: f.cfg.Remember}},
		NotAfter:  notAfter,
		Spends:    true,
	})
	if err != nil {
		return out, unavailable(err)
	}
	return out, nil
}

// verifies checks a code verifier: RFC 7636 sections 4.1 and 4.6, S256.
func verifies(verifier, challenge string) bool {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	if len(verifier) < 43 || len(verifier) > 128 || strings.Trim(verifier, unreserved) != "" {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) == 1
}

// splitCode takes a code apart into the id of its request and its secret.
func splitCode(code string) (id, secret string, ok bool) {
	if len(code) != 2*idLength {
		return "", "", false
	}
	id, secret = code[:idLength], code[idLength:]
	return id, secret, validID(id) && validID(secret)
}

func (c issued) json() []byte {
	data, _ := json.Marshal(c) //nolint:errchkjson,musttag // strings, times and details that were parsed before
	return data
}

func readCode(rec store.Record) (issued, error) {
	var code issued
	if !rec.Exists() {
		return code, errCode(oauth.ReasonCode, errors.New("no such code"))
	}
	if err := json.Unmarshal(rec.Value, &code); err != nil { //nolint:musttag // its members are named alike on both sides, here alone
		return code, fmt.Errorf("read a code: %w", err)
	}
	return code, nil
}
