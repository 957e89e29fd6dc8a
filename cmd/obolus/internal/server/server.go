// Package server is where everything meets: it opens the stores, wires the parts in one table, applies what the
// configuration declares and serves. It has no state of its own outside a Server, so that any number of them can run in one
// process.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"time"

	"obolus/cmd/obolus/internal/config"
)

// Options are what is no setting. All may be left out.
type Options struct {
	Log     *slog.Logger     // nil: nothing is logged
	Version string           // of the program
	Now     func() time.Time // nil: the clock
	// MaxInFlight is how many requests are worked on at once. Others wait a moment for a place, and are then told to come again
	// (503). Zero: 128 for each processor, and 256 at least.
	MaxInFlight int
	// MaxConnections is how many connections there are at once. Zero: 8192.
	MaxConnections int
	// Grace is how long what is in hand may take when the server is told to stop. What still waits then, for a person most
	// likely, is told that it is over, and has as long again. Zero: 5 s.
	Grace time.Duration

	alone    bool          // nobody else may have the records open
	bookTime time.Duration // between readings of the guardrails; zero: the usual
}

func (o Options) filled() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = max(256, 128*runtime.GOMAXPROCS(0))
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = maxConnections
	}
	if o.Grace == 0 {
		o.Grace = graceTime
	}
	return o
}

// The bounds of a request. The answer may wait for a person (Prefer: wait), so its bound is generous.
const (
	headTime  = 10 * time.Second
	readTime  = 30 * time.Second
	writeTime = 3 * time.Minute
	idleTime  = 2 * time.Minute
	maxHead   = 32 << 10
	graceTime = 5 * time.Second

	maxConnections = 8192
)

// Server is a server that runs.
type Server struct {
	cfg      config.Config
	opts     Options
	parts    *parts
	http     *http.Server
	listener net.Listener
	serving  chan error // what http.Server.Serve ended with
	stop     context.CancelFunc
	life     sync.WaitGroup // background work
	closing  sync.Once
	closed   error
}

// Start opens the stores, listens and serves. The context bounds the start alone; the server ends by Close or Wait. When
// Start returns without error the server answers.
func Start(ctx context.Context, cfg config.Config, o Options) (*Server, error) {
	o = o.filled()
	st, err := openStores(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, cfg, o, st)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return s, nil
}

func start(ctx context.Context, cfg config.Config, o Options, st *stores) (*Server, error) {
	cert, err := certificate(cfg)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("another program listens on %s already; `listen` in the configuration, or --listen, says another address", cfg.Listen)
	case err != nil:
		return nil, err
	}
	cfg.Issuer = cfg.IssuerAt(l.Addr().String())
	p, err := wire(ctx, cfg, o, st)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	open := bounded(l, o.MaxConnections, p.door.trusted)
	p.door.crowded = open.many
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{cfg: cfg, opts: o, parts: p, listener: open, serving: make(chan error, 1), stop: stop}
	s.http = &http.Server{
		Handler: p.door, ReadHeaderTimeout: headTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHead, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return life },
	}
	s.http.RegisterOnShutdown(p.feed.Close) // a stream would never end by itself
	for _, work := range p.background(cert) {
		s.life.Go(func() { work(life) })
	}
	go s.serve(cert)
	return s, nil
}

func (s *Server) serve(cert *keyPair) {
	if cert == nil {
		s.serving <- s.http.Serve(s.listener)
		return
	}
	s.http.TLSConfig = handshake(s.cfg, cert)
	s.serving <- s.http.ServeTLS(s.listener, "", "")
}

// Issuer is the URL that others know the server by.
func (s *Server) Issuer() string { return s.cfg.Issuer }

// Addr is the address that is listened on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Config is the configuration in force.
func (s *Server) Config() config.Config { return s.cfg }

// Reload reads the guardrails again. When one of their files is wrong the old ones stay, which the log says too.
func (s *Server) Reload(ctx context.Context) error {
	err := s.parts.guardrails.reload(ctx)
	if err != nil {
		s.opts.Log.ErrorContext(ctx, "the guardrails are wrong; the old ones stay", "cause", err)
	}
	return err
}

// Wait serves until the context ends or serving fails, and then closes the server.
func (s *Server) Wait(ctx context.Context) error {
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-s.serving:
		s.serving <- failed
	}
	return errors.Join(failed, s.Close())
}

// Close lets what is in hand finish, ends the background work, writes out the ledger and lets go of the stores.
func (s *Server) Close() error {
	s.closing.Do(func() {
		var err error
		if s.shutdown() != nil {
			s.stop() // what waits for a person, or a store, is told so
			if s.shutdown() != nil {
				s.opts.Log.Warn("requests that did not end were cut off")
				err = s.http.Close()
			}
		}
		s.stop()
		s.life.Wait()
		if failed := <-s.serving; !errors.Is(failed, http.ErrServerClosed) {
			err = errors.Join(err, failed)
		}
		s.closed = errors.Join(err, s.parts.Close())
	})
	return s.closed
}

func (s *Server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Grace)
	defer cancel()
	return s.http.Shutdown(ctx)
}

// Open makes the operators' API of a server that does not listen, for commands on a server that does not run.
func Open(ctx context.Context, cfg config.Config) (api http.Handler, closed func() error, err error) {
	o := Options{}.filled()
	st, err := openStores(ctx, cfg, o)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Issuer == "" {
		cfg.Issuer = "http://" + cfg.Listen
	}
	p, err := wire(ctx, cfg, o, st)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return p.door, p.Close, nil
}
