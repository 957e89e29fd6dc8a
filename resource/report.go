package resource

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"obolus/oauth"
)

// Outcome is how a transaction went.
type Outcome string

// The outcomes.
const (
	Committed     Outcome = "committed"     // the effect happened
	Failed        Outcome = "failed"        // it did not and will not
	Indeterminate Outcome = "indeterminate" // it is not known yet
)

// Commit reports that the effect happened. A report is for the agent, the user and the auditor: nothing depends on it, and an error
// may be logged and forgotten. For a session token there is nothing to report.
func (c *Caller) Commit(ctx context.Context) error { return c.report(ctx, Committed) }

// Fail reports that the effect did not happen and will not.
func (c *Caller) Fail(ctx context.Context) error { return c.report(ctx, Failed) }

// Doubt reports that it is not known whether the effect happened. Until another report nobody gets a replacement.
func (c *Caller) Doubt(ctx context.Context) error { return c.report(ctx, Indeterminate) }

func (c *Caller) report(ctx context.Context, how Outcome) error {
	if !c.OneTransaction {
		return nil
	}
	c.mu.Lock()
	intent := Intent{Txn: c.Txn, RedemptionID: c.id, Digest: c.digest}
	c.mu.Unlock()
	if err := c.guard.Report(ctx, c.Txn, how); err != nil {
		return err
	}
	if how != Indeterminate {
		c.guard.close(ctx, intent)
	}
	return nil
}

// Report tells the authorization server how a transaction went that this resource server has redeemed. It is for what a [Journal] still
// holds after a crash; handlers use [Caller.Commit] and its sisters.
func (g *Guard) Report(ctx context.Context, txn string, how Outcome) error {
	at, err := g.server.endpoints(ctx)
	if err != nil {
		return err
	}
	if at.transaction == "" {
		return fmt.Errorf("report %s: the metadata names no transaction_endpoint", how)
	}
	uri := strings.TrimSuffix(at.transaction, "/{txn}") + "/" + url.PathEscape(txn)
	got, err := g.post(context.WithoutCancel(ctx), uri, url.Values{"status": {string(how)}})
	if err != nil {
		return fmt.Errorf("report %s: %w", how, err)
	}
	if got.status != http.StatusOK && got.status != http.StatusNoContent {
		return fmt.Errorf("report %s: the authorization server answered %d", how, got.status)
	}
	return nil
}

// Intent is a redemption in progress. It holds no secret.
type Intent struct {
	Txn          string    `json:"txn"`
	RedemptionID string    `json:"redemption_id"`
	Digest       string    `json:"request_hash"`
	At           time.Time `json:"at"`
}

// Journal keeps intents durably from before the redemption until the outcome was reported. After a crash the resource server goes
// through what is left: it reports Committed or Failed where its own data tell which, and Indeterminate where they do not (with
// [Guard.Report]).
type Journal interface {
	// Open keeps an intent; an error refuses the request with 503. It may meet the same intent twice.
	Open(ctx context.Context, i Intent) error
	// Close forgets it. An intent that is not there is no error.
	Close(ctx context.Context, i Intent) error
}

func (g *Guard) open(ctx context.Context, i Intent) error {
	if g.cfg.Journal == nil {
		return nil
	}
	if err := g.cfg.Journal.Open(ctx, i); err != nil {
		g.cfg.Log.ErrorContext(ctx, "journal does not take an intent", slog.Any("error", err))
		return oauth.Unavailable(err)
	}
	return nil
}

func (g *Guard) close(ctx context.Context, i Intent) {
	if g.cfg.Journal == nil {
		return
	}
	if err := g.cfg.Journal.Close(ctx, i); err != nil {
		g.cfg.Log.ErrorContext(ctx, "journal does not let an intent go", slog.Any("error", err), slog.String("txn", i.Txn))
	}
}
