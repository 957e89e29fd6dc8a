package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"obolus/cmd/obolus/internal/operator"
)

// cli is the command line.
type cli struct {
	Serve serveCommand `cmd:"" help:"Run the server."`
	Demo  demoCommand  `cmd:"" help:"Show in a few seconds what all this is for: a server, a user, an agent and a mail API."`

	Agent    operator.AgentCommand    `cmd:"" group:"For operators" help:"Register, change and stop agents."`
	Resource operator.ResourceCommand `cmd:"" group:"For operators" help:"Register the APIs that accept tokens."`
	Client   operator.ClientCommand   `cmd:"" group:"For operators" help:"Register apps and resource servers."`
	User     operator.UserCommand     `cmd:"" group:"For operators" help:"Register the people agents act for, and keep them out."`
	Grant    operator.GrantCommand    `cmd:"" group:"For operators" help:"See and end what users allowed."`
	Policy   operator.PolicyCommand   `cmd:"" group:"For operators" help:"Check, test, change and explain guardrails."`
	Audit    operator.AuditCommand    `cmd:"" group:"For operators" help:"Read and verify the ledger."`
	Key      operator.KeyCommand      `cmd:"" group:"For operators" help:"List, rotate and withdraw the keys that sign tokens."`
	Backup   operator.BackupCommand   `cmd:"" group:"For operators" help:"Copy the records into a file."`
	Restore  operator.RestoreCommand  `cmd:"" group:"For operators" help:"Put the records of a backup back."`
	Migrate  operator.MigrateCommand  `cmd:"" group:"For operators" help:"Move the records into another store."`

	Token   operator.TokenCommand  `cmd:"" group:"For looking closer" help:"Read a token and say what a resource will think of it."`
	Doctor  operator.DoctorCommand `cmd:"" group:"For looking closer" help:"Look at a configuration and its stores, and say what is weak."`
	Version versionCommand         `cmd:"" group:"For looking closer" help:"Print the version."`
}

const about = `An OAuth 2.0 authorization server for AI agents: a token pays for one transaction of one agent for one user, and is worthless the
moment somebody says stop.

Examples:

  obolus demo
  obolus serve --config obolus.yaml
  obolus agent add mailer --name "Mail helper" --new-key mailer.pem --resource mail --scope mail.read
  obolus agent suspend mailer --why "it sends too much"
  obolus audit list --agent mailer --since 1h

Exit codes: 0 done, 1 refused or failed, 2 the command line or the configuration is wrong, 3 not found, 4 taken or changed meanwhile,
5 no server or a store does not answer.`

// run carries out one command line. What went wrong was told to the person when it returns.
func run(ctx context.Context, args []string, stage operator.Stage) error {
	command, err := read(args, stage)
	if err == nil && command != nil {
		err = located(carryOut(ctx, command, stage), command.Selected())
	}
	if err != nil {
		fmt.Fprintln(stage.Err, "obolus: "+err.Error())
	}
	return err
}

// located tells of what was not found where to look for what there is.
func located(err error, command *kong.Node) error {
	if operator.ExitCode(err) != operator.ExitNotFound || command.Parent == nil || strings.Contains(err.Error(), "`obolus ") {
		return err
	}
	for _, c := range command.Parent.Children {
		if c.Name == "list" && c.Name != command.Name {
			return fmt.Errorf("%w; `obolus %s list` shows what there is", err, command.Parent.Name)
		}
	}
	return err
}

// read takes the command line apart. Help that was asked for is printed, and there is no command then.
func read(args []string, stage operator.Stage) (*kong.Context, error) {
	helped := false
	parser, err := parserOf(stage.Out, stage.Err, func(int) { helped = true })
	if err != nil {
		return nil, err
	}
	command, err := parser.Parse(asked(args))
	switch {
	case helped:
		return nil, nil //nolint:nilnil // there is nothing to do and nothing wrong
	case err != nil:
		return nil, operator.Usage(fmt.Errorf("%w; `%s --help` shows how", err, commandOf(err)))
	}
	return command, nil
}

// parserOf is the parser of command lines. It prints help to out, and then calls exit, which may return.
func parserOf(out, errs io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(&cli{}, kong.Name("obolus"), kong.Description(about), kong.Writers(out, errs), kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
}

// asked is a command line as it was meant: what other programs call help and version is understood too.
func asked(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		return append([]string{"version"}, args[1:]...)
	default:
		return args
	}
}

// commandOf is the command that a mistake was made in, as far as the words were understood.
func commandOf(err error) string {
	if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context != nil {
		if words := strings.Fields(wrong.Context.Command()); len(words) > 0 {
			return "obolus " + strings.Join(plain(words), " ")
		}
	}
	return "obolus"
}

// plain leaves the arguments out of a command's words.
func plain(words []string) []string {
	var out []string
	for _, w := range words {
		if !strings.HasPrefix(w, "<") {
			out = append(out, w)
		}
	}
	return out
}

// carryOut runs the command, on a session with a server if it is one that talks to a server.
func carryOut(ctx context.Context, command *kong.Context, stage operator.Stage) error {
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(stage)
	node := command.Selected()
	command.Bind(operator.CommandName(node.Name))
	for ; node != nil; node = node.Parent {
		connected, ok := reflect.TypeAssert[operator.Connected](node.Target.Addr())
		if !ok {
			continue
		}
		session, err := operator.Start(stage, connected)
		if err != nil {
			return err
		}
		command.Bind(session)
		return errors.Join(command.Run(), session.Close())
	}
	return command.Run()
}
