package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"obolus/admin"
)

// get reads one thing and its ETag.
func get[T any](ctx context.Context, s *Session, path string) (T, string, error) {
	var v T
	tag, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: path}, &v)
	return v, tag, err
}

// pages reads a list to its end, or until most things were seen. Each is given every page, and says where the next begins
// and how many things it held.
func pages[L any](ctx context.Context, s *Session, path string, query url.Values, most int, each func(L) (next string, n int)) error { //nolint:revive // the parts of one table
	for {
		var page L
		if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: path, Query: query}, &page); err != nil {
			return err
		}
		next, n := each(page)
		if most -= n; next == "" || most <= 0 {
			return nil
		}
		query.Set("after", next)
	}
}

// search is the flags of a list.
type search struct {
	Search string `help:"Only those with this text in their id or names." placeholder:"TEXT" short:"q"`
	Limit  int    `default:"1000"                                         help:"At most so many."`
}

func (q search) values() url.Values {
	v := url.Values{"limit": {fmt.Sprint(min(max(q.Limit, 1), 1000))}}
	if q.Search != "" {
		v.Set("q", q.Search)
	}
	return v
}

// confirm asks the person before something that cannot be taken back.
func (s *Session) confirm(yes bool, what string) error { //nolint:revive // the flag of the person
	if yes || s.json {
		return nil
	}
	fmt.Fprintf(s.Err, "%s Type yes: ", what)
	var answer string
	if _, err := fmt.Fscanln(s.In, &answer); err != nil || !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was done")
	}
	return nil
}

// do sends a change without a body that is answered by nothing or by what is not shown.
func (s *Session) do(ctx context.Context, method, path string, body any) error {
	_, err := s.api.Do(ctx, admin.Call{Method: method, Path: path, Body: body}, nil)
	return err
}
