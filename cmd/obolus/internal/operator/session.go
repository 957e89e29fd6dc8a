// Package operator holds the commands by which an operator works on a server: they speak to /admin/v1 of one that runs, or
// of one that is opened for the moment when none does. They print tables for people and, with --json, what the API says.
package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"obolus/admin"
	"obolus/cmd/obolus/internal/config"
	"obolus/store"
)

// Connection are the flags of every command that talks to a server.
type Connection struct {
	Config    string `env:"OBOLUS_CONFIG" group:"Which server" help:"The server's configuration file: it tells address and token." placeholder:"FILE" short:"c"`
	Server    string `env:"OBOLUS_SERVER" group:"Which server" help:"The server's URL, instead of the one in the configuration." placeholder:"URL"`
	TokenFile string `env:"OBOLUS_TOKEN_FILE" group:"Which server" help:"The file with the operators' token." placeholder:"FILE"`
	Offline   bool   `group:"Which server" help:"Open the stores here instead of asking a server that runs."`
	JSON      bool   `group:"Output" help:"Print JSON for programs." name:"json"`
}

// Connected is a command that has the flags of a connection.
type Connected interface{ connection() *Connection }

func (c *Connection) connection() *Connection { return c }

// Stage is what the commands stand on.
type Stage struct {
	In      io.Reader
	Out     io.Writer // what was asked for
	Err     io.Writer // progress and warnings
	Environ []string
	Now     func() time.Time
	// Open opens the server's parts in this process, for a server that does not run.
	Open func(ctx context.Context, cfg config.Config) (api http.Handler, closed func() error, err error)
	// ShareRecords opens the store of records at an address, beside others where it lets them; HoldRecords keeps others out.
	ShareRecords, HoldRecords func(ctx context.Context, address string) (store.Durable, error)
	// Version is the program's.
	Version string
}

// Session is a command's way to the API and to the person at the terminal.
type Session struct {
	Stage
	api    *admin.Client
	json   bool
	config config.Config
	closed func() error
}

// Start makes the session of a command. Close ends it.
func Start(stage Stage, command Connected) (*Session, error) {
	c := command.connection()
	cfg, err := config.Load(config.Sources{File: c.Config, Environ: stage.Environ})
	if err != nil {
		return nil, err
	}
	s := &Session{Stage: stage, json: c.JSON, config: cfg, closed: func() error { return nil }}
	server := strings.TrimSuffix(c.Server, "/")
	if err := isServer(c.Server); err != nil {
		return nil, err
	}
	if server == "" {
		server = cfg.IssuerAt(cfg.Listen)
	}
	transport := &either{network: c.network(), session: s}
	if c.Server == "" && strings.HasPrefix(cfg.Records, "bolt:") || c.Offline {
		transport.open = stage.Open
	}
	s.api = &admin.Client{Server: server, HTTP: &http.Client{Transport: transport}}
	token, err := os.ReadFile(cmp.Or(c.TokenFile, cfg.Operators.TokenFile))
	s.api.Token = strings.TrimSpace(string(token))
	if err != nil {
		transport.tokenless = usage("the operators' token cannot be read: %w; --token-file says where it is", err)
	}
	if err != nil && (transport.open == nil || c.TokenFile != "") {
		return nil, transport.tokenless
	}
	return s, nil
}

// isServer refuses what is no URL of a server.
func isServer(server string) error {
	u, err := url.Parse(server)
	if server == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return nil
	}
	return usage("--server: %q is no URL such as http://127.0.0.1:8420", server)
}

// network is how a server that runs is reached; nil: not at all.
func (c *Connection) network() http.RoundTripper {
	if c.Offline {
		return nil
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: 5 * time.Minute, ForceAttemptHTTP2: true}
}

// Close lets go of stores that were opened.
func (s *Session) Close() error { return s.closed() }

// either asks a server over the network and, when none answers, opens one in this process.
type either struct {
	network http.RoundTripper
	open    func(ctx context.Context, cfg config.Config) (http.Handler, func() error, error)
	session *Session
	opened  http.Handler
	// tokenless is why there is no operators' token for a server that answers.
	tokenless error
}

// RoundTrip is for http.Client.
func (e *either) RoundTrip(r *http.Request) (*http.Response, error) {
	if e.opened == nil && e.network != nil { //nolint:nestif // the body must be read anew for the second way
		res, err := e.network.RoundTrip(r)
		if err == nil && e.tokenless != nil {
			return answerOf(http.HandlerFunc(e.noToken), r), res.Body.Close()
		}
		if err == nil || e.open == nil {
			return res, err
		}
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
	if e.opened == nil {
		if err := e.start(r.Context()); err != nil {
			return nil, err
		}
	}
	local := r.Clone(r.Context())
	local.RequestURI = r.URL.RequestURI()
	local.RemoteAddr = "local"
	if token, err := os.ReadFile(e.session.config.Operators.TokenFile); err == nil {
		local.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	if local.Body == nil {
		local.Body = http.NoBody
	}
	return answerOf(e.opened, local), nil
}

// noToken answers for a server that runs and cannot be told who asks.
func (e *either) noToken(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusUnauthorized)
	_ = json.NewEncoder(w).Encode(admin.Problem{Status: http.StatusUnauthorized, Code: admin.CodeUnauthorized, Detail: e.tokenless.Error()})
}

func (e *either) start(ctx context.Context) error {
	if err := there(e.session.config.Records); err != nil && e.network != nil {
		return fmt.Errorf("%w; `obolus serve` starts a server, --server or --config says where one is, and --offline begins a new store here", err)
	}
	api, closed, err := e.open(ctx, e.session.config)
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("the records are held by a server that does not answer at %s (--server says where it is): %w", e.session.api.Server, err)
	}
	if err != nil {
		return err
	}
	e.opened, e.session.closed = api, closed
	return nil
}

// JSONOut says whether the output is for programs.
func (s *Session) JSONOut() bool { return s.json }

// print writes a value as JSON, or what text writes for people.
func (s *Session) print(v any, text func(w io.Writer)) error {
	if s.json {
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(s.Out, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// say tells of something done, for people only.
func (s *Session) say(format string, args ...any) {
	if !s.json {
		fmt.Fprintf(s.Out, format+"\n", args...)
	}
}

// row writes one line of a table. Text of others is shown without characters that could change the terminal.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, printable(fmt.Sprint(c)))
	}
	fmt.Fprintln(w)
}

// pair writes a line of a thing's description, unless there is nothing to say.
func pair(w io.Writer, name string, value any) {
	text := strings.TrimSpace(fmt.Sprint(value))
	if text == "" || text == "0" || text == "[]" || text == "false" || text == "map[]" {
		return
	}
	row(w, name, text)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
