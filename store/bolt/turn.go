package bolt

import (
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"obolus/store"
	"obolus/store/internal/turns"
	"obolus/store/memory/commit"
)

// sweep is how many dead records a commit removes, besides one for each of its writes. A commit makes fewer, so the
// dead never pile up in a store that is in use.
const sweep = 16

// result is a batch that was carried out, unless the transaction it was part of does not come to its end.
type result struct {
	res store.Results
	err error
}

// turn carries out the batches that were taken in one transaction.
func (e *Engine) turn(taken []*turns.Turn) {
	e.writing.Lock()
	defer e.writing.Unlock()
	results, last, err := e.write(taken)
	if err = e.judge(err); err != nil {
		for _, t := range taken {
			t.Answer(store.Results{}, err)
		}
		return
	}
	for i, t := range taken {
		e.tell(t.Batch, results[i].res)
		if results[i].err != nil {
			results[i].res = store.Results{}
		}
		t.Answer(results[i].res, results[i].err)
	}
	e.mark.advance(last, e.now())
}

// tell tells the watchers what was written; a write that was passed over is told too, which does no harm.
func (e *Engine) tell(b store.Batch, res store.Results) {
	for i, out := range res.Outcomes {
		for _, rec := range out.Wrote {
			e.hub.Tell(b.Commits[i].Partition, rec.Name)
		}
	}
}

func (e *Engine) write(taken []*turns.Turn) (results []result, last uint64, err error) {
	err = intact(func() error {
		tx, err := e.db.Begin(true)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a commit it does nothing
		w := &writer{view: viewOf(tx), now: e.now}
		w.last = w.about.Sequence()
		results, err = w.carryOut(taken)
		last = w.last
		if err != nil || !w.changed {
			return err
		}
		return w.commit(tx)
	})
	return results, last, err
}

// writer is one write transaction.
type writer struct {
	view

	now     func() time.Time
	last    uint64
	changed bool
}

func (w *writer) carryOut(taken []*turns.Turn) ([]result, error) {
	results := make([]result, len(taken))
	for i, t := range taken {
		r := &results[i]
		r.res.Outcomes = make([]store.Outcome, 0, len(t.Batch.Commits))
		for _, c := range t.Batch.Commits {
			out, err := w.apply(c)
			switch {
			case errors.Is(err, store.ErrInvalid):
				r.err = err
			case err != nil:
				return nil, err
			}
			r.res.Outcomes = append(r.res.Outcomes, out)
		}
		r.res.Now = w.now()
		r.res.Records = w.readAll(t.Batch.Reads, r.res.Now)
	}
	return results, nil
}

// apply decides a commit and makes its changes. ErrInvalid is about the commit alone, which then changes nothing; any other
// error is the end of the transaction.
func (w *writer) apply(c store.Commit) (store.Outcome, error) {
	now := w.now()
	ruling, err := commit.Decide(c, commit.Moment{Now: now, Last: w.last}, func(name string) store.Record {
		return w.borrow(store.Key{Partition: c.Partition, Name: name}, now)
	})
	if err != nil || len(ruling.Changes) == 0 {
		return ruling.Outcome, err
	}
	w.changed, w.last = true, ruling.Last
	for _, change := range ruling.Changes {
		if err := w.put(change); err != nil {
			return store.Outcome{}, err
		}
	}
	return ruling.Outcome, w.bury(now, sweep+len(c.Writes))
}

func (w *writer) commit(tx *bbolt.Tx) error {
	if err := w.about.SetSequence(w.last); err != nil {
		return err
	}
	return tx.Commit()
}
