package store_test

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"obolus/store"
)

// TestFormsAreOfTheirVersion: whatever is put in which order, what comes out is of the version that was asked for, and there are never
// more than two generations of them.
func TestFormsAreOfTheirVersion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const limit = 4
		forms := store.NewForms[string](limit)
		key := func(i int) store.Key { return store.Key{Partition: "p", Name: strconv.Itoa(i)} }
		last := map[int]uint64{}
		var order []int
		for range rapid.IntRange(1, 60).Draw(t, "puts") {
			i, version := rapid.IntRange(0, 20).Draw(t, "key"), rapid.Uint64Range(1, 5).Draw(t, "version")
			forms.Put(key(i), version, strconv.Itoa(i)+"@"+strconv.FormatUint(version, 10))
			last[i], order = version, append(order, i)
		}
		held := 0
		for i := range 21 {
			for version := range uint64(7) {
				got, ok := forms.Get(key(i), version)
				switch {
				case ok && (got != strconv.Itoa(i)+"@"+strconv.FormatUint(version, 10) || version != last[i]):
					t.Fatalf("asked for version %d of %d, got %q", version, i, got)
				case ok:
					held++
				case got != "":
					t.Fatalf("%q beside no", got)
				}
			}
		}
		if held > 2*limit {
			t.Fatalf("%d forms are held", held)
		}
		if i := order[len(order)-1]; held == 0 || last[i] == 0 {
			t.Fatal("the newest is forgotten")
		} else if _, version, ok := forms.Latest(key(i)); !ok || version != last[i] {
			t.Fatal("the newest is forgotten")
		}
	})
}
