package archive_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"obolus/store"
	"obolus/store/archive"
)

const million = 1_000_000

// events feeds records as a ledger has them: an event of 500 bytes and three entries of it in other orders.
func events() archive.Feed {
	n, value := 0, bytes.Repeat([]byte("e"), 500)
	return func() (store.Entry, error) {
		if n == million {
			return store.Entry{}, io.EOF
		}
		e := store.Entry{Listed: true, Record: store.Record{Key: store.Key{Partition: "ledger"}, Version: uint64(n + 2), Value: []byte("1")}}
		if e.Name = fmt.Sprintf("x/user/alice/%020d", n); n < million/4 {
			e.Name, e.Value = fmt.Sprintf("e/%020d", n), value
		}
		n++
		return e, nil
	}
}

func BenchmarkMillion(b *testing.B) {
	for name, open := range map[string]func(testing.TB) store.Durable{
		"bolt":     func(tb testing.TB) store.Durable { tb.Helper(); return openBolt(tb) },
		"postgres": func(tb testing.TB) store.Durable { tb.Helper(); return openPostgres(tb) },
	} {
		e, bytes := open(b), int64(0)
		pass := func(what string, do func() error) {
			b.Run(name+"/"+what, func(b *testing.B) {
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(bytes)
				b.ReportMetric(float64(million*b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
		pass("fill", func() error { return archive.Fill(b.Context(), e, 0, events(), nil) })
		pass("compare", func() error {
			_, err := archive.Same(b.Context(), e, events(), nil)
			return err
		})
		if err := archive.Finish(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		pass("write", func() error {
			_, sum, err := archive.Write(b.Context(), io.Discard, e, archive.Origin{}, nil)
			bytes = sum.Bytes
			return err
		})
	}
}
