package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"obolus/store/memory/watchers"
)

// silence is how long a connection may say nothing until it is asked for a sign of life, and then until it is given up.
const silence = 10 * time.Second

var errLost = errors.New("the connection for watching is lost")

// listener hears for all watches of an engine on one connection. When that breaks, every watch ends and the next one
// connects anew.
type listener struct {
	client redis.UniversalClient
	hub    watchers.Hub

	mu      sync.Mutex
	current *session
	closed  bool
}

// session is one connection. Redis confirms subscriptions in the order in which they were asked for.
type session struct {
	sub   *redis.PubSub
	rooms map[string]*room
	asked []*room
	lost  chan struct{}
}

type room struct {
	ready    chan struct{}
	watchers int
}

func newListener(client redis.UniversalClient) *listener {
	return &listener{client: client}
}

// watch joins a channel and returns once Redis has confirmed it.
func (l *listener) watch(ctx context.Context, channel string) (<-chan string, error) {
	l.mu.Lock()
	s, r, err := l.join(ctx, channel)
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	told := l.hub.Watch(ctx, channel)
	l.mu.Unlock()
	context.AfterFunc(ctx, func() { l.leave(context.WithoutCancel(ctx), s, r, channel) })
	select {
	case <-r.ready:
		return told, nil
	case <-s.lost:
		return nil, errLost
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) join(ctx context.Context, channel string) (*session, *room, error) {
	if l.closed {
		return nil, nil, redis.ErrClosed
	}
	if l.current == nil {
		rest := context.WithoutCancel(ctx)
		l.current = &session{sub: l.client.Subscribe(rest), rooms: map[string]*room{}, lost: make(chan struct{})}
		go l.hear(rest, l.current)
	}
	s := l.current
	r := s.rooms[channel]
	if r == nil {
		r = &room{ready: make(chan struct{})}
		if err := s.sub.Subscribe(ctx, channel); err != nil {
			l.drop(s)
			return nil, nil, err
		}
		s.rooms[channel] = r
		s.asked = append(s.asked, r)
	}
	r.watchers++
	return s, r, nil
}

func (l *listener) leave(ctx context.Context, s *session, r *room, channel string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.watchers--; r.watchers > 0 || l.current != s || s.rooms[channel] != r {
		return
	}
	delete(s.rooms, channel)
	if err := s.sub.Unsubscribe(ctx, channel); err != nil {
		l.drop(s)
	}
}

// hear passes on what comes until the connection breaks.
func (l *listener) hear(ctx context.Context, s *session) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drop(s)
	}()
	for asked := false; ; {
		got, err := s.sub.ReceiveTimeout(ctx, silence)
		switch m := got.(type) {
		case *redis.Message:
			l.hub.Tell(m.Channel, strings.Split(m.Payload, "\n")...)
		case *redis.Subscription:
			l.confirm(s, m)
		}
		if err == nil {
			asked = false
			continue
		}
		quiet, ok := errors.AsType[net.Error](err)
		if !ok || !quiet.Timeout() || asked || s.sub.Ping(ctx) != nil {
			return
		}
		asked = true
	}
}

func (l *listener) confirm(s *session, m *redis.Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Kind != "subscribe" || len(s.asked) == 0 {
		return
	}
	close(s.asked[0].ready)
	s.asked = s.asked[1:]
}

// drop ends a session and all watches, once.
func (l *listener) drop(s *session) {
	if l.current != s {
		return
	}
	l.current = nil
	close(s.lost)
	_ = s.sub.Close() // it is lost, or we leave
	l.hub.Reset()
}

func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.current != nil {
		l.drop(l.current)
	}
	l.hub.Close()
}
