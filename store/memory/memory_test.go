package memory_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/memory"
	"obolus/store/storetest"
)

// clock is a clock that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time                 { return time.Unix(1_800_000_000, c.ahead.Load()) }
func (c *clock) advance(d time.Duration)        { c.ahead.Add(int64(d)) }
func (c *clock) engine(*testing.T) store.Engine { return memory.New(c.now) }

func TestContract(t *testing.T) {
	c := &clock{}
	storetest.Run(t, storetest.Suite{Open: c.engine, Advance: c.advance})
}

func TestContractByTheWallClock(t *testing.T) {
	storetest.Run(t, storetest.Suite{Open: func(*testing.T) store.Engine { return memory.New(time.Now) }})
}

func TestTheDeadAreBuried(t *testing.T) {
	c := &clock{}
	e := memory.New(c.now)
	value := make([]byte, 1000)
	for n := range 100_000 {
		_, err := store.Apply(t.Context(), e, store.Commit{Partition: fmt.Sprint("p", n), Writes: []store.Write{
			{Name: "n", Value: value, TTL: time.Second, Listed: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.advance(time.Millisecond)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 40<<20 {
		t.Errorf("%d MiB are held for a thousand living records of 1 KB", m.HeapAlloc>>20)
	}
	runtime.KeepAlive(e)
}

func TestFencesDiffer(t *testing.T) {
	a, _ := memory.New(time.Now).Fence(t.Context())
	b, _ := memory.New(time.Now).Fence(t.Context())
	if a == b {
		t.Error("two engines have one fence")
	}
}

func BenchmarkDo(b *testing.B) { storetest.Bench(b, memory.New(time.Now)) }
