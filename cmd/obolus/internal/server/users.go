package server

import (
	"context"
	"errors"

	"obolus/admin"
	"obolus/agents"
	"obolus/users"
)

// accounts is the book of users as the operators' API needs it.
type accounts struct{ book *users.Book }

var _ admin.Users = accounts{}

func shownAccount(a users.Account) admin.User {
	return admin.User{ID: a.ID, Name: a.Name, Email: a.Email, Provider: a.Provider, Disabled: a.Disabled, Created: a.Created}
}

// User is for admin.Users.
func (a accounts) User(ctx context.Context, id string) (admin.User, uint64, error) {
	found, version, err := a.book.Account(ctx, id)
	return shownAccount(found), version, err
}

// Users is for admin.Users.
func (a accounts) Users(ctx context.Context, after string, limit int) ([]admin.User, error) {
	found, err := a.book.Accounts(ctx, after, limit)
	list := make([]admin.User, 0, len(found))
	for _, one := range found {
		list = append(list, shownAccount(one))
	}
	return list, err
}

// PutUser is for admin.Users.
func (a accounts) PutUser(ctx context.Context, u admin.User, password string, version uint64) (uint64, error) {
	account := users.Account{ID: u.ID, Name: u.Name, Email: u.Email, Disabled: u.Disabled, Created: u.Created}
	return a.book.Put(ctx, account, users.Secret{Password: password}, version)
}

// SignOut is for admin.Users. An account that was just removed has no sessions.
func (a accounts) SignOut(ctx context.Context, id string) error {
	err := a.book.SignOut(ctx, id)
	if errors.Is(err, agents.ErrNotFound) {
		return nil
	}
	return err
}

// RemoveUser is for admin.Users.
func (a accounts) RemoveUser(ctx context.Context, id string, version uint64) error {
	return a.book.Remove(ctx, id, version)
}
