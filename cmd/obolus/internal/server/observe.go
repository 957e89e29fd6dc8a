package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"obolus/cmd/obolus/internal/config"
)

// door is what every request passes before the router: it names the request, finds the peer, lets no more in than can be worked
// on, survives a panic, and tells log and metrics how it went. It never looks at a query, a body or a header that may hold a
// secret.
type door struct {
	next      http.Handler
	log       *slog.Logger
	now       func() time.Time
	metrics   *metrics
	gate      *gate
	operators *gate // whatever else is to do, operators are let in
	refusals  *refusals
	crowded   func() bool // clients are asked to let go of their connections
	proxies   []netip.Prefix
	strict    bool // browsers are told to come by https only

	certificates certificates
}

// operatorsPlaces are those of the operators' API and console, beside those of everybody.
const operatorsPlaces = 16

func newDoor(o Options, m *metrics, next http.Handler) *door {
	return &door{
		next: next, log: o.Log, now: o.Now, metrics: m, gate: newGate(o.MaxInFlight, o.Now), operators: newGate(operatorsPlaces, o.Now),
		refusals: newRefusals(m, o.Log, o.Now), crowded: func() bool { return false },
	}
}

// gateOf is the one that a path leads through; nil: none, because it must answer however full the server is.
func (d *door) gateOf(path string) *gate {
	switch {
	case strings.HasSuffix(path, "/healthz") || strings.HasSuffix(path, "/readyz") || strings.HasSuffix(path, "/metrics"):
		return nil
	case strings.Contains(path, "/admin/") || strings.Contains(path, "/console"):
		return d.operators
	default:
		return d.gate
	}
}

// watched is a response that is being watched. The router names the route in it.
type watched struct {
	http.ResponseWriter
	status int
	route  string
	place  *place // that it holds; nil: none
}

// detach lets a request that has become a stream go on without its place: it is in hand for as long as its client likes.
func detach(w http.ResponseWriter) {
	if seen, ok := w.(*watched); ok && seen.place != nil {
		seen.place.leave()
	}
}

// WriteHeader notes the status.
func (w *watched) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes that the status was 200 if nobody said another.
func (w *watched) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is for those who ask for it by its name.
func (w *watched) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack is for those who ask for it by its name.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// named tells the door which route the router chose.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen, ok := w.(*watched); ok {
			if route := mux.CurrentRoute(r); route != nil {
				seen.route = route.GetName()
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP is for http.Server.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, peer := d.now(), d.peer(r)
	if d.crowded() {
		w.Header().Set("Connection", "close")
	}
	var held *place
	if gate := d.gateOf(r.URL.Path); gate != nil {
		if held = gate.admit(r, addressOf(peer)); !held.held {
			if !held.waited {
				d.refusals.wait(r)
			}
			d.refusals.give(w, r)
			return
		}
		defer d.refusals.another()
		defer held.leave()
		r = r.WithContext(context.WithValue(r.Context(), placeKey{}, held))
	}
	id := requestID()
	if d.certificates.any() {
		r = d.certificates.note(r, d.fromProxy)
	}
	r.RemoteAddr = peer
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if d.strict {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	}
	seen := &watched{ResponseWriter: w, place: held}
	defer d.told(r, seen, id, start)
	defer d.survive(r, seen, id)
	d.next.ServeHTTP(seen, r)
}

// refuse answers for nobody in particular: what no route wrote itself.
func refuse(w http.ResponseWriter, status int, code, sentence string) {
	body := `{"error":` + strconv.Quote(code) + `,"error_description":` + strconv.Quote(sentence) + "}\n"
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// survive turns a panic into an answer. What it says outside is nothing.
func (d *door) survive(r *http.Request, w *watched, id string) {
	caught := recover()
	if caught == nil {
		return
	}
	if caught == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(caught)
	}
	d.log.ErrorContext(r.Context(), "panic", "request", id, "route", w.route, "cause", fmt.Sprint(caught), "stack", string(debug.Stack()))
	if w.status == 0 {
		refuse(w, http.StatusInternalServerError, "server_error", "the server met an unexpected condition")
	}
}

// told tells log and metrics of a request that is over.
func (d *door) told(r *http.Request, w *watched, id string, start time.Time) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.route == "" {
		w.route = "none"
	}
	took := d.now().Sub(start)
	d.metrics.request(r.Method, w.route, w.status, took)
	level := slog.LevelInfo
	if w.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	if !d.log.Enabled(r.Context(), level) {
		return
	}
	d.log.LogAttrs(r.Context(), level, "request", slog.String("method", methodName(r.Method)), slog.String("route", w.route),
		slog.Int("status", w.status), slog.Duration("duration", took), slog.String("request", id), slog.String("remote", r.RemoteAddr))
}

func methods() []string {
	return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch}
}

const otherMethod = "other"

// methodName keeps what strangers invent out of log and metrics.
func methodName(m string) string {
	if slices.Contains(methods(), m) {
		return m
	}
	return otherMethod
}

func requestID() string {
	var raw [9]byte
	_, _ = rand.Read(raw[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// peer is the address of who asked: the nearest one that is no proxy of ours. What a stranger writes into
// X-Forwarded-For is not believed.
func (d *door) peer(r *http.Request) string {
	host, port, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	at, err := netip.ParseAddr(host)
	if err != nil || !d.trusted(at) {
		return r.RemoteAddr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		hop, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		at, port = hop.Unmap(), "0"
		if !d.trusted(at) {
			break
		}
	}
	return net.JoinHostPort(at.String(), port)
}

func (d *door) trusted(at netip.Addr) bool {
	for _, p := range d.proxies {
		if p.Contains(at.Unmap()) {
			return true
		}
	}
	return false
}

// networks reads those of a configuration, which was checked.
func networks(written []string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range written {
		if p, err := config.Network(s); err == nil {
			list = append(list, p)
		}
	}
	return list
}
