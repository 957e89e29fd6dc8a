package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/postgres"
	"obolus/store/storetest"
	"obolus/store/storetest/servers"
)

func TestCopying(t *testing.T) {
	t.Parallel()
	url, serial := servers.Postgres(t), 0
	storetest.Copying(t, func(t *testing.T) store.Durable {
		t.Helper()
		serial++
		return open(t, url, postgres.Options{Schema: fmt.Sprint("test", serial)})
	})
}

func TestWhoHasItAloneKeepsOthersOut(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	server := open(t, url, postgres.Options{})
	if err := put(t, server, "a"); err != nil {
		t.Fatal(err)
	}
	locked := func(o postgres.Options, word string) {
		t.Helper()
		start := time.Now()
		e, err := postgres.Open(t.Context(), url, o)
		if err == nil {
			e.Close()
		}
		if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("it took %v to say so", took)
		}
	}
	locked(postgres.Options{Alone: true}, "in use")
	open(t, url, postgres.Options{Alone: true, Schema: "another"})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	alone := open(t, url, postgres.Options{Alone: true})
	locked(postgres.Options{}, "alone")
	locked(postgres.Options{Alone: true}, "in use")
	if err := put(t, alone, "b"); err != nil {
		t.Fatal(err)
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, url, postgres.Options{})
}

// A server whose connections are cut does not go on when the records were replaced, or are being replaced, meanwhile.
func TestAServerDoesNotGoOnWithOtherRecords(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	server := open(t, url, postgres.Options{})
	cut := func() {
		t.Helper()
		exec(t, url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
		for start := time.Now(); count(t, url, "select count(*)::int from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())") > 0; {
			if time.Since(start) > time.Minute {
				t.Fatal("the connections do not end")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if err := put(t, server, "a"); err != nil {
		t.Fatal(err)
	}
	cut()
	if err := put(t, server, "b"); err != nil {
		t.Errorf("a cut alone is nothing: %v", err)
	}
	cut()
	alone := open(t, url, postgres.Options{Alone: true})
	if err := put(t, server, "c"); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, store.ErrLocked) {
		t.Errorf("while it is somebody's alone: %v", err)
	}
	if err := alone.Load(t.Context(), store.Load{Clear: true}); err != nil {
		t.Fatal(err)
	}
	if err := put(t, alone, "d"); err != nil {
		t.Errorf("who replaced them goes on: %v", err)
	}
	alone.Close()
	for range 3 {
		if err := put(t, server, "e"); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "replaced") {
			t.Errorf("after it: %v", err)
		}
	}
	if got := len(storetest.Everything(t, open(t, url, postgres.Options{}))); got != 1 {
		t.Errorf("%d records", got)
	}
}
