package transaction

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
)

// An agent may name an exchange by an Idempotency-Key, so that an answer which was lost can be asked for again: the same
// transaction, paid for once, in a token that supersedes the lost one. The name of the transaction is made from the key, and the
// partition of the transaction holds, beside the records that every transaction has,
//
//	k/<path>  keyed: what was asked under the key, and the one token that now stands for it
//	a/<path>  answered: the answer itself for a few seconds, sealed under the bytes of the request (see Answered)

// Keyed is an exchange that its agent has named.
type Keyed struct {
	path path
	body string // digest of what was asked
}

// keyed is the record of a named exchange.
type keyed struct {
	Body  string `json:"b"`
	Done  bool   `json:"d,omitempty"`
	JTI   string `json:"j,omitempty"`
	Grant string `json:"g,omitempty"`
}

func (p path) keyedName() string    { return "k/" + string(p) }
func (p path) answeredName() string { return "a/" + string(p) }

// begun is how long an exchange that has begun keeps others of its name out. One that was lost meanwhile is found again by its
// draw, which names the transaction.
const begun = 30 * time.Second

// NewKeyed names an exchange by the client and the key it sent, beneath a parent transaction if there is one. The body is a
// digest of everything that was asked.
func NewKeyed(client, key, parent, body string) *Keyed {
	sum := sha256.Sum256([]byte(client + "\n" + parent + "\n" + key))
	p := path(base64.RawURLEncoding.EncodeToString(sum[:16]))
	if above, ok := pathOf(parent); ok {
		p = above + "." + path(base64.RawURLEncoding.EncodeToString(sum[:6]))
	}
	return &Keyed{path: p, body: body}
}

// Reads are the keys that Earlier judges, to be read in the live store along with others.
func (k *Keyed) Reads() []store.Key {
	part := k.path.partition()
	return []store.Key{{Partition: part, Name: k.path.keyedName()}, {Partition: part, Name: k.path.redeemedName()}}
}

// Earlier is what is known of an exchange of the same name.
type Earlier struct {
	Grant   string // the grant that paid for it; empty: there was none
	version uint64
	jti     string
}

// Earlier reads what was found at Reads. No earlier exchange is the zero value. The refusals are those of the IETF's Idempotency-Key
// draft (422 for another request, 409 for one that is under way), and two of our own for a transaction that cannot be
// had again.
func (t *Transactions) Earlier(ctx context.Context, k *Keyed, recs []store.Record) (Earlier, error) {
	if !recs[0].Exists() {
		return Earlier{}, t.beforeTheEpoch(ctx, k)
	}
	var was keyed
	if err := json.Unmarshal(recs[0].Value, &was); err != nil {
		return Earlier{}, err
	}
	switch {
	case was.Body != k.body:
		refusal := oauth.Refuse(oauth.InvalidRequest, oauth.ReasonKeyReused, "the Idempotency-Key was used for another request")
		refusal.HTTPStatus = 422
		return Earlier{}, refusal
	case recs[1].Exists():
		return Earlier{}, errConsumed()
	case !was.Done:
		return Earlier{}, errUnderWay()
	default:
		return Earlier{Grant: was.Grant, version: recs[0].Version, jti: was.JTI}, nil
	}
}

func errConsumed() error {
	return oauth.Refuse(oauth.TransactionConsumed, oauth.ReasonConsumed, "the transaction of this Idempotency-Key has been redeemed")
}

func errUnderWay() error {
	refusal := oauth.Refuse(oauth.InvalidRequest, oauth.ReasonKeyBusy, "a request with this Idempotency-Key is under way")
	refusal.HTTPStatus, refusal.RetryAfter = 409, time.Second
	return refusal
}

// beforeTheEpoch asks the ledger whether the live store has forgotten a transaction of this name. One that was issued is never
// issued again: whether it was redeemed may have been forgotten as well.
func (t *Transactions) beforeTheEpoch(ctx context.Context, k *Keyed) error {
	events, err := t.cfg.Ledger.Events(ctx, audit.Filter{Txn: k.path.txn()})
	if err != nil {
		return oauth.Unavailable(err)
	}
	switch story, about := statusOf(events); {
	case about.JTI == "":
		return nil
	case !story.Redeemed.IsZero():
		return errConsumed()
	}
	// Or it was issued in the moment between the look at the live store and the one at the ledger: then it is known by now.
	recs, err := store.Read(ctx, t.cfg.Live, store.Key{Partition: k.path.partition(), Name: k.path.keyedName()})
	switch {
	case err != nil:
		return oauth.Unavailable(err)
	case recs[0].Exists():
		return errUnderWay()
	default:
		return oauth.Refuse(oauth.TransactionIndeterminate, oauth.ReasonIndeterminate,
			"the server cannot tell any more whether the transaction of this Idempotency-Key was redeemed")
	}
}

// Begin keeps other exchanges of the same name out before anything is drawn. It does nothing where there was an earlier one:
// superseding has its own condition.
func (t *Transactions) Begin(ctx context.Context, k *Keyed, was Earlier) error {
	if k == nil || was.version != 0 {
		return nil
	}
	out, err := store.Apply(ctx, t.cfg.Live, store.Commit{
		Partition: k.path.partition(),
		If:        []store.Condition{{Name: k.path.keyedName(), Is: store.Absent}},
		Writes:    []store.Write{{Name: k.path.keyedName(), Value: keyed{Body: k.body}.json(), TTL: begun}},
	})
	switch {
	case err != nil:
		return oauth.Unavailable(err)
	case !out.Applied:
		return errUnderWay()
	default:
		return nil
	}
}

// Abandon lets go of a name under which nothing was issued after all.
func (t *Transactions) Abandon(ctx context.Context, k *Keyed, was Earlier) error {
	if k == nil || was.version != 0 {
		return nil
	}
	_, err := store.Apply(ctx, t.cfg.Live, store.Commit{
		Partition: k.path.partition(), Writes: []store.Write{{Name: k.path.keyedName(), Delete: true}},
	})
	return unavailable(err)
}

// name makes the jti of the next token of a named exchange.
func (k *Keyed) name(epoch uint64) (txn, jti string) { return k.path.txn(), jtiOf(epoch, k.path) }

// supersede adds to the commit of an issuance what makes the new token the only one of its name: nobody has redeemed the
// transaction, nobody else has superseded the token meanwhile, and the token from before is gone.
func (k *Keyed) supersede(c *store.Commit, was Earlier, now keyed, ttl time.Duration) {
	c.If = append(c.If, store.Condition{Name: k.path.redeemedName(), Is: store.Absent})
	if was.version != 0 {
		c.If = append(c.If, store.Condition{Name: k.path.keyedName(), Is: store.AtVersion, Version: was.version})
		c.Writes = append(c.Writes, store.Write{Name: k.path.issuedName(was.jti), Delete: true})
	}
	c.Writes = append(c.Writes, store.Write{Name: k.path.keyedName(), Value: now.json(), TTL: ttl})
}

// beaten tells why an issuance under a name was refused.
func (k *Keyed) beaten(out store.Outcome) error {
	for _, rec := range out.Seen {
		if rec.Name == k.path.redeemedName() && rec.Exists() {
			return errConsumed()
		}
		if rec.Name == k.path.stoppedName() && rec.Exists() {
			return oauth.Refuse(oauth.AccessDenied, oauth.ReasonTokenRevoked, "the transaction of this Idempotency-Key was stopped")
		}
	}
	return errUnderWay()
}

func (k keyed) json() []byte {
	data, _ := json.Marshal(k) //nolint:errchkjson // strings and a bool only
	return data
}

// answered is how long an exact duplicate of a request gets the same answer.
const answered = 10 * time.Second

// KeepAnswer keeps the answer to a named exchange for those few seconds in which a network may deliver the same bytes twice. It is
// sealed by the caller under the bytes of the request, so that it is worth nothing to anybody who does not have
// them.
func (t *Transactions) KeepAnswer(ctx context.Context, k *Keyed, sealed []byte) error {
	_, err := store.Apply(ctx, t.cfg.Live, store.Commit{
		Partition: k.path.partition(), Writes: []store.Write{{Name: k.path.answeredName(), Value: sealed, TTL: answered}},
	})
	return unavailable(err)
}

// ErrNoAnswer: none is kept, or no longer.
var ErrNoAnswer = errors.New("no answer is kept")

// Answered is what KeepAnswer kept.
func (t *Transactions) Answered(ctx context.Context, k *Keyed) ([]byte, error) {
	recs, err := store.Read(ctx, t.cfg.Live, store.Key{Partition: k.path.partition(), Name: k.path.answeredName()})
	if err != nil {
		return nil, oauth.Unavailable(err)
	}
	if !recs[0].Exists() {
		return nil, ErrNoAnswer
	}
	return recs[0].Value, nil
}
