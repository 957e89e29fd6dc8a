//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"obolus/token"
)

// peer is another server that exchanges tokens, with the same algorithm, clients and requests.
type peer struct {
	name  string
	path  string // of its token endpoint
	n     int
	less  string // what it does not do that Obolus does
	build func(ctx context.Context) (program string, args []string, err error)
}

const zitadelName = "zitadel/oidc v3"

const peerTime = 90 * time.Second // to build or install one

// zitadel is a nested module, so that the server's go.mod knows nothing of it.
func zitadel(b *bench) peer {
	return peer{
		name: zitadelName, path: "/oauth/token", n: 600,
		less: "keeps everything in maps of its example's storage; no consent, no guardrails, no record of use, nothing durable, assertions can be used again, " +
			"the issued token is for whatever was asked and has no act; its client secret is compared as it is.",
		build: func(ctx context.Context) (string, []string, error) {
			out := filepath.Join(b.dir, "zitadel")
			cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(b.root, "bench", "peers", "zitadel"), "-trimpath", "-ldflags", "-s -w", "-o", out, ".")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
			if said, err := cmd.CombinedOutput(); err != nil {
				return "", nil, fmt.Errorf("go build: %w: %s", err, bytes.TrimSpace(said))
			}
			return out, nil, nil
		},
	}
}

// oidcProvider runs on Node.js and is installed from its lock file.
func oidcProvider(b *bench) peer {
	return peer{
		name: "oidc-provider", path: "/token", n: 300,
		less: "has no token exchange: the grant is thirty lines of ours; its in-memory adapter keeps the last thousand records; no consent, no guardrails, " +
			"no record of use, nothing durable; assertions are used once.",
		build: func(ctx context.Context) (string, []string, error) {
			node, err := exec.LookPath("node")
			if err != nil {
				return "", nil, fmt.Errorf("look for Node.js: %w", err)
			}
			dir := filepath.Join(b.root, "bench", "peers", "oidc-provider")
			if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider")); err != nil {
				cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
				cmd.Dir = dir
				if said, err := cmd.CombinedOutput(); err != nil {
					return "", nil, fmt.Errorf("npm ci: %w: %s", err, bytes.TrimSpace(said))
				}
			}
			return node, []string{filepath.Join(dir, "server.mjs")}, nil
		},
	}
}

// start runs it and waits until it makes subject tokens.
func (p peer) start(ctx context.Context, b *bench, key *token.SigningKey) (*child, error) {
	building, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	program, args, err := p.build(building)
	if err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	jwks, err := token.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) != 1 {
		return nil, fmt.Errorf("the key of the agents: %w", err)
	}
	c, err := start(ctx, spec{
		name: strings.NewReplacer("/", "-", " ", "-").Replace(p.name), path: program, args: args, dir: b.dir, addr: addr,
		env: []string{"ADDR=" + addr, "CLIENT_JWK=" + string(set.Keys[0])},
	}, answers(addr, "/bench/subjects?n=1"))
	if err == nil {
		b.ends = append(b.ends, c.end)
	}
	return c, err
}

// exchange is n exchanges of subject tokens that it has not seen.
func (p peer) exchange(ctx context.Context, c *child, key *token.SigningKey, agent string, n int) ([]request, error) {
	data, err := fetch(ctx, fmt.Sprintf("http://%s/bench/subjects?n=%d", c.addr, n))
	if err != nil {
		return nil, err
	}
	var subjects []string
	if err := json.Unmarshal(data, &subjects); err != nil {
		return nil, err
	}
	w := &world{issuer: "http://" + c.addr, key: key}
	requests := make([]request, len(subjects))
	for i, s := range subjects {
		form, _, err := w.exchangeForm(agent, s, mailURI, scope)
		if err != nil {
			return nil, err
		}
		form.Set("requested_token_type", typeAccess)
		requests[i] = request{raw: raw(http.MethodPost, p.path, c.addr, nil, form), check: checkPeer}
	}
	return requests, nil
}

func checkPeer(status int, body []byte) error {
	t, err := answer{status: status, body: body}.token()
	if err != nil {
		return err
	}
	if strings.Count(t, ".") != 2 || !bytes.Contains(body, []byte(typeAccess)) {
		return fmt.Errorf("%w: %.300s", errPeer, body)
	}
	return nil
}
