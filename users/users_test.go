package users_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/agents"
	"obolus/audit"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/users"
)

const right = "correct horse battery"

func newBook(t *testing.T, w *world.World, change func(*users.BookConfig)) *users.Book {
	t.Helper()
	cfg := users.BookConfig{
		Records: w.Records, Live: w.Live, Claim: w.Registry.Claim, Record: w.Recorder.Record, Now: w.Now, Providers: []string{"acme"},
	}
	if change != nil {
		change(&cfg)
	}
	b, err := users.NewBook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, b *users.Book, a users.Account, s users.Secret, version uint64) uint64 {
	t.Helper()
	version, err := b.Put(t.Context(), a, s, version)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func signIn(t *testing.T, b *users.Book, user string) users.SignedIn {
	t.Helper()
	in, err := b.SignIn(t.Context(), users.Attempt{User: user, Password: right, Remote: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func alive(t *testing.T, b *users.Book, c users.Cookie) bool {
	t.Helper()
	_, err := b.Session(t.Context(), c)
	if err != nil && !errors.Is(err, users.ErrNoSession) {
		t.Fatal(err)
	}
	return err == nil
}

func TestPut(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Populate()
	w.Agent("agent-a", nil)
	b := newBook(t, w, nil)
	hash, err := users.HashPassword(right)
	if err != nil {
		t.Fatal(err)
	}
	local := func(id string) users.Account { return users.Account{ID: id} }
	for _, c := range []struct {
		name    string
		account users.Account
		secret  users.Secret
		version uint64
		want    error
	}{
		{"with a password", local("alice"), users.Secret{Password: right}, 0, nil},
		{"with a hash", local("bob"), users.Secret{Hash: hash}, 0, nil},
		{"with a slash and a colon", local("at/corp:x"), users.Secret{Password: right}, 0, nil},
		{"without a password", local("carol"), users.Secret{}, 0, agents.ErrInvalid},
		{"with a password and a hash", local("carol"), users.Secret{Password: right, Hash: hash}, 0, agents.ErrInvalid},
		{"with a short password", local("carol"), users.Secret{Password: "1234567"}, 0, agents.ErrInvalid},
		{"with a long password", local("carol"), users.Secret{Password: strings.Repeat("x", 1025)}, 0, agents.ErrInvalid},
		{"with another hash", local("carol"), users.Secret{Hash: "$2a$10$abcdefghijklmnopqrstuv"}, 0, agents.ErrInvalid},
		{"with a bad id", local("a b"), users.Secret{Password: right}, 0, agents.ErrInvalid},
		{"named like an agent", local("agent-a"), users.Secret{Password: right}, 0, agents.ErrTaken},
		{"named like a client", local("app"), users.Secret{Password: right}, 0, agents.ErrTaken},
		{"named like a resource", local("mail"), users.Secret{Password: right}, 0, agents.ErrTaken},
		{"like one of a provider's", local("acme:17"), users.Secret{Password: right}, 0, agents.ErrInvalid},
		{"of a provider, under another id", users.Account{ID: "x", Provider: "acme", Subject: "17"}, users.Secret{}, 0, agents.ErrInvalid},
		{"of a provider without a subject", users.Account{ID: "x", Provider: "acme"}, users.Secret{}, 0, agents.ErrInvalid},
		{"there already", local("alice"), users.Secret{Password: right}, 0, agents.ErrChanged},
		{"of an old version", local("alice"), users.Secret{}, 1 << 40, agents.ErrChanged},
		{"that was never there", local("nobody"), users.Secret{}, 7, agents.ErrNotFound},
		{"with a name that is no text", users.Account{ID: "carol", Name: "\xff"}, users.Secret{Password: right}, 0, agents.ErrInvalid},
		{"with a name without end", users.Account{ID: "carol", Name: strings.Repeat("x", 257)}, users.Secret{Password: right}, 0, agents.ErrInvalid},
	} {
		_, err := b.Put(t.Context(), c.account, c.secret, c.version)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err != nil && (c.secret.Password != "" && strings.Contains(err.Error(), c.secret.Password)) {
			t.Errorf("%s: the error tells the password", c.name)
		}
	}
	// And nobody can take the id of a user.
	err = w.Registry.Claim(t.Context(), "alice", "agent")
	if !errors.Is(err, agents.ErrTaken) {
		t.Errorf("an agent takes the id of a user: %v", err)
	}
}

func TestAccountsAreListedWithoutTheRemoved(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, nil)
	hash, err := users.HashPassword(right)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"c", "a", "b", "id/a", "z"} {
		put(t, b, users.Account{ID: id}, users.Secret{Hash: hash}, 0)
	}
	_, version, err := b.Account(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "b", version); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for after := ""; ; {
		list, err := b.Accounts(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			ids, after = append(ids, a.ID), a.ID
		}
		if len(list) < 2 {
			break
		}
	}
	if got := strings.Join(ids, " "); got != "a c id/a z" {
		t.Errorf("listed are %s", got)
	}
	if _, err := b.Put(t.Context(), users.Account{ID: "b"}, users.Secret{Hash: hash}, 0); !errors.Is(err, agents.ErrTaken) {
		t.Errorf("somebody else comes under the id of a removed user: %v", err)
	}
	if _, _, err := b.Account(t.Context(), "b"); !errors.Is(err, agents.ErrNotFound) {
		t.Errorf("the removed account: %v", err)
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, func(c *users.BookConfig) { c.Limits = users.Limits{Address: 1000} })
	put(t, b, users.Account{ID: "alice", Name: "Alice"}, users.Secret{Password: right}, 0)
	put(t, b, users.Account{ID: "gone", Disabled: true}, users.Secret{Password: right}, 0)
	put(t, b, users.Account{ID: "zoe"}, users.Secret{Password: "pa\u00dfwort \u00e9"}, 0)
	if _, err := b.SignInFederated(t.Context(), users.Federated{Provider: "acme", Subject: "17"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, user, password string
		want                 error
		why                  string
	}{
		{"right", "alice", right, nil, ""},
		{"in another spelling of the same characters", "zoe", "pa\u00dfwort e\u0301", nil, ""},
		{"wrong", "alice", "wrong horse battery", users.ErrRefused, "wrong password"},
		{"empty", "alice", "", users.ErrRefused, "wrong password"},
		{"right and more", "alice", right + "x", users.ErrRefused, "wrong password"},
		{"another case", "alice", strings.ToUpper(right), users.ErrRefused, "wrong password"},
		{"without end", "alice", strings.Repeat("x", 1<<20), users.ErrRefused, "wrong password"},
		{"of nobody", "hunter2-typed-into-the-wrong-field", right, users.ErrRefused, "no such account"},
		{"of no id", "a b\x00", right, users.ErrRefused, "no such account"},
		{"of a disabled user", "gone", right, users.ErrRefused, "the account is disabled"},
		{"of a disabled user, wrong", "gone", "wrong horse battery", users.ErrRefused, "wrong password"},
		{"of a provider's user", "acme:17", right, users.ErrRefused, "the account signs in with an identity provider"},
	} {
		_, err := b.SignIn(t.Context(), users.Attempt{User: c.user, Password: c.password, Remote: "192.0.2.1"})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if c.want != nil && err != nil && err.Error() != users.ErrRefused.Error() {
			t.Errorf("%s: the refusal is told apart: %v", c.name, err)
		}
		events := w.Events(audit.KindSignIn)
		last := events[len(events)-1]
		if last.Allowed != (c.want == nil) || last.Why != c.why || last.Remote != "192.0.2.1" {
			t.Errorf("%s: in the ledger is %+v", c.name, last)
		}
		if c.want != nil && last.Reason != oauth.ReasonSignIn {
			t.Errorf("%s: the ledger has the reason %q", c.name, last.Reason)
		}
		if c.why == "no such account" && (last.User != "" || last.By != "") {
			t.Errorf("%s: the ledger has what was typed", c.name)
		}
	}
}

// TestNobodyTakesAsLong holds the time for an account that is not there to that for a wrong password.
func TestNobodyTakesAsLong(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, func(c *users.BookConfig) { c.Limits = users.Limits{Pair: 1000, Address: 1000} })
	put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
	attempt := func(user string) time.Duration {
		start := time.Now()
		_, _ = b.SignIn(t.Context(), users.Attempt{User: user, Password: "wrong", Remote: "192.0.2.1"})
		return time.Since(start)
	}
	known, unknown := time.Hour, time.Hour
	for n := range 40 { // the fastest of five, and of more where something else takes the processor
		known, unknown = min(known, attempt("alice")), min(unknown, attempt("nobody"))
		if n >= 4 && unknown >= known/2 && known >= unknown/2 {
			break
		}
	}
	if unknown < known/2 || known < unknown/2 {
		t.Errorf("a wrong password takes %v, an unknown name %v", known, unknown)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits users.Limits
		tries  func(i int) users.Attempt
		third  error
	}{
		{
			"one account from one address",
			users.Limits{Pair: 2},
			func(int) users.Attempt { return users.Attempt{User: "alice", Remote: "192.0.2.1"} }, users.ErrTooMany,
		},
		{
			"an account that does not exist is limited alike",
			users.Limits{Pair: 2},
			func(int) users.Attempt { return users.Attempt{User: "nobody", Remote: "192.0.2.1"} }, users.ErrTooMany,
		},
		{
			"one account from many addresses",
			users.Limits{Account: 2, Pair: 1000},
			func(i int) users.Attempt { return users.Attempt{User: "alice", Remote: fmt.Sprintf("192.0.2.%d", i)} }, users.ErrTooMany,
		},
		{
			"many accounts from one address",
			users.Limits{Address: 2},
			func(i int) users.Attempt { return users.Attempt{User: fmt.Sprint("u", i), Remote: "192.0.2.1"} }, users.ErrTooMany,
		},
		{
			"many addresses of one IPv6 network",
			users.Limits{Address: 2},
			func(i int) users.Attempt {
				return users.Attempt{User: fmt.Sprint("u", i), Remote: fmt.Sprintf("2001:db8::%d", i)}
			}, users.ErrTooMany,
		},
		{
			"IPv4 written as IPv6",
			users.Limits{Address: 2},
			func(i int) users.Attempt {
				return users.Attempt{User: fmt.Sprint("u", i), Remote: []string{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"}[i]}
			}, users.ErrTooMany,
		},
		{
			"others are not kept out",
			users.Limits{Pair: 2, Address: 100},
			func(i int) users.Attempt { return users.Attempt{User: fmt.Sprint("u", i), Remote: "192.0.2.1"} }, users.ErrRefused,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			b := newBook(t, w, func(cfg *users.BookConfig) { cfg.Limits = c.limits })
			put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
			for i := range 2 {
				if _, err := b.SignIn(t.Context(), c.tries(i)); !errors.Is(err, users.ErrRefused) {
					t.Fatalf("attempt %d: %v", i+1, err)
				}
			}
			if _, err := b.SignIn(t.Context(), c.tries(2)); !errors.Is(err, c.third) {
				t.Fatalf("attempt 3: %v, want %v", err, c.third)
			}
			if !errors.Is(c.third, users.ErrTooMany) {
				return
			}
			// The right password does not help, a flood is one line in the ledger, and a quarter of an hour ends it.
			a := c.tries(2)
			a.User, a.Password = "alice", right
			if c.limits.Address == 0 && c.tries(0).User == "alice" {
				if _, err := b.SignIn(t.Context(), a); !errors.Is(err, users.ErrTooMany) {
					t.Errorf("the right password beyond the limit: %v", err)
				}
			}
			for range 20 {
				_, _ = b.SignIn(t.Context(), c.tries(2))
			}
			limited := 0
			for _, e := range w.Events(audit.KindSignIn) {
				if e.Reason == oauth.ReasonRateLimited {
					limited++
				}
			}
			if limited != 1 {
				t.Errorf("%d lines in the ledger tell of the limit", limited)
			}
			w.Pass(15*time.Minute + time.Second)
			if _, err := b.SignIn(t.Context(), a); err != nil {
				t.Errorf("after a quarter of an hour: %v", err)
			}
		})
	}
}

func TestGuessesInParallelAreCounted(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, func(c *users.BookConfig) { c.Limits = users.Limits{Pair: 3} })
	put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
	var guessed atomic.Int32
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			_, err := b.SignIn(t.Context(), users.Attempt{User: "alice", Password: "wrong", Remote: "192.0.2.1"})
			if errors.Is(err, users.ErrRefused) {
				guessed.Add(1)
			}
		})
	}
	all.Wait()
	if guessed.Load() != 3 {
		t.Errorf("%d guesses were answered, not 3", guessed.Load())
	}
}

func TestSuccessForgivesTheAttempts(t *testing.T) {
	t.Parallel()
	b := newBook(t, world.New(t), func(c *users.BookConfig) { c.Limits = users.Limits{Pair: 3} })
	put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
	for range 3 {
		for range 2 {
			_, err := b.SignIn(t.Context(), users.Attempt{User: "alice", Password: "wrong", Remote: "192.0.2.1"})
			if !errors.Is(err, users.ErrRefused) {
				t.Fatal(err)
			}
		}
		signIn(t, b, "alice")
	}
}

func TestWhatEndsSessions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(t *testing.T, w *world.World, b *users.Book, first users.Cookie)
		ends bool // both sessions of alice's
		one  bool // the first
	}{
		{"nothing", func(*testing.T, *world.World, *users.Book, users.Cookie) {}, false, false},
		{"signing out", func(t *testing.T, _ *world.World, b *users.Book, first users.Cookie) {
			t.Helper()
			check(t, b.End(t.Context(), first))
		}, false, true},
		{"signing out everywhere", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			check(t, b.SignOut(t.Context(), "alice"))
		}, true, true},
		{"another password", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			edit(t, b, "alice", nil, users.Secret{Password: "another horse battery"})
		}, true, true},
		{"the same password again", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			edit(t, b, "alice", nil, users.Secret{Password: right})
		}, false, false},
		{"another name", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			edit(t, b, "alice", func(a *users.Account) { a.Name = "Al" }, users.Secret{})
		}, false, false},
		{"disabling", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			edit(t, b, "alice", func(a *users.Account) { a.Disabled = true }, users.Secret{})
		}, true, true},
		{"disabling and enabling again", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			edit(t, b, "alice", func(a *users.Account) { a.Disabled = true }, users.Secret{})
			edit(t, b, "alice", func(a *users.Account) { a.Disabled = false }, users.Secret{})
		}, true, true},
		{"removing", func(t *testing.T, _ *world.World, b *users.Book, _ users.Cookie) {
			t.Helper()
			_, version, err := b.Account(t.Context(), "alice")
			check(t, err)
			check(t, b.Remove(t.Context(), "alice", version))
		}, true, true},
		{"idling", func(_ *testing.T, w *world.World, _ *users.Book, _ users.Cookie) { w.Pass(time.Hour + time.Second) }, true, true},
		{"signing in again with the same browser", func(t *testing.T, _ *world.World, b *users.Book, first users.Cookie) {
			t.Helper()
			_, err := b.SignIn(t.Context(), users.Attempt{User: "alice", Password: right, Remote: "192.0.2.1", Had: first})
			check(t, err)
		}, false, true},
		{"another restart of the live store", func(_ *testing.T, w *world.World, _ *users.Book, _ users.Cookie) { w.Restart() }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			b := newBook(t, w, nil)
			put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
			put(t, b, users.Account{ID: "bob"}, users.Secret{Password: right}, 0)
			first, second, bobs := signIn(t, b, "alice"), signIn(t, b, "alice"), signIn(t, b, "bob")
			if first.Cookie == second.Cookie || first.Session.ID == second.Session.ID {
				t.Fatal("two sessions are one")
			}
			c.do(t, w, b, first.Cookie)
			if alive(t, b, first.Cookie) == (c.ends || c.one) || alive(t, b, second.Cookie) == c.ends {
				t.Errorf("first %v, second %v", alive(t, b, first.Cookie), alive(t, b, second.Cookie))
			}
			if c.name != "idling" && !alive(t, b, bobs.Cookie) {
				t.Error("it ended the session of somebody else")
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, b *users.Book, id string, change func(*users.Account), s users.Secret) {
	t.Helper()
	a, version, err := b.Account(t.Context(), id)
	check(t, err)
	if change != nil {
		change(&a)
	}
	put(t, b, a, s, version)
}

func TestUseKeepsASessionUntilItsLifetimeIsOver(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, func(c *users.BookConfig) { c.Idle, c.Lifetime = 10*time.Minute, time.Hour })
	put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
	c := signIn(t, b, "alice").Cookie
	for range 7 {
		w.Pass(8 * time.Minute)
		if !alive(t, b, c) {
			t.Fatal("a session in use ended")
		}
	}
	w.Pass(5 * time.Minute) // 61 minutes
	if alive(t, b, c) {
		t.Error("a session outlived its lifetime")
	}
}

func TestCookiesThatAreNone(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, nil)
	put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
	in := signIn(t, b, "alice")
	operator, err := b.SignInOperator(t.Context(), "token", "token", users.Attempt{Remote: "192.0.2.1"})
	check(t, err)
	for name, c := range map[string]users.Cookie{
		"empty": "", "short": "abc", "long": users.Cookie(strings.Repeat("a", 4096)), "another": users.Cookie(strings.Repeat("a", 43)),
		"cut": in.Cookie[:42], "the id of the session": users.Cookie(in.Session.ID), "an operator's": operator.Cookie,
	} {
		if alive(t, b, c) {
			t.Errorf("%s: is a session", name)
		}
	}
	proof := users.OperatorProof("token")
	if s, err := b.Operator(t.Context(), operator.Cookie, proof); err != nil || !s.Operator {
		t.Errorf("an operator: %+v %v", s, err)
	}
	if _, err := b.Operator(t.Context(), in.Cookie, proof); !errors.Is(err, users.ErrNoSession) {
		t.Errorf("a user as an operator: %v", err)
	}
	if _, err := b.Operator(t.Context(), operator.Cookie, users.OperatorProof("another token")); !errors.Is(err, users.ErrNoSession) {
		t.Errorf("an operator of an older token: %v", err)
	}
	for _, sent := range []string{"", "toke", "tokenx", "TOKEN"} {
		if _, err := b.SignInOperator(t.Context(), sent, "token", users.Attempt{Remote: "192.0.2.1"}); !errors.Is(err, users.ErrRefused) {
			t.Errorf("the operators' token %q: %v", sent, err)
		}
	}
	if _, err := b.SignInOperator(t.Context(), "", "", users.Attempt{Remote: "192.0.2.1"}); !errors.Is(err, users.ErrRefused) {
		t.Errorf("no operators' token at all: %v", err)
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	b := newBook(t, world.New(t), nil)
	put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
	one, other := signIn(t, b, "alice").Session, signIn(t, b, "alice").Session
	form := one.Form("consent r_1")
	if !one.CheckForm("consent r_1", form) {
		t.Error("a form of its own is refused")
	}
	for name, ok := range map[string]bool{
		"another session": other.CheckForm("consent r_1", form), "another purpose": one.CheckForm("consent r_2", form),
		"nothing": one.CheckForm("consent r_1", ""), "no session": users.Session{}.CheckForm("consent r_1", users.Session{}.Form("consent r_1")),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFederated(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	b := newBook(t, w, nil)
	then := w.Now().Add(-time.Minute)
	in, err := b.SignInFederated(t.Context(), users.Federated{
		Provider: "acme", Subject: "17", Name: "Alice", Email: "a@acme.example", AuthTime: then, ACR: "gold", AMR: []string{"hwk"},
	})
	check(t, err)
	s, err := b.Session(t.Context(), in.Cookie)
	check(t, err)
	if s.User != "acme:17" || s.Name != "Alice" || !s.AuthTime.Equal(then) || s.ACR != "gold" || len(s.AMR) != 1 {
		t.Errorf("the session is %+v", s)
	}
	in, err = b.SignInFederated(t.Context(), users.Federated{Provider: "acme", Subject: "17", Name: "Alice B."})
	check(t, err)
	a, _, err := b.Account(t.Context(), "acme:17")
	check(t, err)
	if a.Name != "Alice B." || a.Provider != "acme" || a.Subject != "17" || a.Email != "" {
		t.Errorf("the account is %+v", a)
	}
	if !in.Session.AuthTime.IsZero() {
		t.Error("a time of sign-in that nobody told")
	}
	// It has no password, cannot get one, and stays who it is, whoever an operator says it is.
	edit(t, b, "acme:17", func(a *users.Account) { a.Provider, a.Subject, a.Email = "", "", "b@acme.example" }, users.Secret{})
	if a, _, err = b.Account(t.Context(), "acme:17"); err != nil || a.Subject != "17" || a.Email != "b@acme.example" {
		t.Errorf("after an operator's change: %+v %v", a, err)
	}
	_, version, err := b.Account(t.Context(), "acme:17")
	check(t, err)
	if _, err := b.Put(t.Context(), a, users.Secret{Password: right}, version); !errors.Is(err, agents.ErrInvalid) {
		t.Errorf("a password for an account of a provider's: %v", err)
	}
	edit(t, b, "acme:17", func(a *users.Account) { a.Disabled = true }, users.Secret{})
	if alive(t, b, in.Cookie) {
		t.Error("the session of a disabled account goes on")
	}
	if _, err = b.SignInFederated(t.Context(), users.Federated{Provider: "acme", Subject: "17"}); !errors.Is(err, users.ErrRefused) {
		t.Errorf("a disabled account: %v", err)
	}
	_, version, err = b.Account(t.Context(), "acme:17")
	check(t, err)
	check(t, b.Remove(t.Context(), "acme:17", version))
	if _, err = b.SignInFederated(t.Context(), users.Federated{Provider: "acme", Subject: "17"}); !errors.Is(err, users.ErrRefused) {
		t.Errorf("a removed account comes back: %v", err)
	}
}

// TestFederatedTakesNobodysAccount: a provider that was added later cannot sign in to a local account of that name.
func TestFederatedTakesNobodysAccount(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Agent("late:9", nil)
	b := newBook(t, w, nil)
	put(t, b, users.Account{ID: "late:17"}, users.Secret{Password: right}, 0)
	for _, subject := range []string{"17", "9"} {
		if _, err := b.SignInFederated(t.Context(), users.Federated{Provider: "late", Subject: subject}); !errors.Is(err, users.ErrRefused) {
			t.Errorf("late:%s: %v", subject, err)
		}
	}
}

func TestFederatedIDs(t *testing.T) {
	t.Parallel()
	subject := rapid.OneOf(rapid.String(), rapid.StringMatching(`~?[A-Za-z0-9_|:.-]{1,140}`))
	rapid.Check(t, func(t *rapid.T) {
		p, q := rapid.SampledFrom([]string{"a", "b", "a.b"}).Draw(t, "provider"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "other")
		s, o := subject.Draw(t, "subject"), subject.Draw(t, "other subject")
		id, other := users.FederatedID(p, s), users.FederatedID(q, o)
		if agents.CheckID(id) != nil || !strings.HasPrefix(id, p+":") {
			t.Fatalf("%q is no id", id)
		}
		if (id == other) != (p == q && s == o) {
			t.Fatalf("%q at %q and %q at %q are %q and %q", s, p, o, q, id, other)
		}
	})
}

func TestHashes(t *testing.T) {
	t.Parallel()
	good, err := users.HashPassword(right)
	check(t, err)
	again, err := users.HashPassword(right)
	check(t, err)
	if good == again {
		t.Error("two hashes of one password are the same: there is no salt")
	}
	if !strings.HasPrefix(good, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("the hash is %s", good)
	}
	check(t, users.CheckHash(good))
	for name, bad := range map[string]string{
		"empty": "", "argon2i": strings.Replace(good, "argon2id", "argon2i", 1), "another version": strings.Replace(good, "v=19", "v=16", 1),
		"all the memory": strings.Replace(good, "m=19456", "m=4194304", 1), "no memory": strings.Replace(good, "m=19456", "m=1", 1),
		"no time": strings.Replace(good, "t=2", "t=0", 1), "all the time": strings.Replace(good, "t=2", "t=4000000", 1),
		"no lanes": strings.Replace(good, "p=1", "p=0", 1), "a sign": strings.Replace(good, "t=2", "t=+2", 1),
		"more": good + "$", "more parameters": strings.Replace(good, "p=1", "p=1,x=2", 1), "no key": good[:strings.LastIndex(good, "$")+1],
		"a short key": good[:strings.LastIndex(good, "$")+3], "padding": good + "=", "not base64": good + "!",
	} {
		if users.CheckHash(bad) == nil {
			t.Errorf("%s: %s is accepted", name, bad)
		}
	}
}

func FuzzCheckHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5")
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$AAAA$BBBB")
	f.Fuzz(func(t *testing.T, hash string) {
		if users.CheckHash(hash) == nil && !strings.HasPrefix(hash, "$argon2id$v=19$m=") {
			t.Fatalf("%q is accepted", hash)
		}
	})
}

// TestAStoreThatIsDownSignsNobodyIn: neither store, nor the ledger, is done without.
func TestAStoreThatIsDownSignsNobodyIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		down func(*world.World)
	}{
		{"records", func(w *world.World) { w.Records.Down.Store(true) }},
		{"live", func(w *world.World) { w.Engine.Down.Store(true) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			b := newBook(t, w, nil)
			put(t, b, users.Account{ID: "alice"}, users.Secret{Password: right}, 0)
			c.down(w)
			in, err := b.SignIn(t.Context(), users.Attempt{User: "alice", Password: right, Remote: "192.0.2.1"})
			if err == nil || errors.Is(err, users.ErrRefused) || in.Cookie != "" {
				t.Errorf("got %+v, %v", in, err)
			}
		})
	}
}
