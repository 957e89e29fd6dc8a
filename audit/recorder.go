package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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
	records  store.Engine
	now      func() time.Time
	life     context.Context //nolint:containedctx // the writer outlives every request; this is the server's own
	entering context.Context //nolint:containedctx // the same, but it ends with Close
	end      context.CancelFunc
	queue    chan entry
	behind   chan struct{} // events may be waiting to be entered
	stop     chan struct{}
	stopped  sync.WaitGroup
	tell     func(Event)
}

type entry struct {
	event Event
	epoch uint64 // that must be in force when the event is durable; zero: any
	done  chan error
}

// NewRecorder starts the one goroutine that writes, and the one that enters; Close ends both. The context is the server's, of
// which only the values count: what is waiting is written even when it was cancelled.
func NewRecorder(ctx context.Context, records store.Engine, now func() time.Time) *Recorder {
	r := &Recorder{
		records: records, now: now, life: context.WithoutCancel(ctx),
		queue: make(chan entry, queueLimit), behind: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	r.entering, r.end = context.WithCancel(r.life)
	r.stopped.Go(r.run)
	r.stopped.Go(r.enterAll)
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
	r.end()
	r.stopped.Wait()
}

func (r *Recorder) run() {
	end := tail{}
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
		epoch, err := r.write(batch, &end)
		r.answer(batch, epoch, err)
		r.left(&end)
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

// left has it looked, now and then, whether enough events are left to be entered.
func (r *Recorder) left(end *tail) {
	if end.Seq < end.asked+enterAsk {
		return
	}
	end.asked = end.Seq
	select {
	case r.behind <- struct{}{}:
	default:
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

// tail is what the writer knows of the end of the chain.
type tail struct {
	head

	version uint64 // of its record
	marked  bool   // how far the later orders go is written
	asked   uint64 // when it was last looked whether events are left to be entered
}

// write appends a batch to the chain; when another server was faster it chains to that server's end instead. An
// unknown outcome is never repeated: the events of it fail, and the chain goes on from what is then found. It returns the epoch
// that was in force once they were written.
func (r *Recorder) write(batch []entry, end *tail) (uint64, error) {
	ctx, cancel := context.WithTimeout(r.life, 10*time.Second)
	defer cancel()
	for {
		next := end.head
		commit, err := r.commit(batch, &next, *end)
		if err != nil {
			return 0, err
		}
		res, err := r.records.Do(ctx, store.Batch{Commits: []store.Commit{commit}, Reads: []store.Key{store.EpochKey()}})
		if err != nil {
			end.version = 0 // find out anew
			return 0, oauth.Unavailable(fmt.Errorf("write the ledger: %w", err))
		}
		out := res.Outcomes[0]
		if out.Applied {
			end.head, end.version, end.marked = next, out.Wrote[0].Version, true
			return store.EpochOf(res.Records[0])
		}
		end.head, end.version = head{}, out.Seen[0].Version
		end.marked = end.marked || out.Seen[1].Exists()
		if out.Seen[0].Exists() {
			if err := json.Unmarshal(out.Seen[0].Value, &end.head); err != nil {
				return 0, oauth.Unavailable(fmt.Errorf("read the end of the ledger: %w", err))
			}
		}
	}
}

// commit seals a batch behind the end. The first one to a ledger that does not tell how far its later orders go says that they
// go as far as that ledger: it is new, or of a time when every event was entered into all of them at once.
func (r *Recorder) commit(batch []entry, next *head, end tail) (store.Commit, error) {
	c := store.Commit{
		Partition: partition,
		If:        []store.Condition{{Name: headName, Is: store.Absent}},
		Writes:    make([]store.Write, 1, 2+3*len(batch)),
	}
	if end.version != 0 {
		c.If[0].Is, c.If[0].Version = store.AtVersion, end.version
	}
	if !end.marked {
		c.If = append(c.If, store.Condition{Name: enteredName, Is: store.Absent})
		c.Writes = append(c.Writes, store.Write{Name: enteredName, Value: strconv.AppendUint(nil, end.Seq, 10)})
	}
	for i := range batch {
		event := &batch[i].event
		data, err := event.seal(next.Seq+1, next.Hash)
		if err != nil {
			return c, oauth.Unavailable(err)
		}
		next.Seq, next.Hash = event.Seq, event.Hash
		c.Writes = append(c.Writes, store.Write{Name: eventName(event.Seq), Value: data, Listed: true})
		for _, name := range atOnce(event) {
			c.Writes = append(c.Writes, store.Write{Name: name, Value: []byte("1"), Listed: true})
		}
	}
	value, err := json.Marshal(next)
	c.Writes[0] = store.Write{Name: headName, Value: value}
	return c, err
}
