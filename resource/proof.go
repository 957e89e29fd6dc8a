package resource

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// prove is step 2: RFC 9449 section 7.1. A token that is bound to a key comes with a proof by that key, and one that is not bound is not
// presented as if it were. The proof is for this method, this URL and this token, fresh, and seen for the first time.
func (g *Guard) prove(r *http.Request, cred presented, c *Caller) error {
	switch {
	case c.jkt == "" && cred.scheme == oauth.DPoP:
		return invalidToken("the token is not bound to a key", nil)
	case c.jkt == "" && g.cfg.RequireDPoP:
		return &refusal{scheme: oauth.DPoP, err: invalidToken("a token that is bound to a key is needed", nil)}
	case c.jkt == "":
		return nil
	case cred.scheme != oauth.DPoP:
		return &refusal{scheme: oauth.DPoP, err: invalidToken("the token is bound to a key and comes without its proof", nil)}
	}
	headers := r.Header["Dpop"]
	if len(headers) != 1 || len(headers[0]) > maxProof {
		return invalidProof("one DPoP header is needed", nil)
	}
	uri := g.url(r)
	proof, err := token.VerifyProof(headers[0], token.ProofExpect{Method: r.Method, URI: uri, Now: g.cfg.Now, AccessToken: cred.token})
	if err != nil {
		return invalidProof("the DPoP proof is not valid", err)
	}
	if subtle.ConstantTimeCompare([]byte(proof.JKT), []byte(c.jkt)) != 1 {
		return invalidToken("the token is bound to another key", nil)
	}
	if err := g.checkNonce(proof.Nonce, c); err != nil {
		return err
	}
	return g.spend(r.Context(), proof, uri)
}

// spend makes the proof worthless for a second request.
func (g *Guard) spend(ctx context.Context, proof *token.Proof, uri string) error {
	fresh, err := g.cfg.Replay(ctx, token.Hash(proof.JKT+" "+uri+" "+proof.ID), proof.IssuedAt.Add(proofLife))
	if err != nil {
		return oauth.Unavailable(err)
	}
	if !fresh {
		return &oauth.Error{
			Code: oauth.InvalidDPoPProof, Reason: oauth.ReasonProofUsed, HTTPStatus: http.StatusUnauthorized,
			Description: "the DPoP proof was used before; each request carries its own",
		}
	}
	return nil
}

func invalidProof(description string, cause error) error {
	return &oauth.Error{
		Code: oauth.InvalidDPoPProof, Reason: oauth.ReasonProof, HTTPStatus: http.StatusUnauthorized, Description: description, Err: cause,
	}
}

// url is the one that the client called, as this server knows itself from outside.
func (g *Guard) url(r *http.Request) string {
	if g.cfg.URL != nil {
		return g.cfg.URL(r)
	}
	return g.cfg.External + requestPath(r)
}

// requestPath is the path as the client sent it, also where a handler further up has cut its beginning off.
func requestPath(r *http.Request) string {
	if !strings.HasPrefix(r.RequestURI, "/") {
		if u, err := url.Parse(r.RequestURI); err == nil && u.Host != "" {
			return u.EscapedPath()
		}
		return r.URL.EscapedPath()
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// nonces are those of RFC 9449 section 9, without memory: the number of a minute and a MAC over it, in which the resource stands, so that
// no other server's nonce is one of ours. One counts in its minute and in the next.
type nonces struct {
	key      []byte
	audience string
}

const nonceLife = time.Minute

func (n nonces) at(now time.Time) string {
	minute := binary.BigEndian.AppendUint64(nil, uint64(now.Unix()/int64(nonceLife/time.Second))) //nolint:gosec // the year is above 1970
	mac := hmac.New(sha256.New, n.key)
	mac.Write([]byte("obolus resource nonce\x00" + n.audience + "\x00"))
	mac.Write(minute)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(minute))
}

// checkNonce wants a nonce, if this server has them. A client that sent the older one learns the newer one with its answer.
func (g *Guard) checkNonce(got string, c *Caller) error {
	if len(g.nonces.key) == 0 {
		return nil
	}
	now := g.cfg.Now()
	current, before := g.nonces.at(now), g.nonces.at(now.Add(-nonceLife))
	switch {
	case subtle.ConstantTimeCompare([]byte(got), []byte(current)) == 1:
		return nil
	case subtle.ConstantTimeCompare([]byte(got), []byte(before)) == 1:
		c.nonce = current
		return nil
	default:
		return &refusal{scheme: oauth.DPoP, nonce: current, err: &oauth.Error{
			Code: oauth.UseDPoPNonce, Reason: oauth.ReasonProof, HTTPStatus: http.StatusUnauthorized,
			Description: "the DPoP proof needs the nonce of this server",
		}}
	}
}

const (
	proofLife   = 65 * time.Second // 60 s in the past and 5 s in the future, as token.VerifyProof judges
	proofShards = 64
	maxProofs   = 1 << 20
)

var errFull = errors.New("the memory for DPoP proofs is full")

// proofs remember which proofs were seen. Each shard has two sets, and the older one is thrown away whole when every proof in it is too old
// to be accepted anyway: no timer, no scan, and no proof is forgotten early. Proofs from before the start are refused, since an
// earlier process may have seen them.
type proofs struct {
	now   func() time.Time
	start int64 // Unix seconds
	most  int   // of a shard
	shard [proofShards]proofShard
}

type proofShard struct {
	mu     sync.Mutex
	since  int64 // when young was begun, Unix seconds
	young  map[[16]byte]struct{}
	old    map[[16]byte]struct{}
	latest int64 // the clock never runs backwards in here
}

func newProofs(now func() time.Time, most int) *proofs {
	if most <= 0 {
		most = maxProofs
	}
	return &proofs{now: now, start: now().Unix(), most: max(most/proofShards, 1)}
}

// remember is Config.Replay.
func (p *proofs) remember(_ context.Context, proof string, until time.Time) (bool, error) {
	sum := sha256.Sum256([]byte(proof))
	var key [16]byte
	copy(key[:], sum[:])
	if until.Add(-proofLife).Unix() < p.start {
		return false, nil
	}
	return p.shard[sum[31]%proofShards].add(key, p.now().Unix(), p.most)
}

func (s *proofShard) add(key [16]byte, now int64, most int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = max(s.latest, now)
	switch age := s.latest - s.since; {
	case s.young == nil || age > 2*int64(proofLife/time.Second):
		s.young, s.old, s.since = make(map[[16]byte]struct{}), nil, s.latest
	case age > int64(proofLife/time.Second):
		s.young, s.old, s.since = make(map[[16]byte]struct{}), s.young, s.latest
	}
	if _, seen := s.young[key]; seen {
		return false, nil
	}
	if _, seen := s.old[key]; seen {
		return false, nil
	}
	if len(s.young)+len(s.old) >= most {
		return false, errFull
	}
	s.young[key] = struct{}{}
	return true, nil
}
