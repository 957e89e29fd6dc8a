package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/redis"
	"obolus/store/storetest"
	"obolus/store/storetest/servers"
)

func spend(n int) store.Commit {
	c := commit(n, false)
	c.If, c.Spends = []store.Condition{{Name: "state", Is: store.Absent}}, true
	return c
}

// What is spent waits for the replica, applied or refused; what is not does not.
func TestReplicasConfirm(t *testing.T) {
	t.Parallel()
	master, replica := pair(t)
	e := open(t, master.URL+"?read_timeout=30s&replicas=1&replicas_timeout=4s", redis.Options{})
	fence, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	try := func(b store.Batch) (store.Results, error) {
		b.Fence = fence
		return e.Do(t.Context(), b)
	}
	if res, err := try(store.Batch{Commits: []store.Commit{spend(1)}}); err != nil || !res.Outcomes[0].Applied {
		t.Fatalf("%+v, %v", res, err)
	}
	replica.Pause()
	var all sync.WaitGroup
	for what, c := range map[string]store.Commit{"first": spend(2), "again": spend(2), "one from before": spend(1)} {
		all.Go(func() {
			_, err := try(store.Batch{Commits: []store.Commit{c}})
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "0 replicas confirmed within 4s, and 1 must") {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	all.Wait()
	for what, b := range map[string]store.Batch{
		"nothing": {}, "a read": {Reads: []store.Key{{Partition: "txn1", Name: "state"}}}, "a commit": {Commits: []store.Commit{commit(3, true)}},
	} {
		if _, err := try(b); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	replica.Resume()
	res, err := try(store.Batch{Commits: []store.Commit{spend(2)}})
	if err != nil || res.Outcomes[0].Applied {
		t.Errorf("it was carried out before: %+v, %v", res, err)
	}
	if _, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{spend(4)}}); err != nil {
		t.Errorf("without a fence: %v", err)
	}
}

// The whole contract holds on a Cluster whose replicas confirm.
func TestContractWithReplicas(t *testing.T) {
	t.Parallel()
	url, nodes := servers.Cluster(t, 2, 1)
	t.Run("contract", func(t *testing.T) { storetest.Run(t, suite(url+"?read_timeout=30s&replicas=1&replicas_timeout=20s")) })
	t.Run("each master has its own", func(t *testing.T) {
		e := open(t, url+"?replicas=1&replicas_timeout=300ms", redis.Options{})
		fence, err := e.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nodes[2].Pause() // of the first master
		defer nodes[2].Resume()
		good, bad := 0, 0
		for n := range 12 {
			_, err := e.Do(t.Context(), store.Batch{Fence: fence, Commits: []store.Commit{spend(n)}})
			switch {
			case err == nil:
				good++
			case errors.Is(err, store.ErrUnavailable):
				bad++
			default:
				t.Error(err)
			}
		}
		if good == 0 || bad == 0 {
			t.Errorf("%d were confirmed, %d were not", good, bad)
		}
	})
}

// A former master that a partition left with some clients cannot acknowledge what is spent.
func TestAMasterThatIsCutOffSpendsNothing(t *testing.T) {
	t.Parallel()
	master, replica := pair(t)
	e := open(t, master.URL+"?replicas=1&replicas_timeout=100ms", redis.Options{})
	alone := open(t, master.URL, redis.Options{})
	fence, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The other side makes the replica a master; this side hears nothing of it.
	if err := client(t, replica).ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	for master.Replicas() > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := e.Do(t.Context(), store.Batch{Fence: fence, Commits: []store.Commit{spend(1)}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := alone.Do(t.Context(), store.Batch{Fence: fence, Commits: []store.Commit{spend(2)}}); err != nil {
		t.Errorf("one that waits for nobody goes on, which is what waiting is for: %v", err)
	}
}

func TestWhatIsSaidOfReplicas(t *testing.T) {
	t.Parallel()
	master, _ := pair(t)
	t.Cleanup(master.Kill) // one that begins to write its log does not end when it is asked to
	c := client(t, master)
	for i, step := range []struct {
		query, name, value string
		want               []string
	}{
		{"", "save", "", []string{"keeps nothing on disk", "min-replicas-to-write"}},
		{"", "min-replicas-to-write", "1", []string{"keeps nothing on disk"}},
		{"", "appendonly", "yes", nil},
		{"?replicas=1", "appendonly", "yes", nil},
		{"?replicas=2", "appendonly", "yes", []string{"1 replicas in step and 2 must confirm"}},
	} {
		c.ConfigSet(t.Context(), step.name, step.value)
		got := open(t, master.URL+step.query, redis.Options{}).Warnings()
		if len(got) != len(step.want) {
			t.Fatalf("%d: %q", i, got)
		}
		for _, want := range step.want {
			if !strings.Contains(strings.Join(got, "\n"), want) {
				t.Errorf("%d: %q, not %q", i, got, want)
			}
		}
	}
}

func TestTheURLOfReplicas(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"replicas=x":                                     "a number from 0 to 100",
		"replicas=-1":                                    "a number from 0 to 100",
		"replicas=1&replicas=2":                          "replicas is there twice",
		"replicas_timeout=soon":                          "a duration like 500ms",
		"replicas_timeout=0s":                            "a duration like 500ms",
		"replicas=1&replicas_timeout=1s":                 "shorter than read_timeout",
		"replicas=1&replicas_timeout=2s&read_timeout=1s": "shorter than read_timeout",
	} {
		_, err := redis.Open(t.Context(), fmt.Sprint("redis://127.0.0.1:1?", query), redis.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", query, err)
		}
	}
}
