package server

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"obolus/cmd/obolus/internal/config"
)

// master is the key that everything else is kept under: the configured one, or one in a file beside the data that is made at
// the first start.
func master(cfg config.Config) ([32]byte, error) {
	var key [32]byte
	if configured := cfg.MasterKey(); configured != nil {
		copy(key[:], configured)
		return key, nil
	}
	text, err := secretFile(filepath.Join(cfg.Data, "master.key"), base64.StdEncoding)
	if err != nil {
		return key, fmt.Errorf("the master key: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != len(key) {
		return key, fmt.Errorf("the master key: %s does not hold 32 bytes in base64", filepath.Join(cfg.Data, "master.key"))
	}
	copy(key[:], raw)
	return key, nil
}

// derive makes a key for one purpose from the master key.
func derive(master [32]byte, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, master[:], nil, "obolus "+purpose, 32)
}

// secretFile reads a secret of 256 bits, or makes one that only the owner of the file can read. Of several processes that
// make it at once all get the same.
func secretFile(name string, enc *base64.Encoding) (string, error) {
	for {
		data, err := os.ReadFile(name) //nolint:gosec // the operator says which file
		if err == nil {
			text := strings.TrimSpace(string(data))
			if text == "" {
				return "", fmt.Errorf("the file %s is empty", name)
			}
			return text, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := makeSecret(name, enc); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
}

// makeSecret writes the file whole or not at all.
func makeSecret(name string, enc *base64.Encoding) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	_, err = f.WriteString(enc.EncodeToString(raw[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), name) // fails when somebody else was faster
}
