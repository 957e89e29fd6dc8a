package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"obolus/admin"
	"obolus/cmd/obolus/internal/vault"
)

// TokenCommand is `obolus token`.
type TokenCommand struct {
	Inspect TokenInspect `cmd:"" help:"Take a token apart, here, without asking anybody."`
	Explain TokenExplain `cmd:"" help:"Say what HashiCorp Vault would refuse of a token, and why."`
	Check   TokenCheck   `cmd:"" help:"Ask the server whether a token still counts."`

	Login    TokenLogin    `cmd:"" help:"Get a user's token as an app does, through a browser."`
	Exchange TokenExchange `cmd:"" help:"Exchange a user's token as an agent does."`
}

// Help teaches by example.
func (TokenCommand) Help() string {
	return `A token on the command line can be seen by everybody on the machine; - reads it from the standard input.

Examples:

  obolus token inspect - < token.txt
  obolus token explain - --profile profile.json < token.txt
  obolus token check - < token.txt`
}

// given is where a token comes from.
type given struct {
	Token string `arg:"" help:"The token; - reads it from the standard input."`
}

// maxToken bounds what is read of a token.
const maxToken = 64 << 10

func (g given) read(in io.Reader) (string, error) {
	if g.Token != "-" {
		return strings.TrimSpace(g.Token), nil
	}
	data, err := io.ReadAll(io.LimitReader(in, maxToken))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(data)), "Bearer ")), nil
}

func (g given) decode(in io.Reader) (vault.Token, error) {
	text, err := g.read(in)
	if err != nil {
		return vault.Token{}, err
	}
	t, err := vault.Decode(text)
	if err != nil {
		return vault.Token{}, usage("%w", err)
	}
	return t, nil
}

// TokenInspect is `obolus token inspect`.
type TokenInspect struct {
	given
	JSON bool `help:"Print JSON for programs." name:"json"`
}

// Help teaches by example.
func (TokenInspect) Help() string {
	return "Nothing is verified.\n\nExamples:\n\n  obolus token inspect - < token.txt\n  obolus token inspect - --json < token.txt"
}

// Run prints what is in the token.
func (c *TokenInspect) Run(stage Stage) error {
	t, err := c.decode(stage.In)
	if err != nil {
		return err
	}
	s := &Session{Stage: stage, json: c.JSON}
	return s.print(map[string]any{"header": t.Header, "claims": t.Claims}, func(w io.Writer) {
		tell(w, t, stage.Now())
		row(w, "")
		for _, part := range []struct {
			name    string
			members map[string]any
		}{{"header", t.Header}, {"claim", t.Claims}} {
			for _, name := range slices.Sorted(maps.Keys(part.members)) {
				row(w, part.name+" "+name, compactJSON(part.members[name]))
			}
		}
		row(w, "")
		row(w, "The signature was not checked.")
	})
}

// tell says in words what a token is.
func tell(w io.Writer, t vault.Token, now time.Time) {
	text := func(v any) string { s, _ := v.(string); return s }
	row(w, "for", text(t.Claims["sub"]))
	if chain := actors(t.Claims["act"]); len(chain) > 0 {
		row(w, "by", strings.Join(chain, ", for "))
	}
	pair(w, "at", compactJSON(t.Claims["aud"]))
	pair(w, "may", text(t.Claims["scope"]))
	if d, ok := t.Claims["authorization_details"]; ok {
		row(w, "in detail", compactJSON(d))
	}
	pair(w, "transaction", text(t.Claims["txn"]))
	if text(t.Claims["txn_mode"]) == "redeem" {
		row(w, "good for", "one transaction")
	}
	if exp, ok := t.Claims["exp"].(float64); ok {
		left := time.Unix(int64(exp), 0).Sub(now).Round(time.Second)
		if left > 0 {
			row(w, "ends", "in "+left.String())
		} else {
			row(w, "ended", (-left).String()+" ago")
		}
	}
}

// actors lists a chain, who acts first.
func actors(act any) []string {
	var chain []string
	for len(chain) < 32 {
		object, ok := act.(map[string]any)
		if !ok {
			break
		}
		sub, _ := object["sub"].(string)
		chain = append(chain, sub)
		act = object["act"]
	}
	return chain
}

func compactJSON(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	if f, ok := v.(float64); ok && f == float64(int64(f)) {
		return fmt.Sprint(int64(f))
	}
	data, err := json.Marshal(v)
	if v == nil || err != nil {
		return ""
	}
	return string(data)
}

// TokenExplain is `obolus token explain`.
type TokenExplain struct {
	given
	Profile      string   `help:"The profile, as \"vault read -format=json sys/config/oauth-resource-server/NAME\" prints it." placeholder:"FILE"   type:"existingfile"`
	Issuer       string   `help:"The profile's issuer_id, if there is no --profile."                                           placeholder:"URL"`
	Audience     []string `help:"One of the profile's audiences; again for each."                                              placeholder:"AUD"    sep:"none"`
	Optional     bool     `help:"The profile says optional_authorization_details=true."`
	VaultVersion string   `help:"The version of Vault; the newest that is known here if not said."                             placeholder:"VERSION"`
	Path         string   `help:"A request to be made with the token: Vault's path, without v1/."                              placeholder:"PATH"`
	Capability   string   `help:"What it does there."                                                                          placeholder:"NAME"`
	JSON         bool     `help:"Print JSON for programs."                                                                     name:"json"`
}

// Help teaches by example.
func (TokenExplain) Help() string {
	return `Vault answers nearly every refusal with the same 403. This looks at the token here, asks nobody, and says which rule it breaks. It knows
neither Vault's aliases and policies nor whether the signature is good. Exit code 1: Vault would refuse it.

Examples:

  obolus token explain - < token.txt
  obolus token explain - --profile profile.json --path database/creds/writer --capability read < token.txt
  obolus token explain - --issuer https://obolus.example.com --audience https://vault.example.com:8200/v1 < token.txt`
}

// errVault: the verdict has been printed.
var errVault = errors.New("vault would refuse this token")

// Run prints what Vault would think.
func (c *TokenExplain) Run(stage Stage) error {
	t, err := c.decode(stage.In)
	if err != nil {
		return err
	}
	asked := vault.Asked{
		Profile: vault.Profile{IssuerID: c.Issuer, Audiences: c.Audience, OptionalDetail: c.Optional},
		Now:     stage.Now(), Path: strings.Trim(c.Path, "/"), Capability: c.Capability,
	}
	if c.Profile != "" {
		data, err := os.ReadFile(c.Profile)
		if err != nil {
			return fmt.Errorf("read the profile: %w", err)
		}
		if asked.Profile, err = vault.ReadProfile(data); err != nil {
			return usage("%w", err)
		}
	}
	if c.VaultVersion != "" {
		if asked.Version, err = vault.ParseVersion(c.VaultVersion); err != nil {
			return usage("%w", err)
		}
	}
	found := vault.Explain(t, asked)
	s := &Session{Stage: stage, json: c.JSON}
	err = s.print(map[string]any{"refused": vault.Refuses(found), "findings": found}, func(w io.Writer) {
		for _, f := range found {
			row(w, string(f.Verdict), f.About, f.Sentence)
		}
	})
	if err == nil && vault.Refuses(found) {
		return errVault
	}
	return err
}

// TokenCheck is `obolus token check`.
type TokenCheck struct {
	Connection
	given
}

// Help teaches by example.
func (TokenCheck) Help() string {
	return "Exit code 1: it does not count: unknown, expired, redeemed or stopped.\n\nExamples:\n\n  obolus token check - < token.txt"
}

// errInactive: the token does not count.
var errInactive = errors.New("the token does not count: it is unknown, expired, redeemed or stopped")

// Run asks the server.
func (c *TokenCheck) Run(ctx context.Context, s *Session) error {
	text, err := c.read(s.In)
	if err != nil {
		return err
	}
	var got admin.Inspection
	call := admin.Call{Method: http.MethodPost, Path: "/tokens/inspect", Body: admin.TokenText{Token: text}}
	if _, err := s.api.Do(ctx, call, &got); err != nil {
		return err
	}
	err = s.print(got, func(w io.Writer) {
		if got.Active {
			tell(w, vault.Token{Claims: got.Claims}, s.Now())
		}
	})
	if err == nil && !got.Active {
		return errInactive
	}
	return err
}
