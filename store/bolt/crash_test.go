package bolt_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/bolt"
	"obolus/store/storetest"
)

// childPath names the file on which this process is to toil until it is killed.
const childPath = "OBOLUS_TEST_BOLT_CHILD"

const workers = 8

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		signal.Ignore(syscall.SIGXFSZ)
	}
	os.Exit(m.Run())
}

// TestChildToils is the process that is killed. By itself it does nothing.
func TestChildToils(t *testing.T) {
	path := os.Getenv(childPath)
	if path == "" {
		return
	}
	e := open(t, path)
	var all sync.WaitGroup
	var mu sync.Mutex
	for w := range workers {
		all.Go(func() {
			err := storetest.Toil(t.Context(), e, w, func(n int) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Println("acked", w, n)
			})
			fmt.Println("error", w, err)
		})
	}
	all.Wait()
}

func child(t *testing.T, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildToils$", "-test.count=1")
	cmd.Env = append(os.Environ(), childPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	fence, total := "", 0
	for range 8 {
		cmd, out := child(t, path)
		var acked [workers]int
		lines := bufio.NewScanner(out)
		var killer sync.WaitGroup
		some := 13 + rand.N(20) // what is acknowledged before it is killed, however slow the disk
		for lines.Scan() {
			var w, n int
			if _, err := fmt.Sscanf(lines.Text(), "acked %d %d", &w, &n); err != nil {
				continue
			}
			if some--; some == 0 {
				killer.Go(func() {
					time.Sleep(rand.N(150 * time.Millisecond))
					cmd.Process.Kill()
				})
			}
			acked[w] = n
		}
		killer.Wait()
		cmd.Wait()
		e := open(t, path)
		f, err := e.Fence(t.Context())
		if err != nil || fence != "" && f != fence {
			t.Errorf("fence was %q and is %q, %v", fence, f, err)
		}
		fence, total = f, 0
		for w := range workers {
			total += storetest.Whole(t, e, w, acked[w])
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if total < 100 {
		t.Errorf("only %d commits were tried", total)
	}
}

// TestTheDiskIsFull limits the size of the files that a child may write, which for it is the same.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	if os.Getenv(childPath) == "" {
		path := filepath.Join(t.TempDir(), "records.db")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheDiskIsFull$", "-test.count=1")
		cmd.Env = append(os.Environ(), childPath+"="+path)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	e := open(t, os.Getenv(childPath))
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 300 << 10, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	acked := 0
	for range 3 {
		if err := storetest.Toil(t.Context(), e, 0, func(n int) { acked = n }); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		if _, err := store.Read(t.Context(), e, store.Key{Partition: "p", Name: "n"}); err != nil {
			t.Errorf("reading when the disk is full: %v", err)
		}
	}
	storetest.Whole(t, e, 0, acked)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	write(t, e, 0, 100)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := bolt.Open(os.Getenv(childPath), bolt.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := storetest.Whole(t, again, 0, acked); n < 10 {
		t.Errorf("the disk was full after %d commits", n)
	}
}
