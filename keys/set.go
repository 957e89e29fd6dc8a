package keys

import (
	"cmp"
	"slices"
	"time"

	"obolus/token"
)

// key is a key as it was read.
type key struct {
	entry
	id      string
	version uint64
	signing *token.SigningKey // nil: withdrawn
}

// set is what a reading found. It is not changed.
type set struct {
	byAlg  map[string][]*key // the newest first, by when they begin to sign
	public map[string]token.PublicKey
	jwks   []byte
	heads  map[string]uint64 // version of the record that every addition to an algorithm changes
}

// newSet puts keys in order and prepares what is published at a time.
func newSet(all []*key, heads map[string]uint64, now time.Time, overlap time.Duration) (*set, error) {
	s := &set{byAlg: make(map[string][]*key), public: make(map[string]token.PublicKey), heads: heads}
	for _, k := range all {
		s.byAlg[k.Alg] = append(s.byAlg[k.Alg], k)
	}
	var published []token.PublicKey
	for _, alg := range token.Algorithms() {
		slices.SortFunc(s.byAlg[alg], func(a, b *key) int { return cmp.Or(b.Active.Compare(a.Active), cmp.Compare(a.id, b.id)) })
		live := s.live(alg)
		for i, k := range live {
			if i == 0 || now.Before(live[i-1].Active.Add(overlap)) {
				s.public[k.id] = k.signing.Public()
				published = append(published, k.signing.Public())
			}
		}
	}
	var err error
	s.jwks, err = token.NewPublicSet(published...).JWKS()
	return s, err
}

// live are the keys of an algorithm that were not withdrawn, the newest first. Each is replaced when the one before it
// begins to sign.
func (s *set) live(alg string) []*key {
	var live []*key
	for _, k := range s.byAlg[alg] {
		if k.signing != nil {
			live = append(live, k)
		}
	}
	return live
}

// signer is the newest key that may sign; if all are still to come, the first of them. Nil: there is none.
func (s *set) signer(alg string, now time.Time) *key {
	var next *key
	for _, k := range s.byAlg[alg] {
		if k.signing == nil {
			continue
		}
		if !now.Before(k.Active) {
			return k
		}
		next = k
	}
	return next
}

// over are the keys that nothing can be verified with any more.
func (s *set) over(now time.Time, overlap time.Duration) []*key {
	var over []*key
	for alg, all := range s.byAlg {
		live := s.live(alg)
		for i, k := range live {
			if i > 0 && !now.Before(live[i-1].Active.Add(overlap)) {
				over = append(over, k)
			}
		}
		for _, k := range all {
			if k.signing == nil && !now.Before(k.Withdrawn.Add(overlap)) {
				over = append(over, k)
			}
		}
	}
	return over
}

func (s *set) infos(now time.Time) []Info {
	var list []Info
	for _, alg := range token.Algorithms() {
		signs := s.signer(alg, now)
		var replaced time.Time
		for _, k := range s.byAlg[alg] {
			info := Info{ID: k.id, Alg: alg, Created: k.Created, Active: k.Active, Withdrawn: k.Withdrawn}
			switch {
			case k.signing == nil:
				info.Status = Withdrawn
				list = append(list, info)
				continue
			case k == signs:
				info.Status = Active
			case now.Before(k.Active):
				info.Status = Next
			default:
				info.Status = Retiring
			}
			info.Replaced, replaced = replaced, k.Active
			list = append(list, info)
		}
	}
	return list
}
