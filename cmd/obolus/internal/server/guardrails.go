package server

import (
	"context"
	"log/slog"
	"os"
	"sync"

	"obolus/admin"
	"obolus/cmd/obolus/internal/config"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/web"
)

// guardrails are the operators' policies, read again when one of their files changes: all of them, or the old ones stay.
type guardrails struct {
	engine *policy.Engine
	files  []string
	log    *slog.Logger
	mu     sync.Mutex // one reload at a time
	stamp  string
}

// newGuardrails loads the policies that the configuration has read.
func newGuardrails(cfg config.Config, types *details.Registry, log *slog.Logger) (*guardrails, error) {
	engine, err := policy.New(types)
	if err != nil {
		return nil, err
	}
	g := &guardrails{engine: engine, log: log}
	var set []policy.File
	for _, p := range cfg.Policies {
		g.files = append(g.files, p.File)
		set = append(set, policy.File{Name: p.File, Text: p.Text})
	}
	g.stamp = stampOf(g.files...)
	return g, engine.Load(set)
}

// reload reads all files anew.
func (g *guardrails) reload(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stamp = stampOf(g.files...)
	var set []policy.File
	for _, name := range g.files {
		text, err := os.ReadFile(name) //nolint:gosec // the operator said which file
		if err != nil {
			return err
		}
		set = append(set, policy.File{Name: name, Text: string(text)})
	}
	before := g.engine.Version()
	if err := g.engine.Load(set); err != nil {
		return err
	}
	if now := g.engine.Version(); now != before {
		g.log.InfoContext(ctx, "the guardrails were changed", "version", now)
	}
	return nil
}

// watch reloads when a file has changed.
func (g *guardrails) watch(ctx context.Context) {
	if len(g.files) == 0 {
		return
	}
	every(ctx, func() {
		g.mu.Lock()
		same := stampOf(g.files...) == g.stamp
		g.mu.Unlock()
		if same {
			return
		}
		if err := g.reload(ctx); err != nil {
			g.log.ErrorContext(ctx, "the guardrails changed and are wrong; the old ones stay", "cause", err)
		}
	})
}

// set is what the API shows of them.
func (g *guardrails) set(context.Context) (admin.PolicySet, error) {
	out := admin.PolicySet{Version: g.engine.Version(), Policies: []admin.Policy{}}
	for _, f := range g.engine.Files() {
		out.Policies = append(out.Policies, admin.Policy{Name: f.Name, Text: f.Text})
	}
	return out, nil
}

// shown is what the console shows of them.
func (g *guardrails) shown(context.Context) ([]web.Guardrail, error) {
	var list []web.Guardrail
	for _, f := range g.engine.Files() {
		list = append(list, web.Guardrail{Name: f.Name, Text: f.Text})
	}
	return list, nil
}
