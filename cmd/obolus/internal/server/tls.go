package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"obolus/cmd/obolus/internal/config"
)

// keyPair is the server's certificate. It is read again when its files change, so that a renewal needs no restart.
type keyPair struct {
	files   config.TLS
	current atomic.Pointer[tls.Certificate]
	stamp   string
}

// certificate reads the configured certificate; nil: none is configured.
func certificate(cfg config.Config) (*keyPair, error) {
	if cfg.TLS.Cert == "" {
		return nil, nil //nolint:nilnil // plain http is no error
	}
	k := &keyPair{files: cfg.TLS, stamp: stampOf(cfg.TLS.Cert, cfg.TLS.Key)}
	return k, k.read()
}

func (k *keyPair) read() error {
	pair, err := tls.LoadX509KeyPair(k.files.Cert, k.files.Key)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	k.current.Store(&pair)
	return nil
}

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.current.Load(), nil }

// watch reads the certificate again when one of its files has changed.
func (k *keyPair) watch(ctx context.Context, log *slog.Logger) {
	every(ctx, pollTime, func() {
		stamp := stampOf(k.files.Cert, k.files.Key)
		if stamp == k.stamp {
			return
		}
		if err := k.read(); err != nil {
			log.WarnContext(ctx, "the certificate changed and cannot be read; the old one stays", "cause", err)
			return
		}
		k.stamp = stamp
		log.InfoContext(ctx, "the certificate was read again")
	})
}

// pollTime is how often files are looked at.
const pollTime = 2 * time.Second

// stampOf changes when one of the files does.
func stampOf(files ...string) string {
	var stamp strings.Builder
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprint(&stamp, info.ModTime().UnixNano(), info.Size(), ";")
		} else {
			stamp.WriteString("none;")
		}
	}
	return stamp.String()
}

// every does something again and again, each so long, until the context ends.
func every(ctx context.Context, each time.Duration, do func()) {
	tick := time.NewTicker(each)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}
