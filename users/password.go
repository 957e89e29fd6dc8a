package users

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"obolus/oauth"
)

// Secret is a new password: as it is typed, or as its hash. At most one member is set; the zero value is no change.
type Secret struct {
	Password string
	Hash     string // "$argon2id$v=19$m=…,t=…,p=…$salt$key"
}

// The parameters of argon2id, as OWASP recommends them: 19 MiB, two passes, one lane.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonLanes   = 1
	argonSalt    = 16
	argonKey     = 32
	minPassword  = 8
	maxPassword  = 1024 // bytes
	maxMemory    = 128 * 1024
	maxTime      = 10
	maxLanes     = 8
	argonVersion = argon2.Version
)

var errNoHash = errors.New("not an argon2id hash of acceptable cost")

// HashPassword gives the hash of a password in the PHC string format. It takes 19 MiB for a moment.
func HashPassword(password string) (string, error) {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key := argon2.IDKey(prepared(password), salt, argonTime, argonMemory, argonLanes, argonKey)
	return written(salt, key), nil
}

func written(salt, key []byte) string {
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argonVersion, argonMemory, argonTime, argonLanes,
		enc.EncodeToString(salt), enc.EncodeToString(key))
}

// nobodysHash is one that no password has, and costs the same to find that out. Nothing needs to be hashed to make it.
func nobodysHash() string {
	random := make([]byte, argonSalt+argonKey)
	rand.Read(random)
	return written(random[:argonSalt], random[argonSalt:])
}

// CheckHash says what is wrong with a hash that was made elsewhere, if anything: it must be argon2id at a cost that a
// server can afford for every attempt.
func CheckHash(hash string) error {
	_, err := parseHash(hash)
	return err
}

// CheckPassword says what is wrong with a new password, if anything. It asks for length alone (NIST SP 800-63B).
func CheckPassword(password string) error {
	if len([]rune(password)) < minPassword || len(password) > maxPassword {
		return invalid("a password has at least %d characters and at most %d bytes", minPassword, maxPassword)
	}
	return nil
}

type phc struct {
	memory, time uint32
	lanes        uint8
	salt, key    []byte
}

func parseHash(hash string) (phc, error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argonVersion) {
		return phc{}, errNoHash
	}
	var p phc
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.lanes); n != 3 || err != nil {
		return phc{}, errNoHash
	}
	var errSalt, errKey error
	p.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	p.key, errKey = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	cost := p.memory >= 8*uint32(p.lanes) && p.memory <= maxMemory && p.time >= 1 && p.time <= maxTime && p.lanes >= 1 && p.lanes <= maxLanes
	same := fmt.Sprintf("m=%d,t=%d,p=%d", p.memory, p.time, p.lanes) == parts[3]
	if errSalt != nil || errKey != nil || !cost || !same || len(p.salt) < 8 || len(p.salt) > 64 || len(p.key) < 16 || len(p.key) > 64 {
		return phc{}, errNoHash
	}
	return p, nil
}

// matches compares a password with a hash, in the time that the hash takes.
func matches(hash, password string) bool {
	p, err := parseHash(hash)
	if err != nil {
		return false
	}
	key := argon2.IDKey(prepared(password), p.salt, p.time, p.memory, p.lanes, uint32(len(p.key))) //nolint:gosec // 16 to 64
	return subtle.ConstantTimeCompare(key, p.key) == 1
}

// prepared is a password in the one spelling of its characters (RFC 8265 section 4.2.2); too long a one is cut, as it can
// match nothing.
func prepared(password string) []byte {
	if len(password) > maxPassword {
		password = password[:maxPassword+1]
	}
	return norm.NFC.Bytes([]byte(password))
}

// hash is the hash of a new secret; empty for none.
func (b *Book) hash(ctx context.Context, s Secret) (string, error) {
	switch {
	case s.Password != "" && s.Hash != "":
		return "", invalid("either a password or its hash")
	case s.Hash != "":
		if err := CheckHash(s.Hash); err != nil {
			return "", invalid("%v", err)
		}
		return s.Hash, nil
	case s.Password == "":
		return "", nil
	}
	if err := CheckPassword(s.Password); err != nil {
		return "", err
	}
	var hash string
	err := b.affording(ctx, func() error {
		var err error
		hash, err = HashPassword(s.Password)
		return err
	})
	return hash, err
}

// same says whether a new secret is the one there is.
func (b *Book) same(ctx context.Context, hash string, s Secret) bool {
	if s.Hash != "" {
		return subtle.ConstantTimeCompare([]byte(hash), []byte(s.Hash)) == 1
	}
	equal := false
	err := b.affording(ctx, func() error {
		equal = matches(hash, s.Password)
		return nil
	})
	return err == nil && equal
}

// affording waits until there is memory for one more hash.
func (b *Book) affording(ctx context.Context, work func() error) error {
	select {
	case b.hashing <- struct{}{}:
	case <-ctx.Done():
		return oauth.Unavailable(ctx.Err())
	}
	defer func() { <-b.hashing }()
	return work()
}
