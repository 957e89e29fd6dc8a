package operator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/term"

	"obolus/admin"
	"obolus/users"
)

// UserCommand is `obolus user`.
type UserCommand struct {
	Connection

	List     UserList     `cmd:"" help:"List accounts."`
	Add      UserAdd      `cmd:"" help:"Register a local account."`
	Password UserPassword `cmd:"" help:"Give an account another password."`
	Disable  UserState    `cmd:"" help:"Keep a user out, and end everything of theirs."`
	Enable   UserState    `cmd:"" help:"Let a user in again."`
	SignOut  UserState    `cmd:"" help:"End every session and token of a user."`
	Remove   UserRemove   `cmd:"" help:"Remove an account, and end everything of its user."`
	Hash     UserHash     `cmd:"" help:"Print the hash of a password, for password_hash in the configuration."`
}

// Help teaches by example.
func (UserCommand) Help() string {
	return `Examples:

  obolus user add alice --name Alice --email alice@example.com
  obolus user sign-out alice --why "lost the laptop"
  obolus user list`
}

// UserList is `obolus user list`.
type UserList struct{ search }

// Help teaches by example.
func (UserList) Help() string { return "Examples:\n\n  obolus user list -q alice" }

// Run prints the accounts.
func (c *UserList) Run(ctx context.Context, s *Session) error {
	all := admin.UserList{Users: []admin.User{}}
	err := pages(ctx, s, "/users", c.values(), c.Limit, func(p admin.UserList) (string, int) {
		all.Users = append(all.Users, p.Users...)
		return p.Next, len(p.Users)
	})
	if err != nil {
		return err
	}
	return s.print(all, func(w io.Writer) {
		row(w, "ID", "NAME", "EMAIL", "SIGNS IN WITH", "DISABLED")
		for _, u := range all.Users {
			with := u.Provider
			if with == "" {
				with = "password"
			}
			row(w, u.ID, u.Name, u.Email, with, mark(u.Disabled))
		}
	})
}

// UserAdd is `obolus user add`.
type UserAdd struct {
	ID    string `arg:"" help:"The user's id: the sub of tokens."`
	Name  string `help:"What pages call the user." placeholder:"TEXT"`
	Email string `help:"The user's address." placeholder:"ADDRESS"`
	password
}

// Help teaches by example.
func (UserAdd) Help() string {
	return `The password is asked for at the terminal, or read from a file or the standard input. It is never an argument: those can be
seen by everybody on the machine.

Examples:

  obolus user add alice --name Alice --email alice@example.com
  obolus user add bob --password-file bob.txt
  obolus user add carol --password-file -`
}

// Run registers the account.
func (c *UserAdd) Run(ctx context.Context, s *Session) error {
	secret, err := c.ask(s)
	if err != nil {
		return err
	}
	var done admin.User
	body := admin.NewUser{ID: c.ID, Name: c.Name, Email: c.Email, Password: secret}
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodPut, Path: admin.Path("users", c.ID), Body: body}, &done); err != nil {
		return taken(err, "user", c.ID)
	}
	if s.json {
		return s.print(done, nil)
	}
	s.say("Registered the user %s.", done.ID)
	return nil
}

// password is where a new password comes from.
type password struct {
	PasswordFile string `help:"Read the password from here; - is the standard input." placeholder:"FILE"`
}

func (p password) ask(s *Session) (string, error) {
	in := s.In
	switch p.PasswordFile {
	case "-":
	case "":
		if f, ok := s.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return askTwice(s, f)
		}
	default:
		f, err := os.Open(p.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usage("the password is empty")
	}
	return line, nil
}

func askTwice(s *Session, f *os.File) (string, error) {
	var typed [2]string
	for i, prompt := range []string{"New password: ", "Once more: "} {
		fmt.Fprint(s.Err, prompt)
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(s.Err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(line)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the passwords differ")
	}
	return typed[0], nil
}

// UserPassword is `obolus user password`.
type UserPassword struct {
	ID string `arg:"" help:"The user's id."`
	password
}

// Help teaches by example.
func (UserPassword) Help() string {
	return "Examples:\n\n  obolus user password alice\n  obolus user password alice --password-file new.txt"
}

// Run changes the password.
func (c *UserPassword) Run(ctx context.Context, s *Session) error {
	secret, err := c.ask(s)
	if err != nil {
		return err
	}
	if err := s.do(ctx, http.MethodPost, admin.Path("users", c.ID, "password"), admin.Password{Password: secret}); err != nil {
		return err
	}
	s.say("The user %s has another password; the sessions from before are over.", c.ID)
	return nil
}

// UserState is `obolus user disable`, enable and sign-out.
type UserState struct {
	ID  string `arg:"" help:"The user's id."`
	Why string `help:"For the ledger." placeholder:"TEXT"`
}

// Help teaches by example.
func (UserState) Help() string {
	return `Examples:

  obolus user sign-out alice --why "lost the laptop"
  obolus user disable alice --why left
  obolus user enable alice`
}

// Run changes what the user may do; which way is the name of the command.
func (c *UserState) Run(ctx context.Context, s *Session, name CommandName) error {
	if err := s.do(ctx, http.MethodPost, admin.Path("users", c.ID, string(name)), admin.Why{Why: c.Why}); err != nil {
		return err
	}
	s.say("%s", map[CommandName]string{
		"disable":  "The user " + c.ID + " is kept out; their sessions and tokens are over.",
		"enable":   "The user " + c.ID + " may sign in again.",
		"sign-out": "The sessions and tokens of the user " + c.ID + " are over.",
	}[name])
	return nil
}

// UserRemove is `obolus user remove`.
type UserRemove struct {
	ID  string `arg:"" help:"The user's id."`
	Yes bool   `help:"Do not ask." short:"y"`
}

// Help teaches by example.
func (UserRemove) Help() string { return "Examples:\n\n  obolus user remove alice --yes" }

// Run removes the account.
func (c *UserRemove) Run(ctx context.Context, s *Session) error {
	if err := s.confirm(c.Yes, "The account "+c.ID+" and everything its user allowed end now."); err != nil {
		return err
	}
	if err := s.do(ctx, http.MethodDelete, admin.Path("users", c.ID), nil); err != nil {
		return err
	}
	s.say("Removed the user %s.", c.ID)
	return nil
}

// UserHash is `obolus user hash`.
type UserHash struct{ password }

// Help teaches by example.
func (UserHash) Help() string {
	return "No server is asked.\n\nExamples:\n\n  obolus user hash\n  obolus user hash --password-file alice.txt"
}

// Run prints the hash.
func (c *UserHash) Run(s *Session) error {
	secret, err := c.ask(s)
	if err != nil {
		return err
	}
	if err := users.CheckPassword(secret); err != nil {
		return err
	}
	hash, err := users.HashPassword(secret)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, hash)
	return err
}
