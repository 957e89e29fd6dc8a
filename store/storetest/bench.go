package storetest

import (
	"fmt"
	"testing"
	"time"

	"obolus/store"
)

// Bench measures an engine: a read of one record, and a commit as redemption makes it, alone and in a crowd.
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
