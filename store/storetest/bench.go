package storetest

import (
	"fmt"
	"testing"
	"time"

	"obolus/store"
)

// Bench measures an engine: a read of one record, a commit as redemption makes it, alone and in a crowd, and one as the
// ledger makes it for 128 events.
func Bench(b *testing.B, e store.Engine) {
	b.Helper()
	key := store.Key{Partition: "bench", Name: "record"}
	value := make([]byte, 400)
	_, err := store.Apply(b.Context(), e, store.Commit{Partition: key.Partition, Writes: []store.Write{{Name: key.Name, Value: value}}})
	if err != nil {
		b.Fatal(err)
	}
	act := func(n int) error {
		_, err := store.Apply(b.Context(), e, store.Commit{
			Partition: fmt.Sprint("txn", n),
			If:        []store.Condition{{Name: "state", Is: store.Absent}},
			Writes:    []store.Write{{Name: "state", Value: value, TTL: time.Minute}},
		})
		return err
	}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := store.Read(b.Context(), e, key); err != nil {
				b.Fatal(err)
			}
		}
	})
	n := 0
	b.Run("commit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n++
			if err := act(n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("commit in a crowd", func(b *testing.B) { inCrowd(b, act) })
	b.Run("commit of the ledger", func(b *testing.B) { asLedger(b, e) })
}

func asLedger(b *testing.B, e store.Engine) {
	b.Helper()
	b.ReportAllocs()
	head := store.Record{}
	for n := 0; b.Loop(); n++ {
		c := store.Commit{Partition: "ledger", If: []store.Condition{{Name: "head", Is: store.Absent}}, Writes: []store.Write{
			{Name: "head", Value: make([]byte, 100)},
		}}
		if head.Exists() {
			c.If[0].Is, c.If[0].Version = store.AtVersion, head.Version
		}
		for i := range 128 {
			c.Writes = append(c.Writes, store.Write{Name: fmt.Sprintf("e/%010d", n*128+i), Value: make([]byte, 600), Listed: true})
			for _, index := range []string{"agent", "user", "txn"} {
				name := fmt.Sprintf("%s/%03d/%010d", index, i, n*128+i)
				c.Writes = append(c.Writes, store.Write{Name: name, Value: []byte("1"), Listed: true})
			}
		}
		out, err := store.Apply(b.Context(), e, c)
		switch {
		case err != nil:
			b.Fatal(err)
		case out.Applied:
			head = out.Wrote[0]
		default: // an earlier run left it
			head, n = out.Seen[0], n+1000
		}
	}
}

func inCrowd(b *testing.B, act func(n int) error) {
	b.Helper()
	b.SetParallelism(32)
	worker := make(chan int, 1)
	worker <- 1
	b.RunParallel(func(pb *testing.PB) {
		mine := <-worker
		worker <- mine + 1
		for n := 0; pb.Next(); n++ {
			if err := act(mine*1e9 + b.N*1000 + n); err != nil {
				b.Error(err)
			}
		}
	})
}
