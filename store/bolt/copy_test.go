package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/bolt"
	"obolus/store/storetest"
)

func TestCopying(t *testing.T) {
	t.Parallel()
	storetest.Copying(t, func(t *testing.T) store.Durable {
		t.Helper()
		e, err := bolt.Open(filepath.Join(t.TempDir(), "records.db"), bolt.Options{Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

// What was loaded dies on time, and a file that was cleared is used again.
func TestALoadLastsAndDies(t *testing.T) {
	t.Parallel()
	c := &clock{}
	path := filepath.Join(t.TempDir(), "records.db")
	e, err := bolt.Open(path, bolt.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	load := store.Load{Clear: true, Last: 1 << 20}
	for i := range 500 {
		load.Entries = append(load.Entries, store.Entry{
			Record: store.Record{
				Key: store.Key{Partition: "p", Name: fmt.Sprintf("n%04d", i)}, Value: make([]byte, 1000), Version: 9,
				Expires: c.now().Add(time.Duration(i+1) * time.Second).Truncate(time.Millisecond),
			},
			Listed: i%2 == 0,
		})
	}
	for range 3 {
		if err := e.Load(t.Context(), load); err != nil {
			t.Fatal(err)
		}
	}
	fence, _ := e.Fence(t.Context())
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = bolt.Open(path, bolt.Options{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if again, _ := e.Fence(t.Context()); again != fence {
		t.Errorf("opened again the fence is %q, and was %q", again, fence)
	}
	if n := len(storetest.Everything(t, e)); n != 500 {
		t.Errorf("%d are left", n)
	}
	c.advance(400 * time.Second)
	if n := len(storetest.Everything(t, e)); n != 100 {
		t.Errorf("%d are alive", n)
	}
}

func TestALookThatWasCutOffIsForgotten(t *testing.T) {
	t.Parallel()
	path := filled(t)
	left, other := path+".look-123", filepath.Join(filepath.Dir(path), "another.db.look-1")
	for _, name := range []string{left, other} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, path)
	storetest.Everything(t, e)
	for name, want := range map[string]bool{left: false, other: true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
