package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"obolus/oauth"
	"obolus/store"
)

const (
	partition = "ledger"
	headName  = "head"

	queueLimit = 4096 // events waiting to be written; beyond it requests are refused
	batchLimit = 128  // events in one commit

	// crowdWait is how long a commit waits for company when the one before it had some. Who comes alone never waits; in a crowd a
	// commit that is shared by more costs each of them less, and what it costs is the processor they all wait for.
	crowdWait = time.Millisecond
)

// head is the end of the chain.
type head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// Recorder writes events. Everything that is waiting goes into one durable commit, so the cost of it is shared by
// everything in flight. Several servers may record into one ledger: it is one chain.
type Recorder struct {
	records store.Engine
	now     func() time.Time
	life    context.Context //nolint:containedctx // the writer outlives every request; this is the server's own
	queue   chan entry
	stop    chan struct{}
	stopped sync.WaitGroup
	tell    func(Event)
}

type entry struct {
	event Event
	epoch uint64 // that must be in force when the event is durable; zero: any
	done  chan error
}

// NewRecorder starts the one goroutine that writes; Close ends it. The context is the server's, of which only the values
// count: what is waiting is written even when it was cancelled.
func NewRecorder(ctx context.Context, records store.Engine, now func() time.Time) *Recorder {
	r := &Recorder{records: records, now: now, life: context.WithoutCancel(ctx), queue: make(chan entry, queueLimit), stop: make(chan struct{})}
	r.stopped.Go(r.run)
	return r
}

// Tell has f told of every event once it is durable, from the one goroutine that writes; it is called before the first
// Record. It is for counting: f must be quick.
func (r *Recorder) Tell(f func(Event)) { r.tell = f }

// Record returns once the event is durable, in the order of the chain. An error, always an oauth refusal with 503, means
// that it may not be: the answer that it tells of must not leave.
func (r *Recorder) Record(ctx context.Context, e Event) error { return r.RecordIn(ctx, e, 0) }

// RecordIn is Record for an answer that stands on the live store of an epoch. It is also an error if another epoch is in force
// when the event is durable: then the store that was asked may be a former master, which knows nothing of what was stopped or
// redeemed since. The event stays in the ledger, as that of an answer which was lost does.
func (r *Recorder) RecordIn(ctx context.Context, e Event, epoch uint64) error {
	e.At = r.now().UTC()
	en := entry{event: e, epoch: epoch, done: make(chan error, 1)}
	select {
	case r.queue <- en:
	default:
		return oauth.Unavailable(errors.New("the ledger's queue is full"))
	}
	select {
	case err := <-en.done:
		return err
	case <-ctx.Done():
		return oauth.Unavailable(ctx.Err())
	case <-r.stop:
		return oauth.Unavailable(errors.New("the ledger is closed"))
	}
}

// Close writes what is waiting and ends the recorder.
func (r *Recorder) Close() {
	close(r.stop)
	r.stopped.Wait()
}

func (r *Recorder) run() {
	end := head{}
	version := uint64(0)
	batch := make([]entry, 0, batchLimit)
	wait := time.NewTimer(crowdWait)
	defer wait.Stop()
	for {
		var first entry
		select {
		case first = <-r.queue:
		case <-r.stop:
			select {
			case first = <-r.queue:
			default:
				return
			}
		}
		crowd := len(batch) > 1
		batch = r.gather(append(batch[:0], first))
		if crowd {
			wait.Reset(crowdWait)
			select {
			case <-wait.C:
			case <-r.stop:
			}
			batch = r.gather(batch)
		}
		epoch, err := r.write(batch, &end, &version)
		r.answer(batch, epoch, err)
	}
}

// answer tells those who wait what became of a batch, and in which epoch.
func (r *Recorder) answer(batch []entry, epoch uint64, err error) {
	for _, en := range batch {
		if err == nil && r.tell != nil {
			r.tell(en.event)
		}
		if err == nil && en.epoch != 0 && en.epoch != epoch {
			en.done <- oauth.Unavailable(store.ErrFence)
			continue
		}
		en.done <- err
	}
}

// gather takes what else is waiting, without waiting for it.
func (r *Recorder) gather(batch []entry) []entry {
	for len(batch) < batchLimit {
		select {
		case en := <-r.queue:
			batch = append(batch, en)
		default:
			return batch
		}
	}
	return batch
}

// write appends a batch to the chain; when another server was faster it chains to that server's end instead. An
// unknown outcome is never repeated: the events of it fail, and the chain goes on from what is then found. It returns the epoch
// that was in force once they were written.
func (r *Recorder) write(batch []entry, end *head, version *uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(r.life, 10*time.Second)
	defer cancel()
	for {
		next := *end
		commit, err := r.commit(batch, &next, *version)
		if err != nil {
			return 0, err
		}
		res, err := r.records.Do(ctx, store.Batch{Commits: []store.Commit{commit}, Reads: []store.Key{store.EpochKey()}})
		if err != nil {
			*version = 0 // find out anew
			return 0, oauth.Unavailable(fmt.Errorf("write the ledger: %w", err))
		}
		out := res.Outcomes[0]
		if out.Applied {
			*end, *version = next, out.Wrote[0].Version
			return store.EpochOf(res.Records[0])
		}
		*end, *version = head{}, out.Seen[0].Version
		if out.Seen[0].Exists() {
			if err := json.Unmarshal(out.Seen[0].Value, end); err != nil {
				return 0, oauth.Unavailable(fmt.Errorf("read the end of the ledger: %w", err))
			}
		}
	}
}

func (r *Recorder) commit(batch []entry, end *head, version uint64) (store.Commit, error) {
	c := store.Commit{
		Partition: partition,
		If:        []store.Condition{{Name: headName, Is: store.Absent}},
		Writes:    []store.Write{{Name: headName}},
	}
	if version != 0 {
		c.If[0].Is, c.If[0].Version = store.AtVersion, version
	}
	for _, en := range batch {
		event, data, err := en.event.seal(end.Seq+1, end.Hash)
		if err != nil {
			return c, oauth.Unavailable(err)
		}
		end.Seq, end.Hash = event.Seq, event.Hash
		c.Writes = append(c.Writes, store.Write{Name: eventName(event.Seq), Value: data, Listed: true})
		for _, name := range indexNames(event) {
			c.Writes = append(c.Writes, store.Write{Name: name, Value: []byte("1"), Listed: true})
		}
	}
	var err error
	c.Writes[0].Value, err = json.Marshal(end)
	return c, err
}
