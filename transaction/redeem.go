package transaction

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/policy"
	"obolus/store"
	"obolus/token"
)

// Redeem lets a resource server claim the one transaction of a token. The steps are those of the order of checks in
// docs/redemption.md; the claim is the only one that changes anything, and it is one atomic commit.
//
// A claim that turns out to be of a stopped token stays where it is: nothing was accepted, and nothing ever will be.
func (t *Transactions) Redeem(ctx context.Context, r Redemption) (Redeemed, error) {
	event := audit.Event{Kind: audit.KindRedeem, Client: r.Server.ClientID(), RedemptionID: clip(r.ID), Remote: r.Remote}
	answer, err := t.redeem(ctx, r, &event)
	event.Refused(err)
	if recorded := t.Record(ctx, event); recorded != nil {
		return Redeemed{}, recorded
	}
	return answer, err
}

func (t *Transactions) redeem(ctx context.Context, r Redemption, event *audit.Event) (Redeemed, error) {
	if r.Server.ClientID() == "" || r.Server.Public() {
		return Redeemed{}, oauth.Conceal(oauth.InvalidClient, oauth.ReasonClientAuth, "client authentication failed", nil)
	}

	// 1. The token: signature, issuer, type. Its time is judged by what the store remembers.
	v, err := t.cfg.Verifier.Verify(ctx, r.Token)
	expired := errors.Is(err, token.ErrExpired)
	if err != nil && !expired {
		return Redeemed{}, oauth.Conceal(oauth.TokenUnknown, oauth.ReasonTokenInvalid, "the token is not known", err)
	}
	c := v.Claims()
	describe(event, c)

	// 2. The resource server, and whether the token is for it. Both as last seen here; step 4 reads them again.
	res, err := t.resourceOf(ctx, c, r.Server.ClientID())
	if err != nil {
		return Redeemed{}, err
	}
	server, err := t.settleFirst(ctx, r.Server)
	if err != nil {
		return Redeemed{}, err
	}
	if err := t.mayRedeem(r, c, res); err != nil {
		return Redeemed{}, err
	}

	// 3. Guardrails.
	if err := t.guard(ctx, c, res, event); err != nil {
		return Redeemed{}, err
	}

	// 4. Claim, and read in the same round trip whatever could have stopped the token.
	claim, err := t.claim(r, c)
	if err != nil {
		return Redeemed{}, err
	}
	seen, err := t.tryClaim(ctx, claim, server, c, v.KeyID(), res)
	if err != nil {
		return Redeemed{}, err
	}

	// 5. The outcome.
	if err := t.judge(claim, seen, expired); err != nil {
		return Redeemed{}, t.superseded(ctx, claim, err)
	}
	done := seen.done
	if done == nil {
		done = &claim.record
	}
	return Redeemed{Repeat: seen.done != nil, Txn: c.Txn, At: seconds(done.At), Receipt: done.Receipt, Claims: c, Also: done.Also}, nil
}

// claimed is a claim that is about to be tried.
type claimed struct {
	epoch  uint64
	path   path
	jti    string
	exp    int64
	record redeemed
}

// receipt is what a resource server can show later: that it redeemed this token, when, for which request.
type receipt struct {
	Issuer       string `json:"iss"`
	Audience     string `json:"aud"`
	IssuedAt     int64  `json:"iat"`
	Txn          string `json:"txn"`
	TokenID      string `json:"token_jti"`
	RedeemedAt   int64  `json:"redeemed_at"`
	RedemptionID string `json:"redemption_id"`
	RequestHash  string `json:"request_hash"`
	Subject      string `json:"sub"`
	Resource     string `json:"resource"`
}

// claim prepares the record and its receipt. Who names no redemption_id gets one that nobody will ever repeat.
func (t *Transactions) claim(r Redemption, c token.Claims) (claimed, error) {
	epoch, p, ok := splitJTI(c.ID)
	if !ok || c.Txn != p.txn() {
		return claimed{}, oauth.Conceal(oauth.TokenUnknown, oauth.ReasonTokenUnknown, "the token is not known", nil)
	}
	rec := redeemed{Server: r.Server.ClientID(), ID: r.ID, Hash: r.Hash, JTI: c.ID, At: t.cfg.Now().Unix()}
	if rec.ID == "" {
		rec.ID = "anonymous-" + random(16)
	}
	payload, err := json.Marshal(receipt{
		Issuer: t.cfg.Issuer, Audience: rec.Server, IssuedAt: rec.At, Txn: c.Txn, TokenID: c.ID, RedeemedAt: rec.At,
		RedemptionID: rec.ID, RequestHash: rec.Hash, Subject: c.Subject, Resource: c.Audience[0],
	})
	if err != nil {
		return claimed{}, err
	}
	key, err := t.cfg.Keys.Signer("")
	if err != nil {
		return claimed{}, err
	}
	if rec.Receipt, err = t.cfg.Signer.SignAs("txn-receipt+jwt", payload, key); err == nil && r.Also != nil {
		rec.Also, err = r.Also(c, seconds(rec.At))
	}
	return claimed{epoch: epoch, path: p, jti: c.ID, exp: c.Expires, record: rec}, err
}

// found is what the store said about a claim.
type found struct {
	applied bool
	late    bool
	issued  store.Record // absent: not known, or its record has gone
	done    *redeemed    // nil: nobody had claimed it before
	stopped bool
	epoch   uint64
}

// tryClaim is the linearization point of a redemption.
func (t *Transactions) tryClaim(ctx context.Context, cl claimed, server settled, c token.Claims, kid string, res agents.Resource) (found, error) { //nolint:revive // what a claim is made of
	epoch := t.cfg.Live.Epoch().Number
	if cl.epoch != epoch {
		return t.otherEpoch(ctx, cl)
	}
	end := seconds(cl.exp).Add(t.cfg.Leeway)
	conds := []store.Condition{
		{Name: cl.path.issuedName(cl.jti), Is: store.Present},
		{Name: cl.path.redeemedName(), Is: store.Absent},
	}
	for _, up := range cl.path.above() {
		conds = append(conds, store.Condition{Name: up.stoppedName(), Is: store.Absent})
	}
	watched, err := Watched(c, kid)
	if err != nil {
		return found{}, err
	}
	reads := make([]store.Key, 0, len(watched)+4)
	reads = append(reads, server.reads...)
	reads = append(reads, t.cfg.Mirror.Key(agents.TargetKey(res.URI)))
	for _, k := range watched {
		reads = append(reads, t.cfg.Mirror.Key(k))
	}
	src, derived := source(c)
	if derived {
		reads = append(reads, src)
	}
	batch := store.Batch{Reads: reads, Commits: []store.Commit{{
		Partition: cl.path.partition(), If: conds, NotAfter: end, Spends: true,
		Writes: []store.Write{{
			Name: cl.path.redeemedName(), Value: cl.record.json(), TTL: t.remember(c) + outlives,
		}},
	}}}
	got, err := t.cfg.Live.Do(ctx, batch)
	if err != nil {
		return found{}, oauth.Unavailable(err)
	}
	f, err := readClaim(got.Outcomes[0], epoch)
	if err != nil {
		return found{}, err
	}
	return t.confirm(ctx, f, confirmation{
		server: server, res: res, watched: watched, derived: derived, records: got.Records, now: got.Now, claim: cl,
	})
}

// otherEpoch is for a token of another epoch than the one this process is in: it looks whether it has missed one.
func (t *Transactions) otherEpoch(ctx context.Context, cl claimed) (found, error) {
	if err := t.cfg.Live.Renew(ctx); err != nil {
		return found{}, oauth.Unavailable(err)
	}
	now := t.cfg.Live.Epoch().Number
	if cl.epoch == now {
		return found{}, oauth.Unavailable(store.ErrFence)
	}
	return found{epoch: now}, nil
}

func readClaim(out store.Outcome, epoch uint64) (found, error) {
	f := found{applied: out.Applied, late: out.Late, epoch: epoch, issued: out.Seen[0]}
	if rec := out.Seen[1]; rec.Exists() {
		f.done = new(redeemed)
		if err := json.Unmarshal(rec.Value, f.done); err != nil {
			return f, err
		}
	}
	f.stopped = slices.ContainsFunc(out.Seen[2:], store.Record.Exists)
	return f, nil
}

// confirmation is what was read along with a claim.
type confirmation struct {
	server  settled
	res     agents.Resource
	watched []store.Key
	derived bool
	records []store.Record
	now     time.Time
	claim   claimed
}

// confirm holds against the store what step 2 took from this process, and the generations of the token. A claim by
// somebody who turns out not to be the resource server is released: it was never accepted, and must not burn the token.
func (t *Transactions) confirm(ctx context.Context, f found, c confirmation) (found, error) {
	n := len(c.server.reads)
	if err := c.server.confirm(ctx, t, c.records[:n], c.now); err != nil {
		return f, t.release(ctx, f, c.claim, err)
	}
	rec, err := t.cfg.Mirror.Resolve(ctx, agents.TargetKey(c.res.URI), c.records[n], c.now)
	if err != nil {
		return f, oauth.Unavailable(err)
	}
	res, err := t.cfg.Registry.ReadResource(rec)
	if err != nil || !res.Names(c.claim.record.Server) {
		return f, t.release(ctx, f, c.claim, errAudience())
	}
	gens := make([]uint64, len(c.watched))
	for i, k := range c.watched {
		rec, err := t.cfg.Mirror.Resolve(ctx, k, c.records[n+1+i], c.now)
		if err != nil {
			return f, oauth.Unavailable(err)
		}
		gens[i] = rec.Version
	}
	if f.issued.Exists() && !bytes.Equal(f.issued.Value, generations(gens)) {
		f.stopped = true
	}
	if c.derived && !c.records[len(c.records)-1].Exists() {
		f.stopped = true
	}
	return f, nil
}

// release takes back a claim that was not accepted. If even that fails the token stays burnt, which is safe.
func (t *Transactions) release(ctx context.Context, f found, cl claimed, because error) error {
	if !f.applied {
		return because
	}
	_, err := store.Apply(ctx, t.cfg.Live, store.Commit{
		Partition: cl.path.partition(),
		If:        []store.Condition{{Name: cl.path.redeemedName(), Is: store.Present}},
		Writes:    []store.Write{{Name: cl.path.redeemedName(), Delete: true}},
	})
	if err != nil {
		return oauth.Unavailable(errors.Join(because, err))
	}
	return because
}

// judge turns what the store said into the answer, in the order of docs/redemption.md.
func (t *Transactions) judge(cl claimed, f found, expired bool) error {
	if f.epoch != cl.epoch {
		return oauth.Refuse(oauth.StaleEpoch, oauth.ReasonEpoch, "the token is from before the server last lost its memory")
	}
	switch {
	case f.stopped: // also if there is a claim: it may be one that was refused for the same reason
		return oauth.Refuse(oauth.TokenRevoked, oauth.ReasonTokenRevoked, "the token was revoked")
	case f.done != nil:
		return judgeRepeat(cl.record, *f.done)
	case f.applied:
		return nil
	case f.late || expired:
		return oauth.Refuse(oauth.TokenExpired, oauth.ReasonTokenExpired, "the token has expired")
	default:
		return oauth.Refuse(oauth.TokenUnknown, oauth.ReasonTokenUnknown, "the token is not known")
	}
}

// superseded finds out of a token that is not known whether another one has taken its place.
func (t *Transactions) superseded(ctx context.Context, cl claimed, refusal error) error {
	if oauth.AsError(refusal).Code != oauth.TokenUnknown {
		return refusal
	}
	recs, err := store.Read(ctx, t.cfg.Live, store.Key{Partition: cl.path.partition(), Name: cl.path.keyedName()})
	if err != nil {
		return oauth.Unavailable(err)
	}
	var now keyed
	if recs[0].Exists() && json.Unmarshal(recs[0].Value, &now) == nil && now.Done && now.JTI != cl.jti {
		return oauth.Refuse(oauth.TokenSuperseded, oauth.ReasonSuperseded, "another token has taken the place of this one")
	}
	return refusal
}

// judgeRepeat is for a transaction that was claimed before: by the same for the same, or not.
func judgeRepeat(want, have redeemed) error {
	if have.Server != want.Server || have.ID != want.ID {
		return oauth.Refuse(oauth.AlreadyRedeemed, oauth.ReasonRedeemed, "the transaction has been redeemed")
	}
	if have.Hash != want.Hash {
		return oauth.Refuse(oauth.RequestMismatch, oauth.ReasonMismatch, "the redemption_id was used for another request")
	}
	if have.JTI != want.JTI {
		return oauth.Refuse(oauth.TokenSuperseded, oauth.ReasonSuperseded, "the transaction has been redeemed with another token")
	}
	return nil
}

// mayRedeem checks what needs no store: the mode of the token, its audience and its key.
func (t *Transactions) mayRedeem(r Redemption, c token.Claims, res agents.Resource) error {
	if !res.Names(r.Server.ClientID()) {
		return errAudience()
	}
	if c.TxnMode != oauth.ModeRedeem {
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "the token is not for one transaction and needs no redemption")
	}
	bound := token.Confirmation{}
	if c.Confirm != nil {
		bound = *c.Confirm
	}
	if r.JKT != "" && bound.JKT != r.JKT || r.X5T != "" && bound.X5T != r.X5T {
		return oauth.Refuse(oauth.KeyMismatch, oauth.ReasonKey, "the token is bound to another key")
	}
	return nil
}

func errAudience() error {
	return oauth.Refuse(oauth.WrongAudience, oauth.ReasonAudience, "the token is not for this resource server")
}

// resourceOf finds the resource that the token is for: as last seen here if that names the server, for a refusal is only
// given on what the store says.
func (t *Transactions) resourceOf(ctx context.Context, c token.Claims, server string) (agents.Resource, error) {
	if res, ok := t.cfg.Registry.GuessResource(c.Audience[0]); ok && res.Names(server) {
		return res, nil
	}
	res, err := t.cfg.Registry.ResourceAt(ctx, c.Audience[0])
	if errors.Is(err, agents.ErrNotFound) {
		return res, errAudience()
	}
	return res, unavailable(err)
}

// guard asks the guardrails about the redemption. The agent is described as last seen here: what stops it is not this.
func (t *Transactions) guard(ctx context.Context, c token.Claims, res agents.Resource, event *audit.Event) error {
	in := policyInput(c, res, t.cfg.Now())
	agent, err := t.cfg.Registry.SeenAgent(ctx, in.Agent.ID)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return unavailable(err)
	}
	in.Agent.Owner, in.Agent.Operator, in.Agent.Labels = agent.Owner, agent.Operator, agent.Labels
	decision := t.cfg.Decide(in)
	event.PolicyVersion, event.Policies = decision.Version, decision.Policies
	if decision.Allowed {
		return nil
	}
	reason := oauth.ReasonGuardrail
	if len(decision.Errors) > 0 {
		reason = oauth.ReasonGuardrailError
	}
	return oauth.Conceal(oauth.TokenRevoked, reason, "the token was revoked", errors.New(strings.Join(decision.Errors, "; ")))
}

func policyInput(c token.Claims, res agents.Resource, now time.Time) policy.Input {
	in := policy.Input{
		Stage: policy.Redeem, ClientID: c.ClientID, Scopes: c.Scopes(), Now: now,
		Target: policy.Target{ID: res.ID, URI: res.URI, Labels: res.Labels},
		User:   policy.User{ID: c.Subject, AuthTime: seconds(c.AuthTime), ACR: c.ACR},
	}
	if actors, err := c.Act.Chain(maxChain); err == nil && len(actors) > 0 {
		in.Agent.ID = actors[0].Subject
		for _, actor := range actors {
			in.Chain = append(in.Chain, actor.Subject)
		}
	}
	if c.Context != nil {
		in.Consent.ID = c.Context.Consent
	}
	if len(c.Details) > 0 {
		_ = json.Unmarshal(c.Details, &in.Details)
	}
	return in
}

// describe fills the event with what the token says.
func describe(event *audit.Event, c token.Claims) {
	event.User, event.Txn, event.JTI = c.Subject, c.Txn, c.ID
	event.GrantedScope, event.GrantedDetails, event.Expires = c.Scope, c.Details, seconds(c.Expires)
	if len(c.Audience) > 0 {
		event.Target = c.Audience[0]
	}
	if c.Context != nil {
		event.Grant = c.Context.Consent
	}
	actors, err := c.Act.Chain(maxChain)
	if err != nil {
		return
	}
	for i, actor := range actors {
		if i == 0 {
			event.Actor = actor.Subject
		}
		event.Chain = append(event.Chain, actor.Subject)
	}
}

func clip(s string) string { return s[:min(len(s), 256)] }

// settled is a resource server on its way to be authenticated. One that showed an assertion is settled before the
// claim, since a replayed assertion must not burn a token; one that showed a secret along with it.
type settled struct {
	who    agents.Presented
	reads  []store.Key
	before bool
}

func (t *Transactions) settleFirst(ctx context.Context, p agents.Presented) (settled, error) {
	commits, reads := t.cfg.Clients.Batch(p)
	if len(commits) == 0 {
		return settled{who: p, reads: reads}, nil
	}
	_, err := t.cfg.Clients.Settle(ctx, p)
	return settled{who: p, before: true}, err
}

func (s settled) confirm(ctx context.Context, t *Transactions, records []store.Record, now time.Time) error {
	if s.before {
		return nil
	}
	_, err := t.cfg.Clients.Confirm(ctx, s.who, store.Results{Records: records, Now: now})
	return err
}
