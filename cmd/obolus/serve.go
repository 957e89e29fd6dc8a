package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"obolus/cmd/obolus/internal/config"
	"obolus/cmd/obolus/internal/operator"
	"obolus/cmd/obolus/internal/server"
)

// serveCommand is `obolus serve`.
type serveCommand struct {
	Config  string `env:"OBOLUS_CONFIG" help:"The configuration file; without one everything has a default that works on this machine." placeholder:"FILE" short:"c"`
	Listen  string `help:"The address to listen on."                                                                                    placeholder:"127.0.0.1:8420"`
	Issuer  string `help:"The URL that others know this server by."                                                                     placeholder:"URL"`
	Data    string `help:"The folder for what is kept here."                                                                            placeholder:"./obolus-data"`
	Records string `help:"The store that remembers: bolt:PATH or postgres://…"                                                          placeholder:"STORE"`
	Live    string `help:"The store that forgets on time: memory:, redis://…, rediss://…, redis+sentinel://…, redis+cluster://…"        placeholder:"STORE"`
	Log     string `help:"debug, info, warn or error."                                                                                  name:"log-level"             placeholder:"info"`
}

// Help teaches by example.
func (serveCommand) Help() string {
	return `Examples:

  obolus serve
  obolus serve --config obolus.yaml
  obolus serve --config obolus.yaml --records "$POSTGRES" --live redis://127.0.0.1:6379
  OBOLUS_TOKENS_LIFETIME=30s obolus serve

A flag wins over a variable, a variable over the file. SIGHUP reads the guardrails again. docs/configuration.md explains every setting. The
variables for them are ` + strings.Join(config.Variables(), ", ") + "."
}

func (c *serveCommand) flags() []config.Flag {
	return []config.Flag{
		{Name: "--listen", Path: "listen", Value: c.Listen},
		{Name: "--issuer", Path: "issuer", Value: c.Issuer},
		{Name: "--data", Path: "data", Value: c.Data},
		{Name: "--records", Path: "records", Value: c.Records},
		{Name: "--live", Path: "live", Value: c.Live},
		{Name: "--log-level", Path: "log.level", Value: c.Log},
	}
}

// Run serves until it is told to stop.
func (c *serveCommand) Run(ctx context.Context, stage operator.Stage) error {
	cfg, err := config.Load(config.Sources{File: c.Config, Environ: stage.Environ, Flags: c.flags()})
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1) // before anybody can know that there is a server
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	log := logger(stage.Err, cfg.Log)
	s, err := server.Start(ctx, cfg, server.Options{Log: log, Version: buildVersion()})
	if err != nil {
		return err
	}
	for _, w := range s.Config().Warnings() {
		log.WarnContext(ctx, "this is weak", "sentence", w)
	}
	log.InfoContext(ctx, "serving", "issuer", s.Issuer(), "address", s.Addr(), "operators_token", s.Config().Operators.TokenFile)
	ended := make(chan struct{})
	defer close(ended)
	go reload(ctx, s, hup, ended)
	return s.Wait(ctx)
}

// reload reads the guardrails again at every signal.
func reload(ctx context.Context, s *server.Server, hup <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-hup:
			_ = s.Reload(ctx)
		}
	}
}

func logger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// version is set by the linker.
var version string

// buildVersion is what the linker or the go command says of this binary.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		return cmp.Or(version, info.Main.Version)
	}
	return cmp.Or(version, "unknown")
}

// versionCommand is `obolus version`.
type versionCommand struct{}

// Help teaches by example.
func (versionCommand) Help() string { return "Examples:\n\n  obolus version" }

// Run prints the version.
func (versionCommand) Run(stage operator.Stage) error {
	_, err := fmt.Fprintln(stage.Out, "obolus "+buildVersion())
	return err
}
