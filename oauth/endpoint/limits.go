package endpoint

import (
	"context"
	"net/http"
	"sync"
	"time"

	"obolus/agents"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
)

// How often a secret may be wrong in a minute: for one client from one address, and for one client in all.
const (
	triesPerAddress = 10
	triesPerClient  = 20
	triesWindow     = time.Minute
	triesLimit      = 4096 // clients that one process watches
)

// tries keeps guessers of secrets off. The counters are shared through the live store. A process asks for them only for
// clients at which it has seen a wrong secret itself, so that the others cost nothing; whoever spreads the guesses over many
// servers gains one for each of them.
type tries struct {
	live store.Engine

	mu    sync.Mutex
	young map[string]struct{} // clients with a wrong secret lately, in two generations so that it stays bounded
	old   map[string]struct{}
	until time.Time // when the young become old, by the store's clock
}

func newTries(live store.Engine) *tries {
	return &tries{live: live, young: map[string]struct{}{}}
}

// allow refuses with 429 when there were too many wrong secrets: also a right one, or the guesser would learn it.
func (t *tries) allow(ctx context.Context, client, remote string) error {
	if !t.watched(client) {
		return nil
	}
	part := triesOf(client)
	res, err := t.live.Do(ctx, store.Batch{Reads: []store.Key{
		{Partition: part, Name: fromName(remote)}, {Partition: part, Name: allName},
	}})
	if err != nil {
		return oauth.Unavailable(err)
	}
	return over(res.Records[0], res.Records[1], res.Now)
}

// failed counts a wrong secret. It returns the refusal with 429 if that is now one too many, or nil.
func (t *tries) failed(ctx context.Context, client, remote string) error {
	if agents.CheckID(client) != nil {
		return nil //nolint:nilerr // nobody's, and no name for a counter
	}
	res, err := t.live.Do(ctx, store.Batch{Commits: []store.Commit{{
		Partition: triesOf(client),
		Writes: []store.Write{
			{Name: fromName(remote), Add: 1, TTL: triesWindow}, {Name: allName, Add: 1, TTL: triesWindow},
		},
	}}})
	if err != nil {
		return oauth.Unavailable(err)
	}
	t.watch(client, res.Now)
	wrote := res.Outcomes[0].Wrote
	return over(wrote[0], wrote[1], res.Now)
}

const allName = "all"

func triesOf(client string) string  { return "tries/" + client }
func fromName(remote string) string { return "from/" + token.Hash(remote) }

// over says whether one of the counters is beyond its limit.
func over(from, all store.Record, now time.Time) error {
	wait := time.Duration(0)
	if from.Count() > triesPerAddress {
		wait = max(wait, from.Expires.Sub(now))
	}
	if all.Count() > triesPerClient {
		wait = max(wait, all.Expires.Sub(now))
	}
	if wait <= 0 {
		return nil
	}
	return tooMany(wait)
}

func tooMany(wait time.Duration) error {
	return &oauth.Error{
		Code: oauth.InvalidRequest, Reason: oauth.ReasonRateLimited, Description: "too many requests; wait before the next one",
		HTTPStatus: http.StatusTooManyRequests, RetryAfter: wait,
	}
}

func (t *tries) watched(client string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, young := t.young[client]
	_, old := t.old[client]
	return young || old
}

func (t *tries) watch(client string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.After(t.until) || len(t.young) >= triesLimit {
		t.old, t.young, t.until = t.young, map[string]struct{}{}, now.Add(triesWindow)
	}
	t.young[client] = struct{}{}
}

// asked bounds how many tokens a client may ask about per minute at this server, so that nobody scans for tokens. Only
// authenticated clients are counted, so there are never more counters than clients.
type asked struct {
	limit int
	now   func() time.Time

	mu     sync.Mutex
	counts map[string]int
	until  time.Time
}

func newAsked(limit int, now func() time.Time) *asked {
	return &asked{limit: limit, now: now, counts: map[string]int{}}
}

// allow counts one question; it refuses with 429 when that was one too many.
func (a *asked) allow(client string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if !now.Before(a.until) {
		a.counts, a.until = map[string]int{}, now.Add(time.Minute)
	}
	a.counts[client]++
	if a.counts[client] > a.limit {
		return tooMany(a.until.Sub(now))
	}
	return nil
}
