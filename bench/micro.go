//go:build linux

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"obolus/resource"
	"obolus/token"
)

// The floor is measured in children of their own, so that what this program allocates is not in it: `bench child NAME ARGS`. A
// child that serves says nothing, one that measures prints its numbers as JSON and ends.

// children are what this program is when it is its own child.
func children() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"http": childHTTP, "guard": childGuard, "micro": childMicro, "redis": childRedis,
	}
}

// processCPU is what this process has used so far.
func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cost is the processor time of one call of f in microseconds, from n calls.
func cost(n int, f func(i int) error) (float64, error) {
	began := processCPU()
	for i := range n {
		if err := f(i); err != nil {
			return 0, err
		}
	}
	return micros(processCPU()-began) / float64(n), nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// The names of the floor.
const (
	floorVerify   = "verify ES256"
	floorSign     = "sign ES256"
	floorVerifyEd = "verify EdDSA"
	floorSignEd   = "sign EdDSA"
	floorGuard    = "guard check, in process"
	floorSync     = "fsync"       // processor time
	floorSyncWall = "fsync, wall" // time
	floorPost     = "bare HTTP, POST"
	floorGet      = "bare HTTP, GET"
)

// childMicro measures what cannot be cheaper: `micro DIR N`.
func childMicro(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("micro DIR N")
	}
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		return err
	}
	ops, err := primitives()
	if err != nil {
		return err
	}
	guard, err := guardCheck(ctx, n)
	if err != nil {
		return err
	}
	ops[floorGuard] = guard
	more, err := parts(ctx)
	if err != nil {
		return err
	}
	maps.Copy(ops, more)
	got := map[string]float64{}
	const slices = 4 // so that a moment in which something else runs meets all of them
	for range slices {
		for name, f := range ops {
			us, err := cost(max(n/slices, 1), f)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			got[name] += us / slices
		}
	}
	if got[floorSync], got[floorSyncWall], err = syncs(args[0], max(n/10, 5)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

func primitives() (map[string]func(int) error, error) {
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, err2 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	message := []byte(strings.Repeat("as large as the signed part of an access token", 14))
	digest := sha256.Sum256(message)
	ecSigned, err := ecdsa.SignASN1(rand.Reader, ec, digest[:])
	if err != nil {
		return nil, err
	}
	edSigned := ed25519.Sign(ed, message)
	edPublic, ok := ed.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("not an Ed25519 key")
	}
	bad := errors.New("a signature does not verify")
	return map[string]func(int) error{
		floorVerify: func(int) error {
			digest := sha256.Sum256(message)
			if !ecdsa.VerifyASN1(&ec.PublicKey, digest[:], ecSigned) {
				return bad
			}
			return nil
		},
		floorSign: func(int) error {
			digest := sha256.Sum256(message)
			_, err := ec.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		},
		floorVerifyEd: func(int) error {
			if !ed25519.Verify(edPublic, message, edSigned) {
				return bad
			}
			return nil
		},
		floorSignEd: func(int) error {
			ed25519.Sign(ed, message)
			return nil
		},
	}, nil
}

// syncs is what it costs to have a page on disk: processor time and time, in microseconds.
func syncs(dir string, n int) (cpu, wall float64, err error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	times := make([]float64, n)
	cpu, err = cost(n, func(i int) error {
		began := time.Now()
		if _, err := f.WriteAt(page, int64(i)*4096); err != nil {
			return err
		}
		err := syscall.Fdatasync(int(f.Fd()))
		times[i] = micros(time.Since(began))
		return err
	})
	slices.Sort(times)
	return cpu, times[n/2], err
}

// The issuer of the guard's tokens is this program: a guard needs no more of a server than its metadata and keys.
type issuer struct {
	url    string
	key    *token.SigningKey
	signer *token.Issuer
}

func newIssuer(url string) (*issuer, error) {
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	return &issuer{url: url, key: key, signer: token.NewIssuer(url)}, err
}

// token is a session token for the notes that nobody has seen.
func (i *issuer) token() (string, error) {
	iat := time.Now().Unix()
	return i.signer.Sign(token.Claims{
		Issuer: i.url, Audience: token.Audience{notesURI}, Subject: alice, ClientID: keyAgent, ID: rand.Text(), IssuedAt: iat, NotBefore: iat,
		Expires: iat + 600, Scope: "notes.read", Act: &token.Actor{Issuer: i.url, Subject: keyAgent},
	}, i.key)
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(r.URL.Path, "/.well-known/") {
		_ = json.NewEncoder(w).Encode(obj{
			"issuer": i.url, "jwks_uri": i.url + "/jwks.json", "token_endpoint": i.url + "/token", "redemption_endpoint": i.url + "/redeem",
			"response_types_supported": []string{"code"},
		})
		return
	}
	jwks, err := token.NewPublicSet(i.key.Public()).JWKS()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(jwks)
}

// serve listens on an address of this machine until the context ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	s := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// The sizes of the answers of the bare handler: those of an exchange and of a key set.
const (
	postAnswer = 1100
	getAnswer  = 400
)

// childHTTP is the least that a server can do, and the least that one can do whose answer must be on disk before: `http ADDR`.
func childHTTP(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("http ADDR")
	}
	disk, err := newShared("bare")
	if err != nil {
		return err
	}
	long := []byte(`{"a":"` + strings.Repeat("x", postAnswer) + `"}`)
	short := long[:getAnswer]
	return serve(ctx, args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodPost {
			_, _ = w.Write(short)
			return
		}
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.Path == pathSynced && disk.sync() != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(long)
	}))
}

const pathSynced = "/synced"

// shared is a file of which all who wait share one fdatasync.
type shared struct {
	file    *os.File
	waiting chan chan error
}

func newShared(name string) (*shared, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	s := &shared{file: f, waiting: make(chan chan error, maxOpen)}
	go s.run()
	return s, nil
}

const maxOpen = 1024 // who wait at once

func (s *shared) sync() error {
	done := make(chan error, 1)
	s.waiting <- done
	return <-done
}

func (s *shared) run() {
	page := make([]byte, 4096)
	for i := int64(0); ; i++ {
		all := []chan error{<-s.waiting}
		for len(s.waiting) > 0 {
			all = append(all, <-s.waiting)
		}
		_, err := s.file.WriteAt(page, i%1024*4096)
		err = errors.Join(err, syscall.Fdatasync(int(s.file.Fd())))
		for _, done := range all {
			done <- err
		}
	}
}

func checkBare(status int, body []byte) error {
	if status != http.StatusOK || len(body) < getAnswer {
		return fmt.Errorf("status %d with %d bytes", status, len(body))
	}
	return nil
}

func newGuard(issuer string) (http.Handler, error) {
	g, err := resource.New(resource.Config{Issuer: issuer, Resource: notesURI, External: notesURI})
	if err != nil {
		return nil, err
	}
	answer := []byte(`{"notes":"` + strings.Repeat("x", getAnswer) + `"}`)
	return g.Require(resource.Rule{Scopes: []string{"notes.read"}})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if caller := resource.CallerFrom(r.Context()); caller == nil || caller.User != alice {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})), nil
}

// childGuard is a resource server behind a guard: `guard ADDR ISSUER`.
func childGuard(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("guard ADDR ISSUER")
	}
	h, err := newGuard(args[1])
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/notes", h)
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	return serve(ctx, args[0], mux)
}

// bin is a response that is thrown away.
type bin struct {
	head   http.Header
	status int
}

func (b *bin) Header() http.Header { return b.head }
func (b *bin) WriteHeader(s int)   { b.status = s }
func (b *bin) Write(p []byte) (int, error) {
	if b.status == 0 {
		b.status = http.StatusOK
	}
	return len(p), nil
}

// guardCheck is the guard around a handler that does nothing, for tokens that it has not seen, without HTTP.
func guardCheck(ctx context.Context, n int) (func(int) error, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	iss, err := newIssuer("http://" + addr)
	if err != nil {
		return nil, err
	}
	go func() { _ = serve(ctx, addr, iss) }()
	h, err := newGuard(iss.url)
	if err != nil {
		return nil, err
	}
	requests := make([]*http.Request, n+1)
	for i := range requests {
		t, err := iss.token()
		if err != nil {
			return nil, err
		}
		if requests[i], err = http.NewRequestWithContext(ctx, http.MethodGet, notesURI+"/notes", http.NoBody); err != nil {
			return nil, err
		}
		requests[i].Header.Set("Authorization", "Bearer "+t)
	}
	next := 0
	check := func(int) error {
		w := &bin{head: http.Header{}}
		h.ServeHTTP(w, requests[next%len(requests)])
		next++
		if w.status != http.StatusOK {
			return fmt.Errorf("the guard says %d", w.status)
		}
		return nil
	}
	for range 200 { // until the issuer listens
		if err = check(0); err == nil {
			return check, nil
		}
		next = 0
		time.Sleep(5 * time.Millisecond)
	}
	return nil, err
}

// trips are the round trips of one request to Redis: how many commands of a kind are in each pipeline.
type trips []trip

type trip struct{ Gets, Writes int }

// childRedis makes the same round trips as a request does, with nothing around them: `redis ADDR TRIPS N`. It prints the processor time
// and the time of one request's, in microseconds.
func childRedis(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("redis ADDR TRIPS N")
	}
	var shape trips
	var n int
	if err := json.Unmarshal([]byte(args[1]), &shape); err != nil {
		return err
	}
	if _, err := fmt.Sscan(args[2], &n); err != nil || n < 1 || n > maxLoad {
		return errors.New("N")
	}
	c := redis.NewClient(&redis.Options{Addr: args[0]})
	defer c.Close()
	value := strings.Repeat("v", 300)
	if err := c.Set(ctx, "bench:floor:0", value, time.Minute).Err(); err != nil {
		return err
	}
	one := func(i int) error {
		for _, t := range shape {
			p := c.Pipeline()
			for range t.Writes {
				p.SetNX(ctx, fmt.Sprint("bench:floor:once:", i), value, 2*time.Second)
			}
			for range t.Gets {
				p.Get(ctx, "bench:floor:0")
			}
			if _, err := p.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := concurrently(16, 500, one); err != nil {
		return err
	}
	began := processCPU()
	times, err := concurrently(16, n, one)
	if err != nil {
		return err
	}
	used := micros(processCPU()-began) / float64(n)
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{"cpu": used, "wall": times[len(times)/2]})
}

// concurrently calls f n times from that many goroutines, and gives how long each call took, sorted.
func concurrently(workers, n int, f func(int) error) ([]float64, error) {
	times := make([]float64, n)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				began := time.Now()
				if err := f(i); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				times[i] = micros(time.Since(began))
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	slices.Sort(times)
	return times, nil
}
