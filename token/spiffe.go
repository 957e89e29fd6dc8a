package token

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"obolus/oauth/strict"
)

// SPIFFEID is the name of a workload: SPIFFE-ID section 2.
type SPIFFEID struct {
	TrustDomain string
	Path        string // begins with a slash
}

// String writes it as a URI.
func (id SPIFFEID) String() string { return spiffeScheme + id.TrustDomain + id.Path }

const (
	spiffeScheme   = "spiffe://"
	maxSPIFFEID    = 2048
	maxTrustDomain = 255
)

var errSPIFFEID = errors.New("not the SPIFFE ID of a workload")

// ParseSPIFFEID reads the SPIFFE ID of a workload, which has a path, in the one spelling that there is for it.
func ParseSPIFFEID(s string) (SPIFFEID, error) {
	rest, ok := strings.CutPrefix(s, spiffeScheme)
	slash := strings.IndexByte(rest, '/')
	if !ok || len(s) > maxSPIFFEID || slash < 0 {
		return SPIFFEID{}, errSPIFFEID
	}
	id := SPIFFEID{TrustDomain: rest[:slash], Path: rest[slash:]}
	if !ValidTrustDomain(id.TrustDomain) {
		return SPIFFEID{}, errSPIFFEID
	}
	for segment := range strings.SplitSeq(id.Path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, lower+upper+digits+"-._") != "" {
			return SPIFFEID{}, errSPIFFEID
		}
	}
	return id, nil
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

// ValidTrustDomain says whether s is the name of a trust domain: SPIFFE-ID section 2.1.
func ValidTrustDomain(s string) bool {
	return s != "" && len(s) <= maxTrustDomain && strings.Trim(s, lower+digits+"-._") == ""
}

// MaxWorkloadLifetime is how far the exp of a workload's token may lie ahead.
const MaxWorkloadLifetime = 24 * time.Hour

// SVIDExpect is what a JWT-SVID must be; all members are needed.
type SVIDExpect struct {
	TrustDomain string // whose keys these are
	Audience    string // the issuer identifier of this server
	Keys        KeySource
	Now         func() time.Time
}

// SVID is a verified JWT-SVID.
type SVID struct {
	ID     SPIFFEID
	Claims Claims
}

// VerifySVID checks a JWT-SVID: JWT-SVID sections 2 to 4. The keys are those of the trust domain, which the sub must belong to; this
// server is the only audience; exp is there, and at most MaxWorkloadLifetime ahead. What it does not check is whether it was shown before: a
// workload shows its SVID as often as it likes, so that whoever relies on one wants the proof of a key beside it.
func VerifySVID(ctx context.Context, s string, e SVIDExpect) (SVID, error) {
	c, err := parse([]byte(s))
	if err != nil {
		return SVID{}, err
	}
	if err := c.head.meets(demand{types: []string{"", "jwt", "jose"}, algs: ProofAlgorithms()}); err != nil {
		return SVID{}, err
	}
	if _, err := c.verifyBy(ctx, e.Keys); err != nil {
		return SVID{}, err
	}
	var got SVID
	if err := got.Claims.UnmarshalJSON(c.payload); err != nil {
		return SVID{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if got.ID, err = ParseSPIFFEID(got.Claims.Subject); err != nil || got.ID.TrustDomain != e.TrustDomain {
		return SVID{}, fmt.Errorf("%w: sub", errClaims)
	}
	return got, workloadClaims(got.Claims, e.Audience, e.Now)
}

// workloadClaims holds the claims to what the token of a workload is: for this server alone, for a limited time, and about nobody else.
func workloadClaims(c Claims, audience string, now func() time.Time) error {
	switch {
	case audience == "" || len(c.Audience) != 1 || c.Audience[0] != audience:
		return errAudience
	case c.Act != nil || c.MayAct != nil || c.Confirm != nil:
		return fmt.Errorf("%w: a workload's token has neither act nor cnf", errClaims)
	default:
		return Expect{RequireExp: true, MaxLifetime: MaxWorkloadLifetime, Now: now}.times(c)
	}
}

// Bundle is a SPIFFE trust bundle: by what the workloads of one trust domain are verified.
type Bundle struct {
	Keys        PublicSet           // of JWT-SVIDs
	Authorities []*x509.Certificate // of X.509-SVIDs
}

// ParseBundle reads a trust bundle in the format of SPIFFE Trust Domain and Bundle section 4. An RSA key without alg is for RS256. Keys of
// kinds that are not taken are passed over.
func ParseBundle(data []byte) (Bundle, error) {
	raws, err := keysIn(data)
	if err != nil {
		return Bundle{}, err
	}
	var b Bundle
	for i, raw := range raws {
		if err := b.add(raw); err != nil {
			return Bundle{}, fmt.Errorf("key %d: %w", i, err)
		}
	}
	if len(b.Keys.keys) == 0 && len(b.Authorities) == 0 {
		return Bundle{}, errors.New("the trust bundle holds no key that is taken")
	}
	return b, nil
}

// bundleKey is what says which kind of key of a bundle this is.
type bundleKey struct {
	use   string
	chain []string
}

func (k *bundleKey) member(name string, value []byte) error {
	var err error
	switch name {
	case "use":
		err = readText(&k.use, value)
	case "x5c":
		k.chain, err = texts(value)
	}
	return err
}

func (b *Bundle) add(raw []byte) error {
	var kind bundleKey
	if err := strict.Object(raw, strict.Limits{Bytes: maxJWKS, Depth: 4, Members: 32}, kind.member); err != nil {
		return err
	}
	switch kind.use {
	case useJWTSVID:
		return b.addKey(raw)
	case "x509-svid":
		return b.addAuthority(kind.chain)
	default: // a use from another time, to be passed over
		return nil
	}
}

const useJWTSVID = "jwt-svid"

func (b *Bundle) addKey(raw []byte) error {
	k, err := jwkRules{algs: []string{RS256}, use: useJWTSVID}.parse(raw)
	if errors.Is(err, errKind) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, have := range b.Keys.keys {
		if have.ID == k.ID {
			return fmt.Errorf("kid %q stands twice", k.ID)
		}
	}
	b.Keys.keys = append(b.Keys.keys, k)
	return nil
}

func (b *Bundle) addAuthority(chain []string) error {
	if len(chain) != 1 {
		return errors.New("x5c of an authority is one certificate")
	}
	der, err := base64.StdEncoding.Strict().DecodeString(chain[0])
	if err != nil {
		return errors.New("x5c is not base64")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("x5c: %w", err)
	}
	if !cert.IsCA {
		return errors.New("x5c is not the certificate of an authority")
	}
	b.Authorities = append(b.Authorities, cert)
	return nil
}
