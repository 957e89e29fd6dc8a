package demo

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"obolus/resource"
)

// mailbox is the mail API: one handler, and a guard before it. It counts the mails that it sends.
type mailbox struct {
	uri    string
	server string // its client id
	sent   atomic.Int64
	http   *http.Server
	ended  chan error
}

// open serves on a listener.
func (m *mailbox) open(l net.Listener, issuer string, key *ecdsa.PrivateKey, wire *http.Transport) error {
	guard, err := resource.New(resource.Config{
		Issuer: issuer, Resource: m.uri, Client: resource.PrivateKey(m.server, key), RequireDPoP: true,
		HTTP: &http.Client{Transport: wire, Timeout: 5 * time.Second},
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /send", guard.Require(resource.Rule{Scopes: []string{"mail.send"}, OneTransaction: true})(http.HandlerFunc(m.send)))
	m.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	m.ended = make(chan error, 1)
	go func() { m.ended <- m.http.Serve(l) }()
	return nil
}

// send is the effect that is to happen once.
func (m *mailbox) send(w http.ResponseWriter, r *http.Request) {
	m.sent.Add(1)
	_ = resource.CallerFrom(r.Context()).Commit(r.Context())
	w.WriteHeader(http.StatusNoContent)
}

// Close ends it.
func (m *mailbox) Close() error {
	if m.http == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := m.http.Shutdown(ctx)
	if ended := <-m.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
