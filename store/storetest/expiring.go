package storetest

import (
	"fmt"
	"time"

	"obolus/store"
)

func (t trial) expiry() {
	h := t.open()
	res := h.do(store.Batch{
		Commits: []store.Commit{{Partition: "p", Writes: []store.Write{
			{Name: "dies", Value: []byte("x"), TTL: life},
			{Name: "lives", Value: []byte("x"), TTL: time.Hour},
			{Name: "prolonged", Value: []byte("x"), TTL: life},
			{Name: "kept", Value: []byte("x"), TTL: life},
		}}},
		Reads: []store.Key{{Partition: "p", Name: "dies"}},
	})
	wrote := res.Outcomes[0].Wrote
	want(t, "alive at first", res.Records[0].Exists(), true)
	if off := wrote[1].Expires.Sub(res.Now) - time.Hour; off > time.Second || off < -time.Minute {
		t.Errorf("expires %v from the asked moment by the store's clock", off)
	}
	h.write(store.Write{Name: "prolonged", Value: []byte("y"), TTL: time.Hour}, set("kept", "y"))
	t.pass(life)
	got := h.read("dies", "lives", "prolonged", "kept")
	want(t, "dies", got[0].Exists(), false)
	want(t, "dies leaves a value", len(got[0].Value), 0)
	want(t, "lives", got[1].Exists(), true)
	want(t, "prolonged", got[2].Exists(), true)
	want(t, "kept", got[3].Exists(), true)
	want(t, "kept has no expiry", got[3].Expires.IsZero(), true)
	out := h.commit(store.Commit{
		Partition: "p",
		If:        []store.Condition{{Name: "dies", Is: store.Absent}},
		Writes:    []store.Write{set("dies", "again")},
	})
	want(t, "absent after its time", out.Applied, true)
	want(t, "seen after its time", out.Seen[0].Exists(), false)
	if v := out.Wrote[0].Version; v <= wrote[0].Version {
		t.Errorf("version %d after %d", v, wrote[0].Version)
	}
}

func (t trial) counterExpiry() {
	h := t.open()
	forever := h.write(store.Write{Name: "f", Add: 1})[0]
	want(t, "no life asked", forever.Expires.IsZero(), true)
	lives := life
	first, second := store.Record{}, store.Record{}
	for ; second.Count() != 2; lives *= 2 { // on a slow machine it dies on the way
		h.write(store.Write{Name: "n", Delete: true})
		first = h.write(store.Write{Name: "n", Add: 1, TTL: lives})[0]
		second = h.write(store.Write{Name: "n", Add: 1, TTL: time.Hour})[0]
	}
	if !second.Expires.Equal(first.Expires) {
		t.Errorf("an addition moved the expiry from %v to %v", first.Expires, second.Expires)
	}
	want(t, "an addition sets no expiry", h.write(store.Write{Name: "f", Add: 1, TTL: life})[0].Expires.IsZero(), true)
	t.pass(lives)
	got := h.read("n", "f")
	want(t, "counter after its time", got[0].Count(), 0)
	want(t, "counter without one", got[1].Count(), 2)
	want(t, "starts again", h.write(store.Write{Name: "n", Add: 4, TTL: time.Hour})[0].Count(), 4)
}

func (t trial) listing() {
	h := t.open()
	in := func(name string) store.Write { return store.Write{Name: name, Value: []byte(name), Listed: true} }
	h.write(in("b"), in("B"), in("a"), in("é"), in("aa"), in("a-b"), in("名"), in("z"), set("hidden", ""))
	h.commit(store.Commit{Partition: "q", Writes: []store.Write{in("x")}})
	want(t, "byte order", h.list("p", "", 100), "B a a-b aa b z é 名")
	want(t, "first page", h.list("p", "", 3), "B a a-b")
	want(t, "second page", h.list("p", "a-b", 3), "aa b z")
	want(t, "last page", h.list("p", "z", 3), "é 名")
	want(t, "beyond", h.list("p", "名", 3), "")
	want(t, "after a name that is not there", h.list("p", "azz", 2), "b z")
	want(t, "other partition", h.list("q", "", 100), "x")
	want(t, "no such partition", h.list("none", "", 100), "")
	h.write(in("a"), store.Write{Name: "b", Delete: true, Listed: true}, in("c"))
	want(t, "after changes", h.list("p", "", 100), "B a a-b aa c z é 名")
	recs, err := h.List(t.Context(), "p", "z", 1)
	if err != nil || len(recs) != 1 || !same(recs[0], h.read("é")[0]) {
		t.Errorf("listed %+v, %v", recs, err)
	}
	many := store.Commit{Partition: "many"}
	for i := range 1000 {
		many.Writes = append(many.Writes, in(fmt.Sprintf("%04d", (i*7)%1000)))
	}
	h.commit(many)
	recs, err = h.List(t.Context(), "many", "", 1000)
	if err != nil || len(recs) != 1000 || recs[0].Name != "0000" || recs[999].Name != "0999" {
		t.Errorf("listed %d, %v", len(recs), err)
	}
}

func (t trial) listingExpiry() {
	h := t.open()
	for i := range 40 {
		h.write(store.Write{Name: fmt.Sprintf("d%02d", i), Listed: true, TTL: life})
	}
	h.write(store.Write{Name: "c", Listed: true, TTL: time.Hour}, store.Write{Name: "e", Listed: true})
	h.commit(store.Commit{Partition: "q", Writes: []store.Write{{Name: "x", Listed: true, TTL: life}}})
	t.pass(life)
	want(t, "the living", h.list("p", "", 2), "c e")
	want(t, "nobody lives there", h.list("q", "", 2), "")
	h.write(store.Write{Name: "d05", Listed: true, TTL: time.Hour})
	want(t, "one is back", h.list("p", "", 10), "c d05 e")
	want(t, "after it", h.list("p", "d05", 10), "e")
}
