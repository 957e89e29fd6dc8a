package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"obolus/admin"
	"obolus/cmd/obolus/internal/config"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/policy/rulebook"
	"obolus/store"
	"obolus/web"
)

// guardrails are the operators' policies: those of the files that the configuration names together with those of the book, one set. It is
// read again when either changes, and swapped in as a whole.
//
// A mistake in a file is a mistake on this machine, and leaves the set in force. A revision of the book that cannot be loaded here, when
// another server has found it good, is another matter: the others decide by it, and so this one allows nothing until it can.
type guardrails struct {
	engine *policy.Engine
	book   *rulebook.Book
	names  []string // of the files
	shared bool     // with other servers
	now    func() time.Time
	log    *slog.Logger
	look   time.Duration // how often the number of the book's revision is read

	read atomic.Pointer[time.Time] // when the last reading of the book began that succeeded; what it found is in force

	mu      sync.Mutex // one reload at a time
	stamp   string     // of the files
	files   []policy.File
	put     []policy.File // what the book holds
	current rulebook.Revision
	trouble error // why nothing is allowed
}

// newGuardrails loads the policies that the configuration has read and those of the rulebook.
func newGuardrails(ctx context.Context, cfg config.Config, types *details.Registry, records store.Engine, o Options) (*guardrails, error) {
	engine, err1 := policy.New(types)
	kept, err2 := rulebook.New(records, o.Now)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	g := &guardrails{
		engine: engine, book: kept, shared: !strings.HasPrefix(cfg.Records, "bolt:"), now: o.Now, log: o.Log, look: cmp.Or(o.bookTime, bookTime),
	}
	for _, p := range cfg.Policies {
		g.names = append(g.names, p.File)
		g.files = append(g.files, policy.File{Name: p.File, Text: p.Text})
	}
	g.stamp = stampOf(g.names...)
	if err := engine.Load(g.files); err != nil {
		return nil, err
	}
	return g, g.refresh(ctx)
}

// reload reads the files anew. If one of them is wrong, or does not go together with the book, the set in force stays.
func (g *guardrails) reload(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stamp = stampOf(g.names...)
	var files []policy.File
	for _, name := range g.names {
		text, err := os.ReadFile(name) //nolint:gosec // the operator said which file
		if err != nil {
			return err
		}
		files = append(files, policy.File{Name: name, Text: string(text)})
	}
	if err := g.load(ctx, files, g.put); err != nil {
		return err
	}
	g.files, g.trouble = files, nil
	return nil
}

// load swaps a set in, or leaves the old one.
func (g *guardrails) load(ctx context.Context, files, put []policy.File) error {
	if err := clash(files, put); err != nil {
		return err
	}
	before := g.engine.Version()
	if err := g.engine.Load(slices.Concat(files, put)); err != nil {
		return err
	}
	if now := g.engine.Version(); now != before {
		g.log.InfoContext(ctx, "the guardrails were changed", "version", now)
	}
	return nil
}

// clash refuses a name for two things: neither wins. A file of the configuration is called as in its folder.
func clash(files, put []policy.File) error {
	for _, f := range files {
		if slices.ContainsFunc(put, func(p policy.File) bool { return p.Name == filepath.Base(f.Name) }) {
			return fmt.Errorf("%s is a file of the configuration: %w", filepath.Base(f.Name), admin.ErrDeclared)
		}
	}
	return nil
}

// refresh takes the revision of the book that counts, if it is another one. The error is that the book cannot be read: then the set in
// force stays, for as long as it may be decided by.
func (g *guardrails) refresh(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.catchUp(ctx)
}

// known sees to it that the set in force is the one of the book, as of a moment ago.
func (g *guardrails) known(ctx context.Context) error {
	if !g.stale() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stale() { // somebody else has read it meanwhile
		return nil
	}
	return g.catchUp(ctx)
}

// stale says whether the book was read too long ago, by the clock or by the time that this process has run: either may have stood still.
func (g *guardrails) stale() bool {
	read, now := g.read.Load(), g.now()
	if read == nil {
		return true
	}
	ran, clock := now.Sub(*read), now.Round(0).Sub(read.Round(0))
	return min(ran, clock) < 0 || max(ran, clock) > freshTime
}

// Decide decides by the set of the book. If that was not read a moment ago it is read first, and if it cannot be, the answer is no.
func (g *guardrails) Decide(in policy.Input) policy.Decision {
	if err := g.known(context.Background()); err != nil {
		return policy.Decision{Version: g.engine.Version(), Errors: []string{"the guardrails cannot be read: " + err.Error()}}
	}
	return g.engine.Decide(in)
}

func (g *guardrails) catchUp(ctx context.Context) error {
	at := g.now()
	n, err := g.book.Head(ctx)
	if err == nil && n != g.current.Number {
		err = g.take(ctx, n)
	}
	if err == nil {
		g.read.Store(&at)
	}
	return err
}

// take takes a revision into force.
func (g *guardrails) take(ctx context.Context, n uint64) error {
	revision, err := g.book.Revision(ctx, n)
	if err != nil {
		return err
	}
	put, err := g.book.Files(ctx, revision)
	if err != nil {
		return err
	}
	g.current, g.put = revision, put
	if g.trouble = g.load(ctx, g.files, put); g.trouble != nil {
		g.trouble = fmt.Errorf("revision %d of the guardrails cannot be loaded here: %w", n, g.trouble)
		g.engine.Shut(g.trouble.Error())
		g.log.ErrorContext(ctx, "nothing is allowed: the guardrails that others decide by cannot be loaded here", "cause", g.trouble)
	}
	return nil
}

// shut is why nothing is allowed; nil: the guardrails are in force.
func (g *guardrails) shut() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.trouble
}

const (
	// bookTime is how often the number of the book's revision is read. A hint of the store would come sooner, and would cost every other commit.
	bookTime = 250 * time.Millisecond
	// freshTime is how long ago the reading may be by which a server decides.
	freshTime = 3 * bookTime
	// everywhereTime is after which a change is in force on all servers: what they then decide by was read after it.
	everywhereTime = freshTime + 50*time.Millisecond
)

// watch reloads when a file has changed.
func (g *guardrails) watch(ctx context.Context) {
	if len(g.names) > 0 {
		every(ctx, pollTime, func() { g.lookAtFiles(ctx) })
	}
}

// follow takes what other servers were told into force.
func (g *guardrails) follow(ctx context.Context) {
	failing := false
	every(ctx, g.look, func() {
		err := g.refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			g.log.ErrorContext(ctx, "the guardrails cannot be read; those in force stay", "cause", err)
		}
		failing = err != nil
	})
}

func (g *guardrails) lookAtFiles(ctx context.Context) {
	g.mu.Lock()
	same := stampOf(g.names...) == g.stamp
	g.mu.Unlock()
	if same {
		return
	}
	if err := g.reload(ctx); err != nil {
		g.log.ErrorContext(ctx, "the guardrails changed and are wrong; the old ones stay", "cause", err)
	}
}

// Change carries out a change of the book, takes it into force here and waits until it is in force on all servers. Whether the set is good is found
// with the files of this server.
func (g *guardrails) Change(ctx context.Context, c rulebook.Change) (rulebook.Revision, error) {
	revision, err := g.book.Change(ctx, c, func(put []policy.File) error {
		g.mu.Lock()
		files := g.files
		g.mu.Unlock()
		if err := clash(files, put); err != nil {
			return err
		}
		draft, err := g.engine.Draft(slices.Concat(files, put))
		if err != nil {
			return err
		}
		return draft.Trial(g.now())
	})
	if err != nil || c.DryRun {
		return revision, err
	}
	if err := g.refresh(ctx); err != nil {
		return revision, err
	}
	return revision, g.everywhere(ctx)
}

// everywhere waits until no server decides by what it has read before now.
func (g *guardrails) everywhere(ctx context.Context) error {
	if !g.shared {
		return nil
	}
	select {
	case <-time.After(everywhereTime):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Set is what the API shows of the guardrails that this server decides by.
func (g *guardrails) Set(ctx context.Context) (admin.PolicySet, error) {
	if err := g.known(ctx); err != nil {
		g.log.DebugContext(ctx, "the guardrails cannot be read; those in force are shown", "cause", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	out := admin.PolicySet{Version: g.engine.Version(), Revision: g.current.Number, Policies: []admin.Policy{}}
	if g.trouble != nil {
		out.Problem = g.trouble.Error()
	}
	for _, f := range g.files {
		out.Policies = append(out.Policies, admin.Policy{Name: f.Name, Text: f.Text, Source: admin.FromFile})
	}
	for _, f := range g.put {
		e, _ := g.current.Find(f.Name)
		out.Policies = append(out.Policies, admin.PolicyOf(e, f.Text))
	}
	slices.SortFunc(out.Policies, func(a, b admin.Policy) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Revision reads one revision of the book with its texts.
func (g *guardrails) Revision(ctx context.Context, n uint64) (rulebook.Revision, []policy.File, error) {
	r, err := g.book.Revision(ctx, n)
	if err != nil {
		return r, nil, err
	}
	files, err := g.book.Files(ctx, r)
	return r, files, err
}

// History lists the revisions of the book, the newest first.
func (g *guardrails) History(ctx context.Context, before uint64, limit int) ([]rulebook.Revision, error) {
	return g.book.History(ctx, before, limit)
}

// shownRevisions is how much of the history the console shows.
const shownRevisions = 50

// shown is what the console shows of them.
func (g *guardrails) shown(ctx context.Context) (web.Guardrails, error) {
	set, err := g.Set(ctx)
	if err != nil {
		return web.Guardrails{}, err
	}
	out := web.Guardrails{Version: set.Version, Revision: set.Revision, Problem: set.Problem}
	for _, p := range set.Policies {
		out.Files = append(out.Files, web.Guardrail{Name: p.Name, Text: p.Text, Revision: p.Revision, By: p.By, At: p.At, Why: p.Why})
	}
	history, err := g.History(ctx, 0, shownRevisions)
	for _, r := range history {
		out.History = append(out.History, web.GuardrailChange{Revision: r.Number, What: r.What, By: r.By, At: r.At, Why: r.Why})
	}
	return out, err
}
