//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"obolus/cmd/obolus/internal/config"
	"obolus/cmd/obolus/internal/server"
	"obolus/resource"
)

// roleVariable makes this program one of its own children.
const roleVariable = "TORTURE_ROLE"

// The roles.
const (
	roleServer   = "server"   // the server, with a clock that obeys the standard input
	roleResource = "resource" // a resource server behind the guard, that counts its effects in a file
)

// asChild plays a role.
func asChild(role string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch {
	case role == roleServer && len(args) == 1:
		return serve(ctx, args[0])
	case role == roleResource && len(args) == 4:
		return serveResource(ctx, args)
	default:
		return fmt.Errorf("no role %q with %d arguments", role, len(args))
	}
}

// shifted is a clock that is ahead of the machine's, or behind it.
type shifted struct{ by atomic.Int64 }

func (s *shifted) now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

// obey reads how far the clock is to be off. Whoever closes the standard input has ended, and so do we.
func (s *shifted) obey(stop func()) {
	defer stop()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if d, err := time.ParseDuration(lines.Text()); err == nil {
			s.by.Store(int64(d))
		}
	}
}

// serve is `obolus serve` but for the clock.
func serve(ctx context.Context, file string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cfg, err := config.Load(config.Sources{File: file, Environ: os.Environ()})
	if err != nil {
		return err
	}
	var clock shifted
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := server.Start(ctx, cfg, server.Options{Log: log, Now: clock.now})
	if err != nil {
		return err
	}
	go clock.obey(stop)
	return s.Wait(ctx)
}

// serveResource is a resource server: address, issuer, resource and the file of its effects. Every effect is a line in the
// file, written before the answer.
func serveResource(ctx context.Context, args []string) error {
	guard, err := resource.New(resource.Config{
		Issuer: args[1], Resource: args[2], Client: resource.Secret(mailServer, clientSecret), Patience: 2 * time.Second,
	})
	if err != nil {
		return err
	}
	effects, err := os.OpenFile(args[3], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer effects.Close()
	effect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := resource.CallerFrom(r.Context())
		if _, err := effects.WriteString(caller.Txn + "\n"); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	s := &http.Server{
		Addr: args[0], ReadHeaderTimeout: 5 * time.Second,
		Handler: guard.Require(resource.Rule{Scopes: strings.Fields(scope)})(effect),
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
