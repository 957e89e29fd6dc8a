//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/keys"
	"obolus/oauth"
	"obolus/policy"
	"obolus/store"
	"obolus/store/bolt"
	"obolus/store/memory"
	"obolus/store/postgres"
	"obolus/store/redis"
	"obolus/token"
	"obolus/transaction"
)

// fill is what runFill is asked for.
type fill struct {
	records, live  string
	issuer, key    string
	agents, tokens int
	lifetime       time.Duration
}

// The most that fill makes.
const (
	maxAgents = 5_000_000
	maxTokens = 50_000_000
)

// runFill makes agents, each with a grant of one user, and outstanding tokens, straight into the stores, through the packages that keep
// them. No server may use the bolt file meanwhile.
func runFill(ctx context.Context, args []string) error {
	var o fill
	f := flag.NewFlagSet("bench fill", flag.ContinueOnError)
	f.StringVar(&o.records, "records", "", "bolt:PATH or postgres://…")
	f.StringVar(&o.live, "live", "", "redis://…; needed for tokens")
	f.StringVar(&o.issuer, "issuer", "", "whose tokens")
	f.StringVar(&o.key, "key", "", "file with the private key of all agents, PEM")
	f.IntVar(&o.agents, "agents", 0, "how many agents, each with a grant")
	f.IntVar(&o.tokens, "tokens", 0, "how many outstanding tokens")
	f.DurationVar(&o.lifetime, "lifetime", 2*time.Hour, "of the tokens")
	if err := f.Parse(args); err != nil {
		return err
	}
	return o.run(ctx)
}

func (o fill) run(ctx context.Context) error {
	if o.agents > maxAgents || o.tokens > maxTokens || o.issuer == "" {
		return fmt.Errorf("an issuer, at most %d agents and %d tokens", maxAgents, maxTokens)
	}
	records, err := openRecords(ctx, o.records)
	if err != nil {
		return err
	}
	defer records.Close()
	if o.agents > 0 {
		if err := o.fillAgents(ctx, records); err != nil {
			return fmt.Errorf("agents: %w", err)
		}
	}
	if o.tokens > 0 {
		if err := o.fillTokens(ctx, records); err != nil {
			return fmt.Errorf("tokens: %w", err)
		}
	}
	return nil
}

func openRecords(ctx context.Context, address string) (store.Engine, error) {
	file, ok := strings.CutPrefix(address, "bolt:")
	if !ok {
		return postgres.Open(ctx, address, postgres.Options{})
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return bolt.Open(file, bolt.Options{Now: now})
}

// core is the part of the server that fill needs.
type core struct {
	live     *store.Live
	registry *agents.Registry
	consents *consent.Book
	life     *transaction.Transactions
	recorder *audit.Recorder
}

func newCore(ctx context.Context, issuer string, records, engine store.Engine) (*core, error) {
	c := &core{}
	var err error
	if c.live, err = store.OpenLive(ctx, engine, records); err != nil {
		return nil, err
	}
	mirror := store.NewMirror(records, c.live)
	c.recorder = audit.NewRecorder(ctx, records, now)
	c.registry = agents.NewRegistry(records, mirror)
	c.consents = consent.NewBook(consent.BookConfig{
		Records: records, Live: c.live, Mirror: mirror, Record: c.recorder.Record, Now: now,
		InteractionLifetime: time.Hour, MaxLifetime: 1000 * time.Hour,
	})
	clients, err1 := agents.NewAuthenticator(agents.AuthenticatorConfig{
		Registry: c.registry, Live: c.live, Mirror: mirror, Issuer: issuer, Now: now, SecretKey: make([]byte, 32),
		KeysAt: func(string) token.KeySource { return token.NewPublicSet() },
	})
	ring, err2 := keys.Open(ctx, keys.Config{Records: records, Master: [32]byte([]byte(masterKey)), Default: token.ES256, Now: now, Overlap: 25 * time.Hour})
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	verifier, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: ring, Now: now})
	if err != nil {
		return nil, err
	}
	c.life, err = transaction.New(transaction.Config{
		Issuer: issuer, Live: c.live, Mirror: mirror, Registry: c.registry, Clients: clients, Keys: ring, Signer: token.NewIssuer(issuer),
		Verifier: verifier, Recorder: c.recorder, Ledger: audit.NewLedger(records), Now: now, Retention: 10 * time.Minute,
		Decide: func(policy.Input) policy.Decision { return policy.Decision{Allowed: true} },
	})
	return c, err
}

func (c *core) close() { c.recorder.Close() }

// agentID names an agent. Its letters are those that nobody takes for others, because names that look alike are refused.
func agentID(i int) string {
	const letters = "bcdfghjkmp"
	var b strings.Builder
	for _, digit := range fmt.Sprintf("%08d", i) {
		b.WriteByte(letters[digit-'0'])
	}
	return "agent-" + b.String()
}

// chunk is how many agents are made on one live store that is thrown away: questions to users are not what is to be filled in.
const chunk = 20_000

func (o fill) fillAgents(ctx context.Context, records store.Engine) error {
	pem, err := os.ReadFile(o.key)
	if err != nil {
		return err
	}
	key, err := token.ParsePrivateKeyPEM(pem, token.ES256)
	if err != nil {
		return err
	}
	jwks, err := token.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		return err
	}
	for from := 0; from < o.agents; from += chunk {
		n := min(chunk, o.agents-from)
		c, err := newCore(ctx, o.issuer, records, memory.New(now))
		if err != nil {
			return err
		}
		_, err = concurrently(128, n, func(i int) error { return c.allowed(ctx, agentID(from+i), jwks) })
		c.close()
		if err = errors.Join(err, c.live.Close()); err != nil {
			return err
		}
	}
	return nil
}

// allowed registers an agent and has the user allow it to read mail, any number of times.
func (c *core) allowed(ctx context.Context, id string, jwks []byte) error {
	a := agents.Agent{
		ID: id, Name: id, Owner: "bench", State: agents.Active, Credential: agents.Credential{Auth: oauth.AuthPrivateKeyJWT, JWKS: jwks},
		Ceiling: agents.Ceiling{Resources: []string{"mail"}, Scopes: []string{scope}},
	}
	if _, err := c.registry.PutAgent(ctx, a, 0); err != nil {
		return err
	}
	in, err := c.consents.Ask(ctx, consent.Ask{User: alice, Agent: id, Target: "mail", Scopes: []string{scope}, AgentKeys: a.Fingerprint()})
	if err != nil {
		return err
	}
	_, err = c.consents.Decide(ctx, in.ID, alice, consent.Decision{Allow: true, Scopes: []string{scope}, Expires: now().Add(500 * time.Hour), AuthTime: now()})
	return err
}

func (o fill) fillTokens(ctx context.Context, records store.Engine) error {
	engine, err := redis.Open(ctx, o.live, redis.Options{})
	if err != nil {
		return err
	}
	gathered := newGathering(engine)
	c, err := newCore(ctx, o.issuer, records, gathered)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = concurrently(1024, o.tokens, func(i int) error {
		txn, jti := c.life.Name("", nil)
		iat := now().Unix()
		agent := agentID(i % max(o.agents, 1))
		return c.life.Issue(ctx, transaction.Issuance{Gens: make([]uint64, 5), Claims: token.Claims{
			Issuer: o.issuer, Audience: token.Audience{mailURI}, Subject: alice, ClientID: agent, ID: jti, Txn: txn,
			IssuedAt: iat, NotBefore: iat, Expires: iat + int64(o.lifetime/time.Second), Scope: scope,
		}})
	})
	return errors.Join(err, c.live.Close())
}

// gathering is an engine that sends the commits of many callers as one batch.
type gathering struct {
	store.Engine
	waiting chan waiting
	life    sync.WaitGroup
}

type waiting struct {
	ctx   context.Context //nolint:containedctx // the caller waits for the answer
	batch store.Batch
	done  chan outcome
}

type outcome struct {
	res store.Results
	err error
}

func newGathering(e store.Engine) *gathering {
	g := &gathering{Engine: e, waiting: make(chan waiting, 4096)}
	for range 4 {
		g.life.Go(g.run)
	}
	return g
}

// Do gathers what only commits, and passes on the rest.
func (g *gathering) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if len(b.Reads) > 0 {
		return g.Engine.Do(ctx, b)
	}
	w := waiting{ctx: ctx, batch: b, done: make(chan outcome, 1)}
	g.waiting <- w
	out := <-w.done
	return out.res, out.err
}

// Close ends it; nobody may be waiting.
func (g *gathering) Close() error {
	close(g.waiting)
	g.life.Wait()
	return g.Engine.Close()
}

func (g *gathering) run() {
	for first := range g.waiting {
		together := []waiting{first}
		members := size(first.batch)
		for members < store.MaxBatch/2 {
			more, ok := g.another()
			if !ok {
				break
			}
			together = append(together, more)
			members += size(more.batch)
		}
		g.send(together)
	}
}

func (g *gathering) another() (waiting, bool) {
	select {
	case w, ok := <-g.waiting:
		return w, ok
	default:
		return waiting{}, false
	}
}

func size(b store.Batch) int {
	n := 0
	for _, c := range b.Commits {
		n += 1 + len(c.If) + len(c.Writes)
	}
	return n
}

func (g *gathering) send(together []waiting) {
	whole := store.Batch{Fence: together[0].batch.Fence}
	for _, w := range together {
		whole.Commits = append(whole.Commits, w.batch.Commits...)
	}
	res, err := g.Engine.Do(together[0].ctx, whole)
	at := 0
	for _, w := range together {
		out := outcome{err: err}
		if err == nil {
			out.res = store.Results{Now: res.Now, Outcomes: res.Outcomes[at : at+len(w.batch.Commits)]}
			at += len(w.batch.Commits)
		}
		w.done <- out
	}
}
