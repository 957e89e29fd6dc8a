package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"obolus/store"
	"obolus/store/bolt"
	"obolus/store/storetest"
)

// clock is a clock that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.ahead.Load()) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func open(t testing.TB, path string) *bolt.Engine {
	t.Helper()
	e, err := bolt.Open(path, bolt.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestContract(t *testing.T) {
	t.Parallel()
	var c clock
	var path string
	again := func(t *testing.T) store.Engine {
		t.Helper()
		e, err := bolt.Open(path, bolt.Options{Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	storetest.Run(t, storetest.Suite{
		Open: func(t *testing.T) store.Engine {
			t.Helper()
			path = filepath.Join(t.TempDir(), "data", "records.db")
			return again(t)
		},
		Reopen:  again,
		Advance: c.advance,
	})
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	e := open(t, path)
	start := time.Now()
	_, err := bolt.Open(path, bolt.Options{Now: time.Now})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestOnlyTheOwnerReads(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	open(t, filepath.Join(dir, "records.db"))
	for path, mode := range map[string]os.FileMode{
		dir: 0o700, filepath.Dir(dir): 0o700,
		filepath.Join(dir, "records.db"): 0o600, filepath.Join(dir, "records.db.mark"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("%s has mode %o", path, got)
		}
	}
}

func write(t *testing.T, e store.Engine, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		_, err := store.Apply(t.Context(), e, store.Commit{Partition: "p", Writes: []store.Write{
			{Name: fmt.Sprint("n", n), Value: make([]byte, 2000), Listed: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// filled makes a file with some records in it and returns its path.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "records.db")
	e := open(t, path)
	write(t, e, 0, 100)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(path string) error
		want string
	}{
		{"garbage", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage ", 9000)), 0o600) }, "damaged"},
		{"a word", func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) }, "damaged"},
		{"emptied", func(path string) error { return os.Truncate(path, 0) }, "empty"},
		{"cut in the first page", func(path string) error { return os.Truncate(path, 1000) }, "damaged"},
		{"cut after the first pages", func(path string) error { return os.Truncate(path, 3*4096) }, "cut short"},
		{"cut in the middle", func(path string) error { return cut(path, 2) }, "cut short"},
		{"cut at the end", func(path string) error { return cut(path, 1) }, "cut short"},
		{"a folder", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "not a file"},
		{"of another format", reformat, "format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filled(t)
			if err := c.do(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				e, err := bolt.Open(path, bolt.Options{Now: time.Now})
				if err == nil {
					e.Close()
					t.Fatal("opened")
				}
				if !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %q, want %q in it", err, c.want)
				}
			}
		})
	}
}

// cut leaves that much less of a file: a half, or its last page.
func cut(path string, what int) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if what == 2 {
		return os.Truncate(path, info.Size()/2)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	var used int64
	err = db.View(func(tx *bbolt.Tx) error {
		used = tx.Size()
		return nil
	})
	return errors.Join(err, db.Close(), os.Truncate(path, used-1))
}

func reformat(path string) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("about")).Put([]byte("format"), []byte("2")) })
	return errors.Join(err, db.Close())
}

// damaged are ways to break a file under an engine that has it open, or will.
func TestDamageIsMetWithASentence(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, path string) *bolt.Engine{
		"scribbled on while closed": func(t *testing.T, path string) *bolt.Engine {
			t.Helper()
			scribble(t, path)
			return open(t, path)
		},
		"scribbled on while open": func(t *testing.T, path string) *bolt.Engine {
			t.Helper()
			e := open(t, path)
			scribble(t, path)
			return e
		},
		"cut short while open": func(t *testing.T, path string) *bolt.Engine {
			t.Helper()
			e := open(t, path)
			if err := os.Truncate(path, 4*4096); err != nil {
				t.Fatal(err)
			}
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := do(t, filled(t))
			_, err := e.List(t.Context(), "p", "", 1000)
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "damaged") {
				t.Fatalf("list: got %v", err)
			}
			_, err = store.Apply(t.Context(), e, store.Commit{Partition: "new", Writes: []store.Write{{Name: "n"}}})
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("commit after damage was met: got %v", err)
			}
			if err := e.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestDamageMetByACommit(t *testing.T) {
	t.Parallel()
	path := filled(t)
	e := open(t, path)
	scribble(t, path)
	for range 3 {
		_, err := store.Apply(t.Context(), e, store.Commit{Partition: "p", Writes: []store.Write{{Name: "n50", Listed: true}}})
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("got %v", err)
		}
	}
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// scribble writes over everything but the two pages that say where the rest is, and the list of free pages.
func scribble(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4096)
	for at := int64(2 * 4096); at < info.Size(); at += 4096 {
		if _, err := f.ReadAt(page, at); err != nil {
			t.Fatal(err)
		}
		leafOfRecords := page[8]&2 != 0 && strings.Contains(string(page), "p\x00n")
		if !leafOfRecords {
			continue
		}
		if _, err := f.WriteAt([]byte(strings.Repeat("scribble", 512)), at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheFenceNoticesARollback(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	fence := func() string {
		t.Helper()
		e := open(t, path)
		defer e.Close()
		f, err := e.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	copyFile := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := fence()
	if again := fence(); again != first {
		t.Errorf("opened again, it is %q after %q", again, first)
	}
	copyFile(path, path+".bak")
	e := open(t, path)
	write(t, e, 0, 3)
	e.Close()
	if later := fence(); later != first {
		t.Errorf("after commits it is %q after %q", later, first)
	}
	copyFile(path+".bak", path)
	restored := fence()
	if restored == first {
		t.Error("an older copy has the fence of the newer one")
	}
	if again := fence(); again != restored {
		t.Errorf("opened again, it is %q after %q", again, restored)
	}
	os.Remove(path + ".mark")
	if elsewhere := fence(); elsewhere == restored || elsewhere == first {
		t.Error("a copy in another place has the same fence")
	}
}

func TestTheDeadAreBuried(t *testing.T) {
	t.Parallel()
	c := &clock{}
	path := filepath.Join(t.TempDir(), "records.db")
	e, err := bolt.Open(path, bolt.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 300 {
		b := store.Batch{}
		for i := range 20 {
			b.Commits = append(b.Commits, store.Commit{Partition: fmt.Sprint("p", n), Writes: []store.Write{
				{Name: fmt.Sprint("n", i), Value: make([]byte, 1000), TTL: time.Second, Listed: i%2 == 0},
			}})
		}
		if _, err := e.Do(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Second)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1<<20 {
		t.Errorf("%d KiB for twenty living records of 1 KB, %v", info.Size()>>10, err)
	}
}

func BenchmarkDo(b *testing.B) { storetest.Bench(b, open(b, filepath.Join(b.TempDir(), "records.db"))) }
