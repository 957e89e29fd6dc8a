package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"obolus/store/memory/watchers"
)

// silence is how long the connection may say nothing until it is asked for a sign of life, and then until it is given up.
const silence = 10 * time.Second

// listener hears for all watches of an engine on one connection, which is there while anybody watches. When it breaks, every
// watch ends and the next one connects anew.
type listener struct {
	life   context.Context //nolint:containedctx // the connection is shared by callers and ends with the engine
	config *pgx.ConnConfig
	words  words
	hub    watchers.Hub

	mu       sync.Mutex
	current  *session
	watchers int
	closed   bool
}

// session is one connection.
type session struct {
	ready chan struct{} // closed when it hears, or has failed
	err   error         // why it failed
	end   context.CancelFunc
}

func newListener(life context.Context, config *pgx.ConnConfig, w words) *listener {
	return &listener{life: life, config: config, words: w}
}

// watch returns once the connection hears what is committed from then on.
func (l *listener) watch(ctx context.Context, partition string) (<-chan string, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, errClosed
	}
	s := l.current
	if s == nil {
		life, end := context.WithCancel(l.life)
		s = &session{ready: make(chan struct{}), end: end}
		l.current = s
		go l.run(life, s)
	}
	told := l.hub.Watch(ctx, partition)
	l.watchers++
	l.mu.Unlock()
	context.AfterFunc(ctx, l.leave)
	select {
	case <-s.ready:
		return told, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers--; l.watchers == 0 && l.current != nil {
		l.drop(l.current)
	}
}

// drop ends a session and all watches, once.
func (l *listener) drop(s *session) {
	s.end()
	if l.current != s {
		return
	}
	l.current = nil
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

// run connects, and passes on what comes until the connection breaks.
func (l *listener) run(ctx context.Context, s *session) {
	c, err := l.connect(ctx)
	if err == nil {
		defer hangUp(ctx, c)
	}
	s.err = err
	close(s.ready)
	for err == nil {
		var news *pgconn.Notification
		if news, err = l.next(ctx, c); news != nil {
			partition, names, _ := strings.Cut(news.Payload, "\n")
			l.hub.Tell(partition, strings.Split(names, "\n")...)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(s)
}

// connect subscribes, and takes hold of the ears, which makes every commit after it tell. It waits for those under way.
func (l *listener) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return nil, err
	}
	_, err = c.Exec(ctx, "listen "+l.words.channel)
	if err == nil {
		_, err = c.Exec(ctx, "select pg_advisory_lock_shared($1, ear) from generate_series(0, $2) ear", lockEar, ears-1)
	}
	if err != nil {
		hangUp(ctx, c)
		return nil, err
	}
	return c, nil
}

// next waits for news. It returns none when there was none for a while and the connection is alive.
func (l *listener) next(ctx context.Context, c *pgx.Conn) (*pgconn.Notification, error) {
	quiet, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	news, err := c.WaitForNotification(quiet)
	if err == nil || ctx.Err() != nil || quiet.Err() == nil {
		return news, err
	}
	alive, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	return nil, c.Ping(alive)
}
