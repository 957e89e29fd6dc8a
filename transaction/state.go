package transaction

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"obolus/store"
	"obolus/token"
)

// The live state of a transaction lies in one partition, that of its lineage: the first transaction and all that were
// derived from it by onward exchange. In it are
//
//	t/<jti>   issued: the token may be redeemed, or for a session token, used; its value is the generations of then. Written at
//	          issuance; its absence refuses.
//	r/<path>  redeemed: who claimed the transaction, under which id
//	s/<path>  stopped: this transaction and all below it
//
// where path is the txn without its prefix. A txn is "txn_", nine digits of time and 22 characters of chance, with "." and 8 more
// characters for each onward exchange; a jti is the epoch, the path, and a part of its own. So a token names its partition
// and its epoch.

const txnPrefix = "txn_"

// redeemed is the record of a claim.
type redeemed struct {
	Server  string `json:"s"`
	ID      string `json:"d"`
	Hash    string `json:"h,omitempty"`
	JTI     string `json:"j"`
	At      int64  `json:"t"`
	Receipt string `json:"r"`
	Also    string `json:"x,omitempty"`
	Report  Phase  `json:"p,omitempty"` // what the resource server told later
}

// path is where a token stands in its lineage.
type path string

func (p path) root() string                 { root, _, _ := strings.Cut(string(p), "."); return root }
func (p path) partition() string            { return "txn/" + p.root() }
func (p path) txn() string                  { return txnPrefix + string(p) }
func (p path) redeemedName() string         { return "r/" + string(p) }
func (p path) stoppedName() string          { return "s/" + string(p) }
func (p path) issuedName(jti string) string { return "t/" + jti }

// above lists the path and its ancestors, itself first.
func (p path) above() []path {
	list := []path{p}
	for i := len(p) - 1; i > 0; i-- {
		if p[i] == '.' {
			list = append(list, p[:i])
		}
	}
	return list
}

// splitJTI takes a jti of ours apart into its epoch and its path; ok is false for anything else.
func splitJTI(jti string) (epoch uint64, p path, ok bool) {
	head, rest, found := strings.Cut(jti, ".")
	last := strings.LastIndexByte(rest, '.')
	if !found || last < 22 || len(head) < 2 || head[0] != 'e' || len(jti) > 144 {
		return 0, "", false
	}
	epoch, err := strconv.ParseUint(head[1:], 36, 64)
	return epoch, path(rest[:last]), err == nil
}

func pathOf(txn string) (path, bool) {
	rest, ok := strings.CutPrefix(txn, txnPrefix)
	if !ok || len(rest) < 22 || len(rest) > 112 || strings.ContainsFunc(rest, func(r rune) bool { return r <= 0x20 || r > 0x7e || r == '/' }) {
		return "", false
	}
	return path(rest), true
}

// Name makes the names of a new token: the txn and the jti. A parent txn makes it a part of that lineage; an exchange that its
// agent has named keeps its txn.
func (t *Transactions) Name(parent string, k *Keyed) (txn, jti string) {
	epoch := t.cfg.Live.Epoch().Number
	if k != nil {
		return k.name(epoch)
	}
	p := path(stamp(t.cfg.Now()) + random(16))
	if above, ok := pathOf(parent); ok {
		p = above + "." + path(random(6))
	}
	return p.txn(), jtiOf(epoch, p)
}

// stamp writes the time so that later is greater: what happens at one time lies together in every order of names, and a store that
// keeps an order on disk writes a few pages for many transactions instead of one for each. Nobody reads it.
func stamp(now time.Time) string {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var out [9]byte
	for ms, i := now.UnixMilli(), len(out)-1; i >= 0; ms, i = ms>>5, i-1 {
		out[i] = digits[ms&31]
	}
	return string(out[:])
}

func jtiOf(epoch uint64, p path) string {
	return "e" + strconv.FormatUint(epoch, 36) + "." + string(p) + "." + random(6)
}

func random(n int) string {
	raw := make([]byte, n)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Watched are the stops that reach a token, in a fixed order: its user, every actor of its chain, the client it was issued
// to, the client or the issuer through which the user came, its grant and the key that signs it. At issuance their versions go into
// its record; at redemption they must be the same.
func Watched(c token.Claims, kid string) ([]store.Key, error) {
	keys := append(make([]store.Key, 0, 8), stopKey(KindUser, c.Subject))
	actors, err := c.Act.Chain(maxChain)
	if err != nil {
		return nil, fmt.Errorf("actors of the token: %w", err)
	}
	for _, actor := range actors {
		keys = append(keys, stopKey(KindAgent, actor.Subject))
	}
	if len(actors) == 0 {
		keys = append(keys, stopKey(KindClient, c.ClientID))
	}
	if c.Context != nil && c.Context.Origin != "" {
		keys = append(keys, stopKey(KindClient, c.Context.Origin))
	}
	if c.Context != nil && c.Context.Issuer != "" {
		keys = append(keys, stopKey(KindIssuer, c.Context.Issuer))
	}
	if c.Context != nil && c.Context.Consent != "" {
		keys = append(keys, stopKey(KindGrant, c.Context.Consent))
	}
	return append(keys, stopKey(KindKey, kid)), nil
}

const maxChain = 16

// source is the live record of the user's token that a token was derived from, if it is one of ours.
func source(c token.Claims) (store.Key, bool) {
	if c.Context == nil || c.Context.Source == "" {
		return store.Key{}, false
	}
	return IssuedKey(c.Context.Source)
}

// IssuedKey is the live record that lets a token of ours count, by its jti.
func IssuedKey(jti string) (store.Key, bool) {
	_, p, ok := splitJTI(jti)
	if !ok {
		return store.Key{}, false
	}
	return store.Key{Partition: p.partition(), Name: p.issuedName(jti)}, true
}

// generations are the versions of what Watched names, in its order, as the record of an outstanding token keeps them. Two are the
// same if their bytes are.
func generations(versions []uint64) []byte {
	out := make([]byte, 0, 8*len(versions))
	for _, v := range versions {
		out = append(strconv.AppendUint(out, v, 10), ' ')
	}
	return out
}

func (r redeemed) json() []byte {
	data, _ := json.Marshal(r) //nolint:errchkjson // strings and numbers only
	return data
}

func seconds(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}
