package endpoint

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"obolus/agents"
	"obolus/oauth"
	"obolus/signals"
)

const setType = "application/secevent+jwt"

// receive takes a security event that is pushed, RFC 8935: 202 when what it asks for is done. Its errors are of a form of their own.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) error {
	d, err := delivery(w, r)
	if err == nil {
		d.Remote = s.cfg.Remote(r)
		err = s.cfg.Receiver.Receive(r.Context(), d)
	}
	refusal, refused := errors.AsType[*signals.RefusedError](err)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
		return nil
	case !refused:
		return err
	}
	s.cfg.Log.DebugContext(r.Context(), "security event refused", slog.Any("cause", refusal))
	w.Header().Set("Content-Language", "en")
	write(w, http.StatusBadRequest, map[string]string{"err": string(refusal.Code), "description": refusal.Description})
	return nil
}

// delivery reads the request: RFC 8935 section 2.1, and a bearer token if the transmitter sends one.
func delivery(w http.ResponseWriter, r *http.Request) (signals.Delivery, error) {
	if r.Method != http.MethodPost {
		return signals.Delivery{}, wrongMethod(w, http.MethodPost)
	}
	bad := func(sentence string) (signals.Delivery, error) {
		return signals.Delivery{}, &signals.RefusedError{Code: signals.InvalidRequest, Description: sentence}
	}
	types := r.Header.Values("Content-Type")
	if len(types) != 1 || !strings.EqualFold(types[0], setType) || r.Header.Get("Content-Encoding") != "" {
		return bad("the body is " + setType)
	}
	authorization := r.Header.Values("Authorization")
	if len(authorization) > 1 {
		return bad("there is more than one Authorization header")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxToken))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return signals.Delivery{}, status(http.StatusRequestEntityTooLarge, oauth.ReasonTooLarge, "the event is too large")
	}
	if err != nil {
		return bad("the body cannot be read")
	}
	d := signals.Delivery{Token: string(body)}
	if len(authorization) == 1 {
		scheme, bearer, _ := strings.Cut(authorization[0], " ")
		if !strings.EqualFold(scheme, oauth.Bearer) {
			return signals.Delivery{}, &signals.RefusedError{Code: signals.AuthenticationFailed, Description: "a transmitter authenticates by a bearer token"}
		}
		d.Bearer = bearer
	}
	return d, nil
}

const (
	writeWithin = 5 * time.Second  // or the reader is too slow and is dropped
	streamLife  = 15 * time.Minute // after which a client shows anew who it is
	againEvery  = 10 * time.Second // it is seen whether the client still serves the resource
)

// follow is the stream of what was stopped at a resource, for the servers of it: Server-Sent Events whose data are security event tokens.
// A comment says that the stream is alive and that everything up to now was told.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return wrongMethod(w, http.MethodGet)
	}
	f, err := bodiless(r)
	if err != nil {
		return err
	}
	who, err := s.proven(r, f)
	if err != nil {
		return err
	}
	res, err := s.served(r, who.ID())
	if err != nil {
		return err
	}
	leave, err := s.streams.enter(who.ID())
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), streamLife)
	defer cancel()
	follower, reset, err := s.cfg.Feed.Follow(ctx, res, r.Header.Get("Last-Event-ID"))
	if err != nil {
		return oauth.Unavailable(err)
	}
	defer follower.Leave()
	news, err := follower.Next(ctx, s.cfg.Settings.Beat)
	if err != nil {
		return oauth.Unavailable(err)
	}
	s.cfg.Detach(w)
	out, err := s.open(ctx, w, res)
	if err == nil && reset {
		err = out.write("event: reset\ndata: {}\n\n")
	}
	if err == nil {
		err = s.stream(ctx, out, follower, streamed{who: who.ID(), first: news})
	}
	s.cfg.Log.DebugContext(r.Context(), "a stream of events has ended", slog.String("client", who.ID()), slog.Any("cause", err))
	return nil
}

// served is the resource that is asked for, which the client must be a server of. A client that serves one need not name it.
func (s *Server) served(r *http.Request, client string) (agents.Resource, error) {
	none := oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "resource names no resource that the client serves")
	names := r.URL.Query()["resource"]
	if len(names) > 1 {
		return agents.Resource{}, repeated("resource")
	}
	if len(names) == 1 {
		res, err := s.cfg.Registry.ResourceAt(r.Context(), names[0])
		switch {
		case errors.Is(err, agents.ErrNotFound) || err == nil && !res.Names(client):
			return res, none
		case err != nil:
			return res, oauth.Unavailable(err)
		default:
			return res, nil
		}
	}
	all, err := s.resources(r.Context())
	if err != nil {
		return agents.Resource{}, err
	}
	all = slices.DeleteFunc(all, func(res agents.Resource) bool { return !res.Names(client) })
	switch len(all) {
	case 0:
		return agents.Resource{}, none
	case 1:
		return all[0], nil
	default:
		return agents.Resource{}, oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTargetMissing, "the client serves several resources; say which by resource")
	}
}

// stillServes says whether the client is there, and a server of the resource.
func (s *Server) stillServes(ctx context.Context, client string, res agents.Resource) bool {
	now, err := s.cfg.Registry.ResourceAt(ctx, res.URI)
	if err != nil || now.ID != res.ID || !now.Names(client) {
		return false
	}
	if _, _, err := s.cfg.Registry.Client(ctx, client); err == nil {
		return true
	}
	a, _, err := s.cfg.Registry.Agent(ctx, client)
	return err == nil && a.State == agents.Active
}

// sse writes Server-Sent Events.
type sse struct {
	ctx context.Context //nolint:containedctx // the stream's own, which it does not outlive
	w   http.ResponseWriter
	to  *http.ResponseController
	tok func(*signals.Stop) (string, error)
}

// open begins the answer. How long it may take in all is not bounded, but each write is.
func (s *Server) open(ctx context.Context, w http.ResponseWriter, res agents.Resource) (*sse, error) {
	out := &sse{ctx: ctx, w: w, to: http.NewResponseController(w), tok: func(stop *signals.Stop) (string, error) {
		return s.cfg.Feed.Token(ctx, stop, res)
	}}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // for nginx, which would wait for more
	if err := out.to.SetReadDeadline(time.Time{}); err != nil {
		return out, err
	}
	w.WriteHeader(http.StatusOK)
	return out, out.write("retry: 1000\n\n")
}

func (o *sse) write(text string) error {
	if err := o.to.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil { //nolint:forbidigo // a timeout is of the machine's clock
		return err
	}
	if _, err := io.WriteString(o.w, text); err != nil {
		return err
	}
	return o.to.Flush()
}

// news writes what is new, and that the stream is alive. The id of an event is where to go on behind it.
func (o *sse) news(n signals.News) error {
	for _, stop := range n.Stops {
		set, err := o.tok(stop)
		if err != nil {
			return err
		}
		id := ""
		if at := stop.Position(); n.Settled && at != "" {
			id = "id: " + at + "\n"
		}
		if err := o.write("event: stop\n" + id + "data: " + set + "\n\n"); err != nil {
			return err
		}
	}
	if !n.Whole {
		return nil
	}
	id := ""
	if n.Position != "" {
		id = "id: " + n.Position + "\n"
	}
	return o.write(": alive\n" + id + "\n")
}

// streamed is who is told, and what comes first.
type streamed struct {
	who   string
	first signals.News
}

// stream tells until the client goes, the server ends, or it is not known any more what was stopped.
func (s *Server) stream(ctx context.Context, out *sse, f *signals.Follower, to streamed) error {
	look := s.cfg.Now().Add(againEvery)
	for news := to.first; ; {
		if err := out.news(news); err != nil {
			return err
		}
		if now := s.cfg.Now(); !now.Before(look) {
			if !s.stillServes(ctx, to.who, f.Resource()) {
				return errors.New("the client does not serve the resource any more")
			}
			look = now.Add(againEvery)
		}
		var err error
		if news, err = f.Next(ctx, s.cfg.Settings.Beat); err != nil {
			return err
		}
	}
}

// streams are those that are open, in all and by client.
type streams struct {
	most, each int

	mu  sync.Mutex
	all int
	by  map[string]int
}

// enter counts one more, or refuses it with 429 or 503.
func (s *streams) enter(client string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.by[client] >= s.each:
		refusal := oauth.Refuse(oauth.TemporarilyUnavailable, oauth.ReasonRateLimited, "the client has too many streams open")
		refusal.HTTPStatus, refusal.RetryAfter = http.StatusTooManyRequests, 5*time.Second
		return nil, refusal
	case s.all >= s.most:
		refusal := oauth.Refuse(oauth.TemporarilyUnavailable, oauth.ReasonRateLimited, "the server has too many streams open")
		refusal.RetryAfter = 5 * time.Second
		return nil, refusal
	}
	s.all++
	s.by[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.by[client]--; s.by[client] == 0 {
			delete(s.by, client)
		}
	}, nil
}
