package resource

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"obolus/oauth"
	"obolus/oauth/strict"
)

// Bounds of a redemption, with all its repeats.
const (
	redeemBudget  = 5 * time.Second
	redeemAttempt = 2 * time.Second
	redeemPause   = 50 * time.Millisecond // doubled each time
	maxAnswer     = 64 << 10
	ourPause      = 30 * time.Second // the longest that an agent is told to wait
)

// Redeem claims the transaction of a one-transaction token: the last thing before the effect. For one token it succeeds for one request alone, over
// all replicas; called again for the same request it succeeds again. For a session token there is nothing to do. After an error the effect must
// not happen; [Guard.Refuse] answers it. For a request that is Free there is no effect to pay for, and it fails.
//
// A lost answer is asked for again, with the same redemption_id, for Config.Patience at most. It goes on when the caller
// goes away: a claim that was sent is either known to be refused or paid for.
func (c *Caller) Redeem(ctx context.Context) error {
	if !c.OneTransaction {
		return nil
	}
	if c.Free {
		return errFree
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.redeemed {
		return nil
	}
	if c.id == "" {
		c.id = newRedemptionID()
	}
	intent := Intent{Txn: c.Txn, RedemptionID: c.id, Digest: c.digest, At: c.guard.cfg.Now().UTC()}
	if err := c.guard.open(ctx, intent); err != nil {
		return refuse(err, c.scheme, c.rule)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.guard.cfg.Patience)
	defer cancel()
	receipt, err := c.guard.redeem(ctx, c)
	if err != nil {
		if oauth.AsError(err).Code != oauth.TemporarilyUnavailable {
			c.guard.close(ctx, intent) // it is certain that nothing was claimed
		}
		return refuse(err, c.scheme, c.rule)
	}
	c.redeemed, c.receipt = true, receipt
	return nil
}

func newRedemptionID() string {
	var raw [16]byte
	rand.Read(raw[:])
	return "r-" + base64.RawURLEncoding.EncodeToString(raw[:])
}

// redeem asks until there is an answer, or the time is over.
func (g *Guard) redeem(ctx context.Context, c *Caller) (string, error) {
	for pause := redeemPause; ; pause *= 2 {
		receipt, after, err := g.redeemOnce(ctx, c)
		if err == nil || oauth.AsError(err).Code != oauth.TemporarilyUnavailable || errors.Is(err, errOurs) {
			return receipt, err
		}
		wait := max(pause, after)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait { //nolint:forbidigo // a timeout is of the machine's clock
			g.cfg.Log.ErrorContext(ctx, "redemption is given up", slog.Any("error", err))
			return "", err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", err
		}
	}
}

// errFree is a fault of the program: it has an effect in mind where the rule says that there is none.
var errFree = errors.New("resource guard: nothing can be redeemed for a request that costs nothing")

// errOurs: the authorization server does not accept this resource server itself, which no repeat would change.
var errOurs = errors.New("this resource server was refused")

// redeemOnce makes one call. Whatever is not a definite yes or no is "unavailable", perhaps with how long to wait.
func (g *Guard) redeemOnce(ctx context.Context, c *Caller) (receipt string, after time.Duration, err error) {
	at, err := g.server.endpoints(ctx)
	if err != nil {
		return "", 0, oauth.Unavailable(err)
	}
	if at.redemption == "" {
		return "", 0, oauth.Unavailable(fmt.Errorf("%w: the metadata names no redemption_endpoint", errOurs))
	}
	form := url.Values{"token": {c.token}, "redemption_id": {c.id}, "request_hash": {c.digest}}
	if c.jkt != "" {
		form.Set("jkt", c.jkt)
	}
	if c.x5t != "" {
		form.Set("x5t#S256", c.x5t)
	}
	got, err := g.post(ctx, at.redemption, form)
	if err != nil {
		return "", 0, oauth.Unavailable(err)
	}
	if got.status != http.StatusOK {
		return "", got.retryAfter, g.refusalOf(ctx, got)
	}
	var body struct {
		Redemption string `json:"redemption"`
		Txn        string `json:"txn"`
		Receipt    string `json:"receipt"`
	}
	if err := strict.Unmarshal(got.body, &body, strict.Limits{Depth: 32}); err != nil {
		return "", 0, oauth.Unavailable(err)
	}
	if body.Redemption != "first" && body.Redemption != "repeat" || body.Txn != c.Txn {
		return "", 0, oauth.Unavailable(errors.New("the redemption was answered by something else"))
	}
	return body.Receipt, 0, nil
}

// refusalOf turns a refusal of the authorization server into ours: the table in docs/redemption.md.
func (g *Guard) refusalOf(ctx context.Context, got answer) error {
	var said struct {
		Error string `json:"error"`
	}
	if err := strict.Unmarshal(got.body, &said, strict.Limits{Depth: 32}); err != nil {
		said.Error = "" // the status says enough
	}
	cause := fmt.Errorf("the authorization server answered %d %q", got.status, clip(said.Error))
	switch got.status {
	case http.StatusConflict:
		return invalidToken("the token has been used", cause)
	case http.StatusGone, http.StatusForbidden, http.StatusBadRequest:
		return invalidToken("the token is not valid any more", cause)
	case http.StatusUnprocessableEntity:
		g.cfg.Log.ErrorContext(ctx, "one redemption_id was used for two requests", slog.Any("error", cause))
		return fmt.Errorf("redemption: %w", cause)
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed:
		g.cfg.Log.ErrorContext(ctx, "the authorization server does not accept this resource server", slog.Any("error", cause))
		e := oauth.Unavailable(fmt.Errorf("%w: %w", errOurs, cause))
		e.RetryAfter = ourPause
		return e
	default:
		e := oauth.Unavailable(cause)
		e.RetryAfter = min(max(e.RetryAfter, got.retryAfter), ourPause)
		return e
	}
}

func clip(s string) string { return s[:min(len(s), 64)] }

// answer is an answer of the authorization server.
type answer struct {
	status     int
	body       []byte
	retryAfter time.Duration
}

// post calls an endpoint as this client, with a fresh credential each time.
func (g *Guard) post(ctx context.Context, uri string, form url.Values) (answer, error) {
	if g.cfg.Client.id == "" {
		return answer{}, errors.New("the guard has no client")
	}
	ctx, cancel := context.WithTimeout(ctx, redeemAttempt)
	defer cancel()
	head := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if err := g.cfg.Client.authenticate(head, form, g.cfg.Issuer, g.cfg.Now()); err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header = head
	resp, err := g.cfg.HTTP.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	got := answer{status: resp.StatusCode, body: body}
	if n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		got.retryAfter = time.Duration(n) * time.Second
	}
	return got, nil
}
