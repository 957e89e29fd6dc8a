package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"obolus/agents"
	"obolus/audit"
)

// User is an account, local or of an identity provider.
type User struct {
	ID       string    `json:"id"`
	Name     string    `json:"name,omitempty"`
	Email    string    `json:"email,omitempty"`
	Provider string    `json:"provider,omitempty"` // the identity provider that it signs in with; empty: a local account
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created,omitzero"`
}

// Users keeps accounts. Its errors are those of the registry: agents.ErrNotFound, ErrChanged, ErrTaken and ErrInvalid.
type Users interface {
	User(ctx context.Context, id string) (User, uint64, error)
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// PutUser registers or changes an account; an empty password leaves it as it is.
	PutUser(ctx context.Context, u User, password string, version uint64) (uint64, error)
	// SignOut ends all sessions of a user.
	SignOut(ctx context.Context, id string) error
	RemoveUser(ctx context.Context, id string, version uint64) error
}

// UserList is a page of users.
type UserList struct {
	Users []User `json:"users"`
	Next  string `json:"next,omitempty"`
}

// NewUser is an account to be registered or changed.
type NewUser struct {
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Email    string `json:"email,omitempty"`
	Password string `json:"password,omitempty"` // left as it is when absent
	Disabled bool   `json:"disabled,omitempty"`
}

// Password is a new password of a local account.
type Password struct {
	Password string `json:"password"`
}

func (s *Server) userRoutes() []route {
	const one = "/users/{id}"
	return []route{
		{
			method: http.MethodGet, path: "/users", name: "listUsers", about: "Accounts in the order of their ids.",
			query: paged(), out: UserList{}, do: s.listUsers,
		},
		{method: http.MethodGet, path: one, name: "getUser", about: "One account.", out: User{}, do: s.getUser},
		{
			method: http.MethodPut, path: one, name: "putUser", match: true, created: true,
			about: "Register a local account, or change one that was read before (If-Match). Disabling it ends everything of the user's.",
			in:    NewUser{}, out: User{}, do: s.putUser,
		},
		{
			method: http.MethodDelete, path: one, name: "removeUser", match: true,
			about: "End everything of a user's and remove the account.", do: s.removeUser,
		},
		{
			method: http.MethodPost, path: one + "/password", name: "setPassword", in: Password{},
			about: "Give a local account another password, and end its sessions.", do: s.setPassword,
		},
		{
			method: http.MethodPost, path: one + "/disable", name: "disableUser", in: Why{}, optional: true, out: User{},
			about: "Keep a user out, and end every session and token of the user's.", do: s.disable(true),
		},
		{
			method: http.MethodPost, path: one + "/enable", name: "enableUser", in: Why{}, optional: true, out: User{},
			about: "Let a user in again.", do: s.disable(false),
		},
		{
			method: http.MethodPost, path: one + "/sign-out", name: "signOutUser", in: Why{}, optional: true,
			about: "End every session and token of a user's.", do: s.signOut,
		},
	}
}

func (s *Server) listUsers(ctx context.Context, c call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, err
	}
	list, next, err := shelf[User]{
		list:  s.cfg.Users.Users,
		id:    func(u User) string { return u.ID },
		words: func(u User) []string { return []string{u.ID, u.Name, u.Email} },
	}.page(ctx, p)
	return answer{body: UserList{list, next}}, err
}

func (s *Server) getUser(ctx context.Context, c call) (answer, error) {
	u, version, err := s.cfg.Users.User(ctx, c.id)
	return answer{body: u, version: version}, err
}

func (s *Server) putUser(ctx context.Context, c call) (answer, error) {
	var in NewUser
	if err := c.into(&in); err != nil {
		return answer{}, err
	}
	if err := named(&in.ID, c.id); err != nil {
		return answer{}, err
	}
	was, have, err := s.cfg.Users.User(ctx, c.id)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return answer{}, err
	}
	version, err := c.replaced(have)
	if err != nil {
		return answer{}, err
	}
	if have == 0 && in.Password == "" {
		return answer{}, invalid("a new account has a password")
	}
	u := User{ID: in.ID, Name: in.Name, Email: in.Email, Provider: was.Provider, Disabled: in.Disabled, Created: was.Created}
	if have == 0 {
		u.Created = s.cfg.Now().UTC()
	}
	if version, err = s.cfg.Users.PutUser(ctx, u, in.Password, version); err != nil {
		return answer{}, err
	}
	if u.Disabled && !was.Disabled || in.Password != "" && have != 0 {
		if err := s.endUser(ctx, c, u.ID, "the account was changed"); err != nil {
			return answer{}, err
		}
	}
	err = s.record(ctx, c, audit.KindRegistry, "user/"+u.ID, verb(have))
	return answer{body: u, version: version, created: have == 0}, err
}

// endUser ends the sessions and tokens of a user.
func (s *Server) endUser(ctx context.Context, c call, id, why string) error {
	if err := s.cfg.Users.SignOut(ctx, id); err != nil {
		return err
	}
	return s.stop(ctx, c, "user", id, why)
}

func (s *Server) removeUser(ctx context.Context, c call) (answer, error) {
	_, have, err := s.cfg.Users.User(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	if have, err = c.removed(have); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Users.RemoveUser(ctx, c.id, have); err != nil {
		return answer{}, err
	}
	if err := s.endUser(ctx, c, c.id, "removed"); err != nil {
		return answer{}, err
	}
	return answer{}, s.record(ctx, c, audit.KindRegistry, "user/"+c.id, "removed")
}

func (s *Server) setPassword(ctx context.Context, c call) (answer, error) {
	var in Password
	if err := c.into(&in); err != nil {
		return answer{}, err
	}
	u, version, err := s.cfg.Users.User(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	if in.Password == "" {
		return answer{}, invalid("the password is empty")
	}
	if _, err := s.cfg.Users.PutUser(ctx, u, in.Password, version); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Users.SignOut(ctx, c.id); err != nil {
		return answer{}, err
	}
	return answer{}, s.record(ctx, c, audit.KindRegistry, "user/"+c.id, "password changed")
}

func (s *Server) disable(disabled bool) func(context.Context, call) (answer, error) { //nolint:revive // it makes two routes
	what := "enabled"
	if disabled {
		what = "disabled"
	}
	return func(ctx context.Context, c call) (answer, error) {
		var why Why
		if err := c.into(&why); err != nil {
			return answer{}, err
		}
		u, version, err := s.cfg.Users.User(ctx, c.id)
		if err != nil {
			return answer{}, err
		}
		u.Disabled = disabled
		if _, err := s.cfg.Users.PutUser(ctx, u, "", version); err != nil {
			return answer{}, err
		}
		if disabled {
			if err := s.endUser(ctx, c, c.id, why.Why); err != nil {
				return answer{}, err
			}
		}
		return answer{body: u}, s.record(ctx, c, audit.KindRegistry, "user/"+c.id, what)
	}
}

func (s *Server) signOut(ctx context.Context, c call) (answer, error) {
	var why Why
	if err := c.into(&why); err != nil {
		return answer{}, err
	}
	if _, _, err := s.cfg.Users.User(ctx, c.id); err != nil {
		return answer{}, err
	}
	return answer{}, s.endUser(ctx, c, c.id, why.Why)
}
