package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"obolus/audit"
	"obolus/keys"
	"obolus/token"
)

// Keys keeps the signing keys. An unknown kid is keys.ErrWithdrawn.
type Keys interface {
	Infos() []keys.Info
	// Ensure makes a key for an algorithm that has none to sign with.
	Ensure(ctx context.Context, algorithm string) error
	// Rotate makes a new key for an algorithm; empty is the server's default.
	Rotate(ctx context.Context, algorithm string) error
	// Withdraw takes a key out of the published set at once.
	Withdraw(ctx context.Context, kid string) error
}

// KeyList is all keys.
type KeyList struct {
	Keys []keys.Info `json:"keys"`
}

// Rotation says for which algorithm a new key is wanted.
type Rotation struct {
	Algorithm string `json:"algorithm,omitempty"`
}

// TokenText is a token to be looked at.
type TokenText struct {
	Token string `json:"token"`
}

// Inspection is what the server knows of a token. What is no token of this server, or is over, is only said to be
// not active.
type Inspection struct {
	Active bool           `json:"active"`
	Claims map[string]any `json:"claims,omitempty"`
}

func (s *Server) keyRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/keys", name: "listKeys", about: "The keys that sign tokens, and those that tokens still verify with.",
			out: KeyList{}, do: s.listKeys,
		},
		{
			method: http.MethodPost, path: "/keys/rotate", name: "rotateKey", in: Rotation{}, optional: true, out: keys.Info{}, created: true,
			about: "Sign with a new key from now on. The old one stays published until its tokens are over.", do: s.rotateKey,
		},
		{
			method: http.MethodPost, path: "/keys/{id}/withdraw", name: "withdrawKey", in: Why{}, optional: true,
			about: "Stop every token that a key signed and take it out of the published set: for a key that leaked.", do: s.withdrawKey,
		},
		{
			method: http.MethodPost, path: "/tokens/inspect", name: "inspectToken", in: TokenText{}, out: Inspection{},
			about: "Look at a token of this server without changing anything. Revoke it by a stop of kind token with its jti.",
			do:    s.inspect,
		},
	}
}

func (s *Server) listKeys(context.Context, call) (answer, error) {
	return answer{body: KeyList{append([]keys.Info{}, s.cfg.Keys.Infos()...)}}, nil
}

func (s *Server) rotateKey(ctx context.Context, c call) (answer, error) {
	var in Rotation
	if err := c.into(&in); err != nil {
		return answer{}, err
	}
	if in.Algorithm != "" && !slices.Contains(token.Algorithms(), in.Algorithm) {
		return answer{}, invalid("the algorithm is none of " + strings.Join(token.Algorithms(), ", "))
	}
	before := s.cfg.Keys.Infos()
	if err := s.cfg.Keys.Rotate(ctx, in.Algorithm); err != nil {
		return answer{}, err
	}
	k := newest(s.cfg.Keys.Infos(), before)
	return answer{body: k}, s.record(ctx, c, audit.KindKey, "key/"+k.ID, "rotated")
}

// newest is the key that was not there before.
func newest(now, before []keys.Info) keys.Info {
	for _, k := range now {
		if !slices.ContainsFunc(before, func(old keys.Info) bool { return old.ID == k.ID }) {
			return k
		}
	}
	return keys.Info{}
}

func (s *Server) withdrawKey(ctx context.Context, c call) (answer, error) {
	var why Why
	if err := c.into(&why); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Keys.Withdraw(ctx, c.id); err != nil {
		return answer{}, err
	}
	if err := s.stop(ctx, c, "key", c.id, why.Why); err != nil {
		return answer{}, err
	}
	return answer{}, s.record(ctx, c, audit.KindKey, "key/"+c.id, "withdrawn")
}

func (s *Server) inspect(ctx context.Context, c call) (answer, error) {
	var in TokenText
	if err := c.into(&in); err != nil {
		return answer{}, err
	}
	found, err := s.cfg.Inspect(ctx, in.Token)
	return answer{body: found}, err
}
