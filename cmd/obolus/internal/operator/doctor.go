package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"obolus/admin"
	"obolus/cmd/obolus/internal/config"
	"obolus/store"
)

// DoctorCommand is `obolus doctor`.
type DoctorCommand struct {
	Config string `env:"OBOLUS_CONFIG" help:"The configuration file." placeholder:"FILE" short:"c"`
	JSON   bool   `help:"Print JSON for programs." name:"json"`
}

// Help teaches by example.
func (DoctorCommand) Help() string {
	return `It reads the configuration as the server would, says what is weak in it, and asks the server that runs, or opens the stores when none
does. Exit code 2: the configuration is wrong; 5: a store does not answer.

Examples:

  obolus doctor
  obolus doctor --config obolus.yaml --json`
}

// symptom is one thing that the doctor found.
type symptom struct {
	State    string `json:"state"` // good, weak or bad
	About    string `json:"about"`
	Sentence string `json:"sentence"`
}

// Run examines everything.
func (c *DoctorCommand) Run(ctx context.Context, stage Stage) error {
	cfg, err := config.Load(config.Sources{File: c.Config, Environ: stage.Environ})
	if err != nil {
		return err
	}
	found := []symptom{{"good", "configuration", "it can be read and nothing in it is nonsense"}}
	for _, w := range cfg.Warnings() {
		found = append(found, symptom{"weak", "configuration", w})
	}
	found = append(found, permissions(cfg)...)
	stores, failed := c.stores(ctx, stage, cfg)
	found = append(found, stores...)
	s := &Session{Stage: stage, json: c.JSON}
	err = s.print(map[string]any{"symptoms": found}, func(w io.Writer) {
		for _, f := range found {
			row(w, f.State, f.About, f.Sentence)
		}
	})
	return errors.Join(failed, err)
}

// permissions looks at who can read what only the server should.
func permissions(cfg config.Config) []symptom {
	files := []string{cfg.Operators.TokenFile, cfg.TLS.Key, cfg.Keys.EncryptionKeyFile, filepath.Join(cfg.Data, "master.key")}
	if file, ok := strings.CutPrefix(cfg.Records, "bolt:"); ok {
		files = append(files, file)
	}
	for _, cl := range cfg.Clients {
		files = append(files, cl.SecretFile)
	}
	for _, u := range cfg.Users {
		files = append(files, u.PasswordFile)
	}
	var found []symptom
	for _, name := range files {
		info, err := os.Stat(name)
		if name == "" || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			found = append(found, symptom{"bad", name, "it cannot be looked at"})
			continue
		}
		if info.Mode().Perm()&0o077 != 0 {
			found = append(found, symptom{"weak", name, fmt.Sprintf("others on this machine can read it (%s); chmod 600", info.Mode().Perm())})
		}
	}
	return found
}

// stores asks the server that runs how it is, or opens the stores when none does.
func (c *DoctorCommand) stores(ctx context.Context, stage Stage, cfg config.Config) ([]symptom, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if running(ctx, cfg) {
		return c.ask(ctx, stage)
	}
	if err := there(cfg.Records); err != nil && cfg.Live == "memory:" { // looking must not begin a store
		return []symptom{{"good", "stores", "no server runs, and there are no records yet: the first start makes " + cfg.Records}}, nil
	}
	_, closed, err := stage.Open(ctx, cfg)
	switch {
	case errors.Is(err, store.ErrLocked):
		return []symptom{{"bad", "stores", "another process holds the records and does not answer at " + cfg.Issuer}}, err
	case err != nil:
		return []symptom{{"bad", "stores", err.Error()}}, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return []symptom{{"good", "stores", "no server runs; both stores open, answer, and hold keys that the master key opens"}}, closed()
}

// running says whether a server answers where the configuration says.
func running(ctx context.Context, cfg config.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Issuer+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (c *DoctorCommand) ask(ctx context.Context, stage Stage) ([]symptom, error) {
	s, err := Start(stage, &AgentCommand{Connection: Connection{Config: c.Config}})
	if err != nil {
		return []symptom{{"bad", "server", "one runs, but " + err.Error()}}, err
	}
	st, _, err := get[admin.Status](ctx, s, "/status")
	switch {
	case err != nil:
		return []symptom{{"bad", "server", "one runs, but it does not answer this operator: " + err.Error()}}, errors.Join(err, s.Close())
	case !st.Ready:
		return []symptom{{"bad", "server", strings.TrimSpace("version " + st.Version + " runs, but is not ready: a store does not answer it, or its guardrails cannot be loaded. " + strings.Join(st.Warnings, "; "))}},
			errors.Join(store.ErrUnavailable, s.Close())
	default:
		due, err := dueAgents(ctx, s)
		good := symptom{"good", "server", fmt.Sprintf("version %s runs on %s and %s, in epoch %d; both answer", st.Version, st.Records, st.Live, st.Epoch)}
		return append([]symptom{good}, due...), errors.Join(err, s.Close())
	}
}

// dueAgents are those that somebody has to look at.
func dueAgents(ctx context.Context, s *Session) ([]symptom, error) {
	var page admin.AgentList
	q := url.Values{"due": {"true"}, "limit": {"50"}}
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: "/agents", Query: q}, &page); err != nil {
		return nil, err
	}
	found := make([]symptom, 0, len(page.Agents))
	for _, a := range page.Agents {
		sentence := "somebody had to look at the registration again by " + clock(a.Recertify)
		if !a.Expires.IsZero() && !s.Now().Before(a.Expires) {
			sentence = "the registration was over on " + clock(a.Expires)
		}
		found = append(found, symptom{"weak", "agent " + a.ID, sentence + strings.TrimRight("; owner "+a.Owner+" "+a.Contact, " ")})
	}
	return found, nil
}
