package admin

import (
	"context"
	"strconv"
	"strings"
)

const (
	pageDefault = 100
	pageMost    = 1000
	// scanMost bounds how many things one search looks at; the answer then says where to go on.
	scanMost = 50_000
)

// paging is what the query says about a list.
type paging struct {
	after string
	limit int
	q     string
}

func (c call) paging() (paging, error) {
	limit, err := c.limit()
	return paging{after: c.query.Get("after"), limit: limit, q: strings.ToLower(c.query.Get("q"))}, err
}

func (c call) limit() (int, error) {
	text := c.query.Get("limit")
	if text == "" {
		return pageDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > pageMost {
		return 0, malformed("limit is a number from 1 to " + strconv.Itoa(pageMost))
	}
	return n, nil
}

// shelf is a list that can be walked in the order of ids.
type shelf[T any] struct {
	list  func(ctx context.Context, after string, limit int) ([]T, error)
	id    func(T) string
	words func(T) []string // that a search looks at
	keep  func(T) bool     // nil: all
}

// page gives the things on a page and where the next one begins, empty if there is none.
func (s shelf[T]) page(ctx context.Context, p paging) (found []T, next string, err error) {
	found = []T{}
	after, scanned := p.after, 0
	for {
		batch, err := s.list(ctx, after, pageMost)
		if err != nil {
			return nil, "", err
		}
		for _, one := range batch {
			if len(found) == p.limit {
				return found, after, nil
			}
			after = s.id(one)
			if s.matches(one, p.q) {
				found = append(found, one)
			}
		}
		scanned += len(batch)
		if len(batch) < pageMost {
			return found, "", nil
		}
		if scanned >= scanMost {
			return found, after, nil
		}
	}
}

func (s shelf[T]) matches(one T, q string) bool {
	if s.keep != nil && !s.keep(one) {
		return false
	}
	if q == "" {
		return true
	}
	for _, word := range s.words(one) {
		if strings.Contains(strings.ToLower(word), q) {
			return true
		}
	}
	return false
}
