package rulebook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/policy"
	"obolus/policy/rulebook"
	"obolus/store"
	"obolus/store/memory"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func newBook(t *testing.T) (*rulebook.Book, store.Engine) {
	t.Helper()
	records := memory.New(time.Now)
	t.Cleanup(func() { records.Close() })
	b, err := rulebook.New(records, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return b, records
}

func fine([]policy.File) error { return nil }

// texts are the files of a revision by name.
func texts(t testing.TB, b *rulebook.Book, r rulebook.Revision) map[string]string {
	t.Helper()
	files, err := b.Files(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		out[f.Name] = f.Text
	}
	return out
}

func TestARevisionForEachChange(t *testing.T) {
	t.Parallel()
	b, _ := newBook(t)
	ctx := t.Context()
	put := func(name, text, why string) rulebook.Change {
		return rulebook.Change{Kind: rulebook.Put, Name: name, Text: text, By: "ann", Why: why}
	}
	if r, err := b.Current(ctx); err != nil || r.Number != 0 || len(r.Entries) != 0 {
		t.Fatalf("the empty book: %+v, %v", r, err)
	}
	for i, c := range []struct {
		change rulebook.Change
		number uint64
		what   string
		files  map[string]string
		tag    uint64 // of a.cedar
	}{
		{put("b.cedar", "B", "first"), 1, "put b.cedar", map[string]string{"b.cedar": "B"}, 0},
		{put("a.cedar", "A", ""), 2, "put a.cedar", map[string]string{"a.cedar": "A", "b.cedar": "B"}, 2},
		{put("a.cedar", "A", "the same"), 2, "put a.cedar", map[string]string{"a.cedar": "A", "b.cedar": "B"}, 2},
		{put("a.cedar", "A2", "better"), 3, "put a.cedar", map[string]string{"a.cedar": "A2", "b.cedar": "B"}, 3},
		{rulebook.Change{Kind: rulebook.Remove, Name: "b.cedar", By: "bob"}, 4, "removed b.cedar", map[string]string{"a.cedar": "A2"}, 3},
		{rulebook.Change{Kind: rulebook.Revert, To: 2, By: "bob", Why: "worse"}, 5, "reverted to 2", map[string]string{"a.cedar": "A", "b.cedar": "B"}, 5},
		{rulebook.Change{Kind: rulebook.Revert, To: 2}, 5, "reverted to 2", map[string]string{"a.cedar": "A", "b.cedar": "B"}, 5},
		{rulebook.Change{Kind: rulebook.Revert, To: 0}, 6, "reverted to 0", map[string]string{}, 0},
		{rulebook.Change{Kind: rulebook.Revert, To: 3}, 7, "reverted to 3", map[string]string{"a.cedar": "A2", "b.cedar": "B"}, 7},
	} {
		r, err := b.Change(ctx, c.change, fine)
		if err != nil || r.Number != c.number || r.What != c.what {
			t.Fatalf("%d: %+v, %v; want %d %s", i, r, err, c.number, c.what)
		}
		if got := texts(t, b, r); fmt.Sprint(got) != fmt.Sprint(c.files) {
			t.Errorf("%d: %v, want %v", i, got, c.files)
		}
		if e, _ := r.Find("a.cedar"); e.Revision != c.tag {
			t.Errorf("%d: the tag of a.cedar is %d, want %d", i, e.Revision, c.tag)
		}
		if current, err := b.Current(ctx); err != nil || current.Number != c.number {
			t.Errorf("%d: current is %d, %v", i, current.Number, err)
		}
	}
	old, err := b.Revision(ctx, 3)
	if got := texts(t, b, old); err != nil || got["a.cedar"] != "A2" || got["b.cedar"] != "B" || old.By != "ann" || old.Why != "better" || !old.At.Equal(now) {
		t.Errorf("revision 3 reads %+v %v, %v", old, got, err)
	}
	var numbers []uint64
	for before := uint64(0); ; {
		page, err := b.History(ctx, before, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			numbers, before = append(numbers, r.Number), r.Number
		}
		if len(page) < 3 {
			break
		}
	}
	if !slices.Equal(numbers, []uint64{7, 6, 5, 4, 3, 2, 1}) {
		t.Errorf("the history is %v", numbers)
	}
}

func TestWhatIsNotPut(t *testing.T) {
	t.Parallel()
	b, _ := newBook(t)
	wrong := errors.New("a.cedar:1:1: no")
	for i := range 499 {
		if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: fmt.Sprintf("f%d", i), Text: "x"}, fine); err != nil {
			t.Fatal(err)
		}
	}
	big := strings.Repeat("x", 1<<20)
	for i := range 7 {
		if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: fmt.Sprintf("f%d", i), Text: big}, fine); err != nil {
			t.Fatal(err)
		}
	}
	before, err := b.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change rulebook.Change
		check  func([]policy.File) error
		want   error
	}{
		"what the check refuses": {rulebook.Change{Kind: rulebook.Put, Name: "a.cedar", Text: "x"}, func([]policy.File) error { return wrong }, wrong},
		"what the caller did not know": {
			rulebook.Change{Kind: rulebook.Put, Name: "f0", Text: "y", If: func(have uint64) error {
				if have != 500 {
					return fmt.Errorf("the tag is %d", have)
				}
				return wrong
			}}, fine, wrong,
		},
		"a file too big":         {rulebook.Change{Kind: rulebook.Put, Name: "a.cedar", Text: big + "x"}, fine, rulebook.ErrTooBig},
		"too much in all":        {rulebook.Change{Kind: rulebook.Put, Name: "f8", Text: big}, fine, rulebook.ErrTooBig},
		"no name":                {rulebook.Change{Kind: rulebook.Put, Text: "x"}, fine, rulebook.ErrInvalid},
		"a path":                 {rulebook.Change{Kind: rulebook.Put, Name: "../a", Text: "x"}, fine, rulebook.ErrInvalid},
		"a name like a flag":     {rulebook.Change{Kind: rulebook.Put, Name: "-a", Text: "x"}, fine, rulebook.ErrInvalid},
		"a name in two scripts":  {rulebook.Change{Kind: rulebook.Put, Name: "\u0430.cedar", Text: "x"}, fine, rulebook.ErrInvalid},
		"a long name":            {rulebook.Change{Kind: rulebook.Put, Name: strings.Repeat("a", 129), Text: "x"}, fine, rulebook.ErrInvalid},
		"nothing":                {rulebook.Change{Kind: rulebook.Put, Name: "a.cedar"}, fine, rulebook.ErrInvalid},
		"a novel as reason":      {rulebook.Change{Kind: rulebook.Put, Name: "a.cedar", Text: "x", Why: strings.Repeat("a", 501)}, fine, rulebook.ErrInvalid},
		"no kind":                {rulebook.Change{Name: "a.cedar", Text: "x"}, fine, rulebook.ErrInvalid},
		"removal of nothing":     {rulebook.Change{Kind: rulebook.Remove, Name: "a.cedar"}, fine, rulebook.ErrNotFound},
		"a revision to come":     {rulebook.Change{Kind: rulebook.Revert, To: 9999}, fine, rulebook.ErrNotFound},
		"a dry run":              {rulebook.Change{Kind: rulebook.Put, Name: "a.cedar", Text: "x", DryRun: true}, fine, nil},
		"a dry run of a removal": {rulebook.Change{Kind: rulebook.Remove, Name: "f0", DryRun: true}, fine, nil},
	} {
		if _, err := b.Change(t.Context(), c.change, c.check); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if now, err := b.Current(t.Context()); err != nil || now.Number != before.Number {
			t.Errorf("%s changed the book: %d, %v", name, now.Number, err)
		}
	}
	if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: "f499", Text: "x"}, fine); err != nil {
		t.Error(err)
	}
	if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: "f500", Text: "x"}, fine); !errors.Is(err, rulebook.ErrTooBig) {
		t.Errorf("a file too many: %v", err)
	}
}

// Of all who put the same file over the same state one succeeds; those who put different files all do, and no reader ever meets half of a
// revision.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b, _ := newBook(t)
	if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: "same", Text: "0"}, fine); err != nil {
		t.Fatal(err)
	}
	other := errors.New("changed")
	ctx, stop := context.WithCancel(t.Context())
	var writers, readers sync.WaitGroup
	readers.Go(func() {
		for ctx.Err() == nil {
			r, err := b.Current(t.Context())
			if err == nil {
				_, err = b.Files(t.Context(), r)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		writers.Go(func() {
			_, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: "same", Text: fmt.Sprint("by ", i), If: func(have uint64) error {
				if have != 1 {
					return other
				}
				return nil
			}}, fine)
			if err != nil && !errors.Is(err, other) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
			if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: fmt.Sprint("own", i), Text: "x"}, fine); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	r, err := b.Current(t.Context())
	if err != nil || won != 1 || r.Number != 10 || len(r.Entries) != 9 {
		t.Errorf("%d put the same file; revision %d with %d files, %v", won, r.Number, len(r.Entries), err)
	}
}

// A text that is not what was put, or is gone, is not taken for one.
func TestATextThatChangedByItself(t *testing.T) {
	t.Parallel()
	b, records := newBook(t)
	r, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: "a", Text: "forbid"}, fine)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []store.Write{{Value: []byte("permit")}, {Delete: true}} {
		w.Name = "text/" + r.Entries[0].Sum
		if _, err := store.Apply(t.Context(), records, store.Commit{Partition: rulebook.Partition, Writes: []store.Write{w}}); err != nil {
			t.Fatal(err)
		}
		if files, err := b.Files(t.Context(), r); err == nil {
			t.Errorf("it reads %v", files)
		}
		if _, err := b.Change(t.Context(), rulebook.Change{Kind: rulebook.Put, Name: "b", Text: "x"}, fine); err == nil {
			t.Error("a set was put beside it")
		}
	}
}

// Whatever was done, each revision reads for ever as it was when it was made.
func TestHistoryStays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b, _ := newBook(t)
		made := map[uint64]map[string]string{0: {}}
		for range rapid.IntRange(1, 20).Draw(rt, "changes") {
			c := rulebook.Change{
				Kind: rapid.SampledFrom([]rulebook.Kind{rulebook.Put, rulebook.Remove, rulebook.Revert}).Draw(rt, "kind"),
				Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name"), Text: rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "text"),
				To: rapid.Uint64Range(0, uint64(len(made))).Draw(rt, "to"),
			}
			r, err := b.Change(t.Context(), c, fine)
			if errors.Is(err, rulebook.ErrNotFound) {
				continue
			}
			if err != nil {
				rt.Fatal(err)
			}
			if _, ok := made[r.Number]; !ok {
				made[r.Number] = texts(t, b, r)
			}
			if c.Kind == rulebook.Revert && fmt.Sprint(made[c.To]) != fmt.Sprint(texts(t, b, r)) {
				rt.Fatalf("reverted to %d, which is not it", c.To)
			}
		}
		for n, want := range made {
			r, err := b.Revision(t.Context(), n)
			if err != nil || fmt.Sprint(texts(t, b, r)) != fmt.Sprint(want) {
				rt.Fatalf("revision %d: %v, %v", n, r, err)
			}
		}
	})
}

func TestABookNeedsAStore(t *testing.T) {
	t.Parallel()
	if _, err := rulebook.New(nil, time.Now); err == nil {
		t.Error("no store")
	}
}
