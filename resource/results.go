package resource

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"obolus/oauth"
)

// ResultKey names the answer to a transaction: whose it was, and who may have it again. An answer is given again only to the holder of the key that
// the token is bound to.
type ResultKey struct {
	User string
	Txn  string
	JKT  string
}

// Result is an answer as it was sent.
type Result struct {
	Status int
	Header http.Header
	Body   []byte
}

// Held is what a [ResultStore] knows of a transaction.
type Held struct {
	Digest string  // of the request that it was begun for
	Result *Result // nil: not finished
}

// ResultStore keeps answers for a short while, so that an agent which lost one can ask for it again with the same token, the same
// request and a fresh proof. It decides nothing about single use: that is the redemption. Answers are personal data; a store outside of the process
// encrypts them.
type ResultStore interface {
	// Begin notes that a request is being carried out, in one atomic step with looking whether one already is. The answer is nil for
	// the first; otherwise what is known.
	Begin(ctx context.Context, key ResultKey, digest string) (*Held, error)
	// Finish keeps the answer.
	Finish(ctx context.Context, key ResultKey, result Result) error
	// Abandon forgets a request that had no effect.
	Abandon(ctx context.Context, key ResultKey) error
}

const (
	maxResult  = 256 << 10
	resultLife = 5 * time.Minute
)

// serveRetained is serve with retained answers: the same request again gets the same answer, another one under the same token is
// refused, and one that comes while the first is being carried out is asked to wait.
func (g *Guard) serveRetained(w http.ResponseWriter, r *http.Request, c *Caller, next http.Handler) error {
	ctx, key := r.Context(), ResultKey{User: c.User, Txn: c.Txn, JKT: c.jkt}
	held, err := g.cfg.Results.Begin(ctx, key, c.digest)
	if err != nil {
		return refuse(oauth.Unavailable(err), c.scheme, c.rule)
	}
	if held != nil {
		if err := replay(w, held, c.digest); err != nil {
			return refuse(err, c.scheme, c.rule)
		}
		return nil
	}
	tee := &recorder{ResponseWriter: w}
	finished := false
	defer func() {
		if !finished { // also when the handler panics
			g.settle(ctx, "abandon", g.cfg.Results.Abandon(context.WithoutCancel(ctx), key))
		}
	}()
	if !c.rule.Late {
		if err := c.Redeem(ctx); err != nil {
			return err
		}
	}
	next.ServeHTTP(tee, c.request(r))
	c.mu.Lock()
	redeemed := c.redeemed
	c.mu.Unlock()
	if redeemed && !tee.tooLarge {
		finished = true
		g.settle(ctx, "finish", g.cfg.Results.Finish(context.WithoutCancel(ctx), key, tee.result()))
	}
	return nil
}

func (g *Guard) settle(ctx context.Context, step string, err error) {
	if err != nil {
		g.cfg.Log.ErrorContext(ctx, "result store failed", slog.String("step", step), slog.Any("error", err))
	}
}

// replay answers from what is held.
func replay(w http.ResponseWriter, held *Held, digest string) error {
	switch {
	case held.Digest != digest:
		return &oauth.Error{
			Code: oauth.InsufficientScope, Reason: oauth.ReasonMismatch, HTTPStatus: http.StatusForbidden,
			Description: "the token was used for another request",
		}
	case held.Result == nil:
		return &oauth.Error{
			Code: oauth.TemporarilyUnavailable, Reason: oauth.ReasonRedeemed, HTTPStatus: http.StatusConflict, RetryAfter: time.Second,
			Description: "this request is being carried out",
		}
	default:
		h := w.Header()
		for name, values := range held.Result.Header {
			h[name] = append([]string(nil), values...)
		}
		w.WriteHeader(held.Result.Status)
		_, _ = w.Write(held.Result.Body) //nolint:gosec // it is the answer that the handler itself gave
		return nil
	}
}

// recorder keeps what goes by.
type recorder struct {
	http.ResponseWriter
	status   int
	header   http.Header
	body     bytes.Buffer
	tooLarge bool
}

// Unwrap lets http.ResponseController reach what is beneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader notes the final status; the informational ones go by.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status, r.header = status, r.Header().Clone()
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write notes the body, whether or not the client still takes it.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.tooLarge = r.tooLarge || r.body.Len()+len(p) > maxResult; !r.tooLarge {
		r.body.Write(p)
	}
	return r.ResponseWriter.Write(p)
}

func (r *recorder) result() Result {
	if r.status == 0 {
		r.status, r.header = http.StatusOK, r.Header().Clone()
	}
	header := r.header
	header.Del("DPoP-Nonce")
	return Result{Status: r.status, Header: header, Body: r.body.Bytes()}
}

// MemoryResults is a [ResultStore] in this process: for one replica, or where the same agent always meets the same one. It keeps an
// answer for five minutes, and the newest when there are too many.
type MemoryResults struct {
	now  func() time.Time
	most int

	mu    sync.Mutex
	held  map[[sha256.Size]byte]*list.Element
	order *list.List // oldest first
}

type memoryResult struct {
	key   [sha256.Size]byte
	held  Held
	until time.Time
}

var _ ResultStore = (*MemoryResults)(nil)

// NewMemoryResults makes a store for at most so many answers.
func NewMemoryResults(most int, now func() time.Time) (*MemoryResults, error) {
	if most < 1 || now == nil {
		return nil, errors.New("memory results: a size and a clock are needed")
	}
	return &MemoryResults{now: now, most: most, held: make(map[[sha256.Size]byte]*list.Element), order: list.New()}, nil
}

func (k ResultKey) sum() [sha256.Size]byte {
	return sha256.Sum256([]byte(k.User + "\x00" + k.Txn + "\x00" + k.JKT))
}

// Begin implements [ResultStore].
func (m *MemoryResults) Begin(_ context.Context, key ResultKey, digest string) (*Held, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	sum := key.sum()
	if e, ok := m.held[sum]; ok {
		held := e.Value.(*memoryResult).held //nolint:errcheck // nothing else is put there
		return &held, nil
	}
	m.held[sum] = m.order.PushBack(&memoryResult{key: sum, held: Held{Digest: digest}, until: m.now().Add(resultLife)})
	return nil, nil //nolint:nilnil // nothing is known yet
}

// Finish implements [ResultStore].
func (m *MemoryResults) Finish(_ context.Context, key ResultKey, result Result) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.held[key.sum()]; ok {
		e.Value.(*memoryResult).held.Result = &result //nolint:errcheck // nothing else is put there
	}
	return nil
}

// Abandon implements [ResultStore].
func (m *MemoryResults) Abandon(_ context.Context, key ResultKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.held[key.sum()]; ok {
		m.remove(e)
	}
	return nil
}

// expire makes room.
func (m *MemoryResults) expire() {
	now := m.now()
	for e := m.order.Front(); e != nil; e = m.order.Front() {
		if len(m.held) < m.most && now.Before(e.Value.(*memoryResult).until) { //nolint:errcheck // nothing else is put there
			return
		}
		m.remove(e)
	}
}

func (m *MemoryResults) remove(e *list.Element) {
	delete(m.held, e.Value.(*memoryResult).key) //nolint:errcheck // nothing else is put there
	m.order.Remove(e)
}
