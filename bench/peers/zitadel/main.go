// Command zitadel serves the token exchange of github.com/zitadel/oidc on its own example storage, which is in memory, so that
// bench can measure it beside Obolus. What is changed of the example is the algorithm of its tokens (ES256 for RS256), their form
// (JWT for opaque) and who its client is. It listens on this machine only.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	secretClient = "keeper"
	keyClient    = "signer"
	secret       = "a-secret-of-the-benchmark-0123456789"
	keyID        = "key"
)

// store is the example's with other keys.
type store struct {
	*storage.Storage
	signing *ecdsa.PrivateKey
	client  jose.JSONWebKey
}

type signer struct{ key *ecdsa.PrivateKey }

func (signer) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (s signer) Key() any                                  { return s.key }
func (signer) ID() string                                  { return keyID }

type public struct{ key *ecdsa.PublicKey }

func (public) ID() string                         { return keyID }
func (public) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (public) Use() string                        { return "sig" }
func (p public) Key() any                         { return p.key }

// SigningKey is of ES256.
func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return signer{s.signing}, nil }

// SignatureAlgorithms is ES256.
func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet is the one key.
func (s *store) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{public{&s.signing.PublicKey}}, nil
}

// GetKeyByIDAndClientID is the key of the client that signs.
func (s *store) GetKeyByIDAndClientID(_ context.Context, _, client string) (*jose.JSONWebKey, error) {
	if client != keyClient {
		return nil, errors.New("no such client")
	}
	return &s.client, nil
}

type client struct {
	op.Client
	auth oidc.AuthMethod
}

// AccessTokenType is JWT.
func (client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// AuthMethod is how it authenticates.
func (c client) AuthMethod() oidc.AuthMethod { return c.auth }

// GetClientByClientID is the example's client.
func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	if id == keyClient {
		return client{c, oidc.AuthMethodPrivateKeyJWT}, nil
	}
	return client{c, oidc.AuthMethodPost}, nil
}

// subjects signs users' tokens, as the code flow would.
func (s *store) subjects(issuer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil || n < 1 || n > 100_000 {
			http.Error(w, "n", http.StatusBadRequest)
			return
		}
		sign, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.signing, KeyID: keyID}}, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		list := make([]string, n)
		for i := range list {
			now := time.Now()
			list[i], err = jwt.Signed(sign).Claims(jwt.Claims{
				Issuer: issuer, Subject: "id1", Audience: jwt.Audience{"app"}, ID: rand.Text(),
				IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
			}).Serialize()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	}
}

func run() error {
	addr := os.Getenv("ADDR")
	issuer := "http://" + addr
	s := &store{}
	if err := json.Unmarshal([]byte(os.Getenv("CLIENT_JWK")), &s.client); err != nil {
		return fmt.Errorf("CLIENT_JWK: %w", err)
	}
	var err error
	if s.signing, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	storage.RegisterClients(storage.WebClient(secretClient, secret), storage.WebClient(keyClient, secret))
	s.Storage = storage.NewStorage(storage.NewUserStore(issuer))
	router := exampleop.SetupServer(issuer, s, slog.New(slog.DiscardHandler), true)
	mux := http.NewServeMux()
	mux.Handle("/", router)
	mux.Handle("/bench/subjects", s.subjects(issuer))
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
