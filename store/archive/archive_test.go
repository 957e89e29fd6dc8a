package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/store"
	"obolus/store/archive"
	"obolus/store/bolt"
	"obolus/store/postgres"
	"obolus/store/storetest"
	"obolus/store/storetest/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

func openBolt(t testing.TB) *bolt.Engine {
	t.Helper()
	e, err := bolt.Open(filepath.Join(t.TempDir(), "records.db"), bolt.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func openPostgres(t testing.TB) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(t.Context(), servers.Postgres(t), postgres.Options{Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func load(t rapid.TB, ctx context.Context, e store.Durable, entries []store.Entry) {
	t.Helper()
	if err := e.Load(ctx, store.Load{Clear: true, Entries: entries}); err != nil {
		t.Fatal(err)
	}
}

func backup(t rapid.TB, ctx context.Context, e store.Durable) ([]byte, archive.Header, archive.Sum) {
	t.Helper()
	var out bytes.Buffer
	h, s, err := archive.Write(ctx, &out, e, archive.Origin{Program: "test", Source: "a store"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), h, s
}

// restore carries out what a restore does with a file, and leaves out what is for the caller.
func restore(t rapid.TB, ctx context.Context, file []byte, to store.Durable) {
	t.Helper()
	feed := func() archive.Feed {
		r, err := archive.NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		return r.Next
	}
	h, want, err := archive.Verify(bytes.NewReader(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Fill(ctx, to, h.Last, feed(), nil); err != nil {
		t.Fatal(err)
	}
	got, err := archive.Same(ctx, to, feed(), nil)
	if err != nil || got.Records != want.Records {
		t.Fatalf("the copy: %+v, %v, want %+v", got, err, want)
	}
	if err := archive.Finish(ctx, to); err != nil {
		t.Fatal(err)
	}
}

// What comes out of a file is what went into it, whatever the stores are.
func TestARestoredBackupIsTheSame(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	stores := map[string]store.Durable{"bolt": openBolt(t), "postgres": openPostgres(t)}
	again := map[string]store.Durable{"bolt": openBolt(t), "postgres": openPostgres(t)}
	kind := rapid.SampledFrom([]string{"bolt", "postgres"})
	rapid.Check(t, func(rt *rapid.T) {
		from, to := kind.Draw(rt, "from"), kind.Draw(rt, "to")
		entries := storetest.Entries(rt, 20)
		load(rt, ctx, stores[from], entries)
		file, _, _ := backup(rt, ctx, stores[from])
		restore(rt, ctx, file, again[to])
		storetest.SameEntries(rt, storetest.Everything(t, again[to]), entries)
	})
}

func entry(partition, name, value string, version uint64) store.Entry {
	return store.Entry{Record: store.Record{Key: store.Key{Partition: partition, Name: name}, Value: []byte(value), Version: version}}
}

// small is a store with a few records, an epoch among them.
func small(t *testing.T) store.Durable {
	t.Helper()
	e := openBolt(t)
	mortal := entry("grants", "b", "22", 9)
	mortal.Expires, mortal.Listed = time.UnixMilli(4e12).UTC(), true
	load(t, t.Context(), e, []store.Entry{
		entry("agents", "a", "1", 7), entry("epoch", "current", `{"number":41,"fence":"x"}`, 8), entry("grants", "a", "", 3), mortal,
	})
	return e
}

func TestWhatAFileSaysOfItself(t *testing.T) {
	t.Parallel()
	file, h, s := backup(t, t.Context(), small(t))
	if h.Format != 1 || h.Program != "test" || h.Source != "a store" || h.Epoch != 41 || h.Last != 9 || time.Since(h.Taken).Abs() > time.Minute {
		t.Errorf("header %+v", h)
	}
	hash := sha256.Sum256(file[:len(file)-sha256.Size])
	if s.Records != 4 || s.Bytes != int64(len(file)) || s.SHA256 != hex.EncodeToString(hash[:]) {
		t.Errorf("sum %+v", s)
	}
	var seen []string
	h2, s2, err := archive.Verify(bytes.NewReader(file), func(e store.Entry) { seen = append(seen, e.Partition+"/"+e.Name) })
	if err != nil || h2 != h || s2 != s || fmt.Sprint(seen) != "[agents/a epoch/current grants/a grants/b]" {
		t.Errorf("read: %+v, %+v, %v, %v", h2, s2, seen, err)
	}
}

// sealed puts the right hash at the end of a file that was made up.
func sealed(file []byte) []byte {
	body := file[:len(file)-sha256.Size]
	hash := sha256.Sum256(body)
	return slices.Concat(body, hash[:])
}

func TestEveryAlteredByteIsSeen(t *testing.T) {
	t.Parallel()
	file, _, _ := backup(t, t.Context(), small(t))
	for at := range file {
		for _, bit := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(file)
			bad[at] ^= bit
			refused(t, fmt.Sprintf("byte %d ^ %x", at, bit), bad, "")
		}
		refused(t, fmt.Sprintf("cut at %d", at), file[:at], "")
		refused(t, fmt.Sprintf("without byte %d", at), slices.Delete(bytes.Clone(file), at, at+1), "")
	}
	refused(t, "more after it", append(bytes.Clone(file), 'R'), "follows")
	refused(t, "twice", slices.Concat(file, file), "follows")
}

// What has the right hash, and is not what this program writes, is refused all the same.
func TestFilesThatWereMadeUp(t *testing.T) {
	t.Parallel()
	file, _, _ := backup(t, t.Context(), small(t))
	change := func(from, to string) []byte {
		t.Helper()
		if bytes.Count(file, []byte(from)) != 1 {
			t.Fatalf("%q is not there once", from)
		}
		return sealed(bytes.Replace(file, []byte(from), []byte(to), 1))
	}
	first := bytes.IndexByte(file, '}') + 1
	head := func(offset int, value byte) []byte {
		bad := bytes.Clone(file)
		bad[first+offset] = value
		return sealed(bad)
	}
	count := bytes.Clone(file)
	binary.BigEndian.PutUint64(count[len(count)-sha256.Size-8:], 3)
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"nothing", nil, "does not begin"},
		{"of another kind", []byte(strings.Repeat("PK\x03\x04", 100)), "does not begin"},
		{"of another format", change(`"format":1`, `"format":2`), "its format is 2"},
		{"a member twice", change(`"program":"test"`, `"format":1,"":12`), "header"},
		{"a header that is none", change(`{"format"`, `["format"`), "header"},
		{"an unknown member", change(`"source"`, `"sourse"`), "header"},
		{"no header", sealed(append([]byte("obolus backup\nX"), file[15:]...)), "header"},
		{"records out of order", change("agentsa1", "hgentsa1"), "record 2"},
		{"a name that is none", change("agentsa1", "agents\x001"), "record 1"},
		{"a version above the last", head(9, 200), "record 1"},
		{"no version", head(9, 0), "record 1"},
		{"listed as nobody is", head(1, 2), "record 1"},
		{"an expiry before all time", head(10, 0xff), "record 1"},
		{"a partition too long", head(18, 0xff), "record 1"},
		{"a value too long", head(22, 0xff), "record 1"},
		{"another count", sealed(count), "says that there are 3"},
		{"a record of another kind", head(0, 'Q'), "after 0 records"},
	} {
		refused(t, c.name, c.file, c.want)
	}
}

func refused(t *testing.T, name string, file []byte, word string) {
	t.Helper()
	_, sum, err := archive.Verify(bytes.NewReader(file), nil)
	_, hurt := errors.AsType[*archive.DamagedError](err)
	if !hurt && !errors.Is(err, archive.ErrFormat) || sum.SHA256 != "" {
		t.Fatalf("%s: got %v, %+v", name, err, sum)
	}
	if !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %q does not say %q", name, err, word)
	}
}

// failing is a disk or a line that ends.
type failing struct {
	io.Reader
	io.Writer
}

var errDisk = errors.New("the disk is full")

func (failing) Read([]byte) (int, error)  { return 0, errDisk }
func (failing) Write([]byte) (int, error) { return 0, errDisk }

func TestADiskThatFails(t *testing.T) {
	t.Parallel()
	e := small(t)
	file, _, _ := backup(t, t.Context(), e)
	if _, _, err := archive.Write(t.Context(), failing{}, e, archive.Origin{}, nil); !errors.Is(err, errDisk) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
	for _, after := range []int{0, 5, 100, len(file)} {
		_, _, err := archive.Verify(io.MultiReader(bytes.NewReader(file[:after]), failing{}), nil)
		if _, hurt := errors.AsType[*archive.DamagedError](err); !errors.Is(err, errDisk) || hurt {
			t.Errorf("read, after %d bytes: %v", after, err)
		}
	}
}

func TestACopyThatWasCutOffIsNotServed(t *testing.T) {
	t.Parallel()
	for name, to := range map[string]store.Durable{"bolt": openBolt(t), "postgres": openPostgres(t)} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if err := errors.Join(archive.Check(ctx, to), archive.Empty(ctx, to)); err != nil {
				t.Fatalf("new: %v", err)
			}
			file, h, _ := backup(t, ctx, small(t))
			r, err := archive.NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			given := 0
			stops := func() (store.Entry, error) {
				if given++; given == 3 {
					return store.Entry{}, errDisk
				}
				return r.Next()
			}
			if err := archive.Fill(ctx, to, h.Last, stops, nil); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			if err := archive.Check(ctx, to); !errors.Is(err, archive.ErrUnfinished) {
				t.Errorf("check: %v", err)
			}
			if err := archive.Empty(ctx, to); err != nil {
				t.Errorf("it cannot be run again: %v", err)
			}
			if _, _, err := archive.Write(ctx, io.Discard, to, archive.Origin{}, nil); !errors.Is(err, archive.ErrUnfinished) {
				t.Errorf("a backup of half a restore: %v", err)
			}
			restore(t, ctx, file, to)
			if err := archive.Check(ctx, to); err != nil {
				t.Errorf("after all: %v", err)
			}
			if err := archive.Empty(ctx, to); !errors.Is(err, archive.ErrNotEmpty) {
				t.Errorf("what is there is passed over: %v", err)
			}
			if got := len(storetest.Everything(t, to)); got != 4 {
				t.Errorf("%d records", got)
			}
		})
	}
}

func TestADifferenceIsFound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	entries := []store.Entry{entry("a", "a", "1", 7), entry("b", "a", "2", 8), entry("c", "a", "3", 9)}
	other := entry("b", "a", "2", 8)
	other.Listed = true
	for name, change := range map[string][]store.Entry{
		"one is missing":     {entries[0], entries[2]},
		"the last":           entries[:2],
		"the first":          entries[1:],
		"one too many":       {entries[0], entry("a", "b", "", 3), entries[1], entries[2]},
		"one more":           {entries[0], entries[1], entries[2], entry("d", "b", "", 3)},
		"another value":      {entries[0], entry("b", "a", "x", 8), entries[2]},
		"another version":    {entries[0], entry("b", "a", "2", 7), entries[2]},
		"listed, and is not": {entries[0], other, entries[2]},
		"nothing":            nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := openBolt(t), openBolt(t)
			load(t, ctx, from, entries)
			load(t, ctx, to, change)
			err := from.Snapshot(ctx, func(s store.Snapshot) error {
				_, err := archive.Same(ctx, to, archive.Entries(s), nil)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "not as") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A copy takes longer than some of what is copied lives.
func TestWhatDiesOnTheWayIsNotMissed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from, to := openBolt(t), openPostgres(t)
	short := entry("b", "short", "", 9)
	short.Expires = time.UnixMilli(time.Now().Add(300 * time.Millisecond).UnixMilli()).UTC()
	load(t, ctx, from, []store.Entry{entry("a", "long", "", 8), short})
	err := from.Snapshot(ctx, func(s store.Snapshot) error {
		if err := archive.Fill(ctx, to, s.Last, archive.Entries(s), nil); err != nil {
			return err
		}
		time.Sleep(time.Until(short.Expires) + 50*time.Millisecond)
		sum, err := archive.Same(ctx, to, archive.Entries(s), nil)
		if err == nil && sum.Records != 1 {
			t.Errorf("%+v", sum)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Whatever the bytes are, what is given is within the contract and in order, and the sum is of all of them.
func FuzzRead(f *testing.F) {
	for _, entries := range [][]store.Entry{nil, {entry("p", "n", "value", 7)}, {entry("a", "é", "", 2), entry("b", "n", "x", 3)}} {
		e := openBolt(f)
		load(f, f.Context(), e, entries)
		file, _, _ := backup(f, f.Context(), e)
		f.Add(file)
		f.Add(file[:len(file)/2])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > sha256.Size {
			file = sealed(file) // or hardly anything would come to the end
		}
		r, err := archive.NewReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		last := store.Key{}
		for n := uint64(0); ; n++ {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				if r.Sum().Records != n || r.Sum().Bytes != int64(len(file)) {
					t.Errorf("%d records, %d bytes: %+v", n, len(file), r.Sum())
				}
				return
			}
			if err != nil {
				return
			}
			if e.Validate() != nil || e.Compare(last) <= 0 {
				t.Errorf("%+v after %+v", e, last)
			}
			last = e.Key
		}
	})
}
