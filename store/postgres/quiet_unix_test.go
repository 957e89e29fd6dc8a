//go:build unix

package postgres_test

import (
	"net"
	"testing"
	"time"

	"obolus/store/postgres"
)

// pair makes both ends of a connection.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ours.Close()
		theirs.Close()
	})
	return ours, theirs
}

// TestQuietWaitsForNoReader: after a slow write pgx leaves a read under way, which may last until the connection is used again.
func TestQuietWaitsForNoReader(t *testing.T) {
	t.Parallel()
	ours, _ := pair(t)
	go func() { _, _ = ours.Read(make([]byte, 1)) }()
	time.Sleep(50 * time.Millisecond)
	said := make(chan bool, 1)
	go func() { said <- postgres.Quiet(ours) }()
	select {
	case quiet := <-said:
		if !quiet {
			t.Error("nothing was said, and it is not quiet")
		}
	case <-time.After(time.Minute):
		t.Error("it waits for the reader")
	}
}

func TestQuietHears(t *testing.T) {
	t.Parallel()
	for what, act := range map[string]func(net.Conn) error{
		"a word": func(c net.Conn) error { _, err := c.Write([]byte("x")); return err },
		"an end": net.Conn.Close,
	} {
		ours, theirs := pair(t)
		if !postgres.Quiet(ours) {
			t.Errorf("before %s it is not quiet", what)
		}
		if err := act(theirs); err != nil {
			t.Fatal(err)
		}
		for late := time.Now().Add(time.Minute); postgres.Quiet(ours); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("after %s it is quiet", what)
			}
		}
	}
}
