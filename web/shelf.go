package web

import "context"

// shelf is a list that is walked in the order of ids.
type shelf[T any] struct {
	list func(ctx context.Context, after string, limit int) ([]T, error)
	id   func(T) string
	keep func(T) bool // what is looked for
}

const (
	shelfRows  = 50     // on a page
	shelfBatch = 1000   // read at once
	shelfMost  = 20_000 // looked through for one page
)

// walk gives a page of what is looked for, and where the next one begins; empty: there is none.
func (s shelf[T]) walk(ctx context.Context, after string) (found []T, next string, err error) {
	for seen := 0; ; {
		batch, err := s.list(ctx, after, shelfBatch)
		if err != nil {
			return nil, "", err
		}
		for _, one := range batch {
			if !s.keep(one) {
				after = s.id(one)
				continue
			}
			if len(found) == shelfRows {
				return found, after, nil
			}
			found, after = append(found, one), s.id(one)
		}
		if seen += len(batch); len(batch) < shelfBatch || seen >= shelfMost {
			if len(batch) < shelfBatch {
				after = ""
			}
			return found, after, nil
		}
	}
}
