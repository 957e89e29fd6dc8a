package postgres

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// pool hands out connections, the one last used first, and makes them up to a limit.
type pool struct {
	config *pgx.ConnConfig
	places chan struct{} // one for each connection that may be in use

	mu     sync.Mutex
	free   []*pgx.Conn
	closed bool
}

func newPool(config *pgx.ConnConfig, most int) *pool {
	return &pool{config: config, places: make(chan struct{}, most)}
}

// use lends a connection, waiting for one as long as the context does. The error it returns is ready to be shown.
func (p *pool) use(ctx context.Context, work func(*pgx.Conn) error) error {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
	defer func() { <-p.places }()
	c, err := p.take(ctx)
	if err != nil {
		return unavailable(err)
	}
	defer p.giveBack(ctx, c)
	if err := work(c); err != nil {
		return unavailable(err)
	}
	return nil
}

// take returns a free connection that has not been closed from the other side, or a new one.
func (p *pool) take(ctx context.Context) (*pgx.Conn, error) {
	for {
		c, err := p.pop()
		if err != nil {
			return nil, err
		}
		if c == nil {
			return pgx.ConnectConfig(ctx, p.config)
		}
		if quiet(c.PgConn().Conn()) {
			return c, nil
		}
		hangUp(ctx, c)
	}
}

func (p *pool) pop() (*pgx.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	n := len(p.free)
	if n == 0 {
		return nil, nil //nolint:nilnil // none is free
	}
	c := p.free[n-1]
	p.free = p.free[:n-1]
	return c, nil
}

func (p *pool) giveBack(ctx context.Context, c *pgx.Conn) {
	p.mu.Lock()
	keep := !p.closed && !c.IsClosed()
	if keep {
		p.free = append(p.free, c)
	}
	p.mu.Unlock()
	if !keep {
		hangUp(ctx, c)
	}
}

func (p *pool) close(ctx context.Context) {
	p.mu.Lock()
	free := p.free
	p.free, p.closed = nil, true
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, c := range free {
		all.Go(func() { hangUp(ctx, c) })
	}
	all.Wait()
}

// hangUp closes a connection that nobody uses any more, or that is broken.
func hangUp(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = c.Close(ctx) // there is nothing left to lose
}

// socket finds the connection below TLS.
func socket(c net.Conn) net.Conn {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		return wrapped.NetConn()
	}
	return c
}
