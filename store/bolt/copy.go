package bolt

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"obolus/store"
)

// fullPage is how full the pages are that a load leaves: it comes in order, so hardly anything will go between.
const fullPage = 0.95

// lookSuffix begins the end of the name of a copy that a look is taken at. It has no name for long.
const lookSuffix = ".look-"

// Snapshot shows a copy of the file, for which there must be room beside it. A look at the file itself would hold up all commits,
// and readers after them, as soon as the file had to be mapped anew to grow; now that is so while the copy is made.
func (e *Engine) Snapshot(ctx context.Context, use func(store.Snapshot) error) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	look, now, err := e.copy()
	if err != nil {
		return e.judge(err)
	}
	defer func() { _ = closeFile(look) }() // nothing was written
	tx, err := look.Begin(false)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // that is how a reader ends
	v := viewOf(tx)
	return use(store.Snapshot{Now: now, Last: v.about.Sequence(), Page: func(after store.Key, limit int) (page []store.Entry, err error) {
		if err := store.ValidatePage(after, limit); err != nil {
			return nil, err
		}
		if err := e.open(ctx); err != nil {
			return nil, err
		}
		err = intact(func() error {
			page = v.page(after, limit, now)
			return nil
		})
		return page, e.judge(err)
	}})
}

// copy makes a copy of the file as it is now, opens it, and takes its name away.
func (e *Engine) copy() (look *bbolt.DB, now time.Time, err error) {
	f, err := os.CreateTemp(filepath.Dir(e.db.Path()), filepath.Base(e.db.Path())+lookSuffix+"*")
	if err != nil {
		return nil, now, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	err = intact(func() error {
		return e.db.View(func(tx *bbolt.Tx) error {
			now = e.now()
			_, err := tx.WriteTo(f)
			return err
		})
	})
	if err = errors.Join(err, f.Close()); err == nil {
		look, err = openDB(f.Name(), bbolt.Options{ReadOnly: true})
	}
	return look, now, err
}

// forgetLooks removes the copies that a process left which ended while it made them.
func forgetLooks(path string) error {
	dir, name := filepath.Split(path)
	around, err := os.ReadDir(filepath.Clean(dir))
	for _, file := range around {
		if strings.HasPrefix(file.Name(), name+lookSuffix) {
			err = errors.Join(err, os.Remove(dir+file.Name()))
		}
	}
	return err
}

// page merges the two buckets.
func (v view) page(after store.Key, limit int, now time.Time) []store.Entry {
	var page []store.Entry
	from := keyOf(after)
	lists, others := seek(v.listed, from), seek(v.other, from)
	for weight := 0; len(page) < limit && weight < store.PageWeight; {
		next := lists
		if lists.key == nil || others.key != nil && bytes.Compare(others.key, lists.key) < 0 {
			next = others
		}
		if next.key == nil {
			break
		}
		partition, name, _ := bytes.Cut(next.key, []byte{0})
		rec := decode(store.Key{Partition: string(partition), Name: string(name)}, next.raw, now)
		if rec.Exists() {
			rec.Value = bytes.Clone(rec.Value)
			weight += len(rec.Value)
			page = append(page, store.Entry{Record: rec, Listed: next == lists})
		}
		next.key, next.raw = next.Next()
	}
	return page
}

// place is where a walk through a bucket has come to; its key is nil at the end.
type place struct {
	*bbolt.Cursor

	key, raw []byte
}

// seek finds the first place after a key.
func seek(b *bbolt.Bucket, after []byte) *place {
	p := &place{Cursor: b.Cursor()}
	p.key, p.raw = p.Seek(after)
	if bytes.Equal(p.key, after) {
		p.key, p.raw = p.Next()
	}
	return p
}

// Load puts entries in as they are.
func (e *Engine) Load(ctx context.Context, l store.Load) error {
	if err := l.Validate(); err != nil {
		return err
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	e.writing.Lock()
	defer e.writing.Unlock()
	fence, last := *e.fence.Load(), uint64(0)
	if l.Clear {
		fence = rand.Text()
	}
	err := intact(func() error {
		return e.db.Update(func(tx *bbolt.Tx) (err error) {
			last, err = load(tx, l, fence)
			return err
		})
	})
	switch {
	case errors.Is(err, store.ErrInvalid):
		return err
	case err != nil:
		return e.judge(err)
	case !l.Clear:
		e.mark.advance(last, e.now())
		return nil
	}
	e.fence.Store(&fence)
	return e.judge(e.mark.keep(fence, last))
}

func load(tx *bbolt.Tx, l store.Load, fence string) (last uint64, err error) {
	if l.Clear {
		if err := empty(tx, fence); err != nil {
			return 0, err
		}
	}
	v := viewOf(tx)
	v.listed.FillPercent, v.other.FillPercent = fullPage, fullPage
	last = max(v.about.Sequence(), l.Last)
	for _, entry := range l.Entries {
		if err := v.add(entry); err != nil {
			return 0, err
		}
		last = max(last, entry.Version)
	}
	return last, v.about.SetSequence(last)
}

// empty leaves nothing but what the file knows of itself, and that under another fence.
func empty(tx *bbolt.Tx, fence string) error {
	for _, name := range []string{bucketListed, bucketOther, bucketDeaths} {
		if err := tx.DeleteBucket([]byte(name)); err != nil {
			return err
		}
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	return putFence(tx, fence)
}

func (v view) add(entry store.Entry) error {
	key := keyOf(entry.Key)
	if where, _ := v.find(key); where != nil {
		return fmt.Errorf("%w: %q %q is there already", store.ErrInvalid, entry.Partition, entry.Name)
	}
	where := v.other
	if entry.Listed {
		where = v.listed
	}
	if err := where.Put(key, encode(entry.Record)); err != nil || entry.Expires.IsZero() {
		return err
	}
	return v.deaths.Put(deathOf(entry.Expires, key), nil)
}
