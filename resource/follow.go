package resource

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// Bounds of the stream of stops.
const (
	stopsLost   = 5 * time.Second
	stopsMost   = 100_000
	maxLine     = 32 << 10
	followPause = 100 * time.Millisecond // before the stream is opened again; doubled up to followMost
	followMost  = 2 * time.Second
)

var (
	errUnfollowed = errors.New("the guard is not configured to follow stops")
	errDeaf       = errors.New("it is not known what was stopped")
)

// Follow hears from the authorization server which session tokens were stopped, until the context ends; a stream that is lost is opened again where it
// was. Config.Stops says what is made of it. Every replica follows for itself, once. It returns the error of the context, or at once one that says what is
// missing in the configuration.
func (g *Guard) Follow(ctx context.Context) error {
	if g.cfg.Stops == StopsUnheard || g.cfg.Client.id == "" {
		return errUnfollowed
	}
	f := &follower{guard: g}
	for pause := followPause; ; pause = min(2*pause, followMost) {
		before := f.told
		err := f.listen(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.told != before {
			pause = followPause
		}
		g.cfg.Log.WarnContext(ctx, "the stream of stops was lost", slog.Any("error", err), slog.Bool("tokens_refused", g.cfg.Stops == StopsFollowed))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// unstopped refuses a token that was stopped, or of which that is not known.
func (g *Guard) unstopped(c token.Claims, kid string) error {
	if g.cfg.Stops == StopsUnheard {
		return nil
	}
	if g.stops.meets(c, kid) {
		return invalidToken("the token was stopped", nil)
	}
	if g.cfg.Stops == StopsFollowed && g.stops.deaf() {
		return oauth.Unavailable(errDeaf)
	}
	return nil
}

// follower reads one stream after the other.
type follower struct {
	guard *Guard
	last  string // where to go on
	told  int    // how often everything up to then was told
}

// listen opens the stream and reads it until it breaks, or nothing comes for as long as it may be lost.
func (f *follower) listen(ctx context.Context) error {
	g := f.guard
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(g.cfg.StopsLost, func() { cancel(errors.New("nothing came for too long")) })
	defer watch.Stop()
	r, err := f.request(ctx)
	if err != nil {
		return err
	}
	forever := *g.cfg.HTTP
	forever.Timeout = 0
	resp, err := forever.Do(r)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		return fmt.Errorf("the authorization server answered %d %s", resp.StatusCode, kind)
	}
	return errors.Join(f.read(ctx, resp.Body, func() { watch.Reset(g.cfg.StopsLost) }), context.Cause(ctx))
}

func (f *follower) request(ctx context.Context) (*http.Request, error) {
	g := f.guard
	at, err := g.server.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	if at.events == "" {
		return nil, errors.New("the authorization server has no stream of events")
	}
	form, query := url.Values{}, url.Values{"resource": {g.cfg.Resource}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.events+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if err := g.cfg.Client.authenticate(r.Header, form, g.cfg.Issuer, g.cfg.Now()); err != nil {
		return nil, err
	}
	if assertion := form.Get("client_assertion"); assertion != "" {
		r.Header.Set("Client-Assertion", assertion)
	}
	r.Header.Set("Accept", "text/event-stream")
	if f.last != "" {
		r.Header.Set("Last-Event-ID", f.last)
	}
	return r, nil
}

// block is one block of Server-Sent Events.
type block struct {
	kind, id, data string
	alive          bool
}

// read reads Server-Sent Events as far as the authorization server writes them: one line of data, and comments.
func (f *follower) read(ctx context.Context, from io.Reader, came func()) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	var b block
	for lines.Scan() {
		came()
		line := lines.Text()
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if err := f.take(ctx, b); err != nil {
				return err
			}
			b = block{}
		case name == "":
			b.alive = b.alive || value == "alive"
		case name == "event":
			b.kind = value
		case name == "id":
			b.id = value
		case name == "data":
			b.data += value
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// take acts upon a block. An event that is not what it must be breaks the stream: it cannot be known what was meant.
func (f *follower) take(ctx context.Context, b block) error {
	g := f.guard
	switch b.kind {
	case "stop":
		ev, err := token.VerifySecurityEvent(ctx, b.data, token.Expect{
			Issuer: g.cfg.Issuer, Audience: g.cfg.Resource, Keys: g.server, Algs: token.Algorithms(), Now: g.cfg.Now,
		})
		if err == nil {
			err = g.stops.add(ev, g.cfg.Issuer)
		}
		if err != nil {
			return fmt.Errorf("an event of the stream: %w", err)
		}
	case "reset":
		g.stops.forget()
		f.last = ""
	}
	if b.id != "" {
		f.last = b.id
	}
	if b.alive {
		f.told++
		g.stops.alive()
	}
	return nil
}
