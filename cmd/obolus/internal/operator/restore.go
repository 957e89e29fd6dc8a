package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"obolus/audit"
	"obolus/cmd/obolus/internal/config"
	"obolus/store"
	"obolus/store/archive"
)

// RestoreCommand is `obolus restore`.
type RestoreCommand struct {
	File    string `arg:"" help:"What obolus backup wrote."`
	Config  string `env:"OBOLUS_CONFIG" help:"The server's configuration file: it tells where the records are." placeholder:"FILE" short:"c"`
	Records string `help:"Where the records are, instead of what the configuration says." placeholder:"STORE"`
	SHA256  string `help:"Take only the file with this hash, which backup printed." name:"sha256" placeholder:"HASH"`
	Replace bool   `help:"Remove the records that are there."`
	Yes     bool   `help:"I mean --replace: what is there will be gone."`
	JSON    bool   `help:"Print JSON for programs." name:"json"`
}

// Help teaches by example.
func (*RestoreCommand) Help() string {
	return `Puts the records of a backup into a store that is empty. The file is read to its end before anything is written. The servers must be
stopped; the master key is the one from then.

Every token that is out, and every assertion that was signed before the next start, is refused from then on. What happened after the
backup is lost: what was stopped or withdrawn is in force again, and what was spent can be spent again. The command says what to look at.
Should it be cut off, no server takes the records until it was run again.

Examples:

  obolus restore obolus.backup
  obolus restore obolus.backup --records "$POSTGRES"
  obolus restore obolus.backup --sha256 "$HASH" --replace --yes`
}

// restored is what was done.
type restored struct {
	archive.Header
	archive.Sum
	Into   string        `json:"into"`
	Now    uint64        `json:"new_epoch"`
	Head   event         `json:"ledger_was_at"` // the last event of the backup
	Event  event         `json:"ledger_is_at"`  // the one that tells of it
	Lost   []audit.Event `json:"lost"`          // what the records that were replaced knew besides; null: nothing is known
	Passed time.Time     `json:"restored"`
}

// event is a place in the ledger.
type event struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// Run restores the records.
func (c *RestoreCommand) Run(ctx context.Context, stage Stage) error {
	cfg, err := recordsAt(stage, c.Config, config.Flag{Name: "--records", Path: "records", Value: c.Records})
	if err != nil {
		return err
	}
	done, err := c.verify(stage)
	if err != nil {
		return err
	}
	done.Into = config.StoreName(cfg.Records)
	records, err := hold(ctx, stage, cfg.Records)
	if err != nil {
		return err
	}
	err = c.put(ctx, stage, records, &done)
	if err = errors.Join(err, records.Close()); err != nil {
		return err
	}
	s := &Session{Stage: stage, json: c.JSON}
	return s.print(done, func(w io.Writer) { done.tell(w) })
}

// recordsAt loads the configuration with one of its stores given by a flag.
func recordsAt(stage Stage, file string, flag config.Flag) (config.Config, error) {
	return config.Load(config.Sources{File: file, Environ: stage.Environ, Flags: []config.Flag{flag}})
}

// hold opens records that nobody else may use meanwhile.
func hold(ctx context.Context, stage Stage, address string) (store.Durable, error) {
	records, err := stage.HoldRecords(ctx, address)
	if errors.Is(err, store.ErrLocked) {
		return nil, fmt.Errorf("somebody uses the records at %s: stop every server first: %w", config.StoreName(address), err)
	}
	if err != nil {
		return nil, fmt.Errorf("the store of records (%s): %w", config.StoreName(address), err)
	}
	return records, nil
}

// verify reads the file to its end.
func (c *RestoreCommand) verify(stage Stage) (done restored, err error) {
	file, err := c.open()
	if err != nil {
		return done, err
	}
	defer func() { _ = file.Close() }()
	m, records := stage.meter("Reading"), uint64(0)
	defer m.done()
	done.Header, done.Sum, err = archive.Verify(file, func(e store.Entry) {
		records++
		m.tell(records)
		if seq, hash, ok := audit.HeadIn(e.Record); ok {
			done.Head = event{seq, hash}
		}
	})
	if err != nil {
		return done, fmt.Errorf("%s: %w", c.File, err)
	}
	if c.SHA256 != "" && !strings.EqualFold(c.SHA256, done.SHA256) {
		return done, fmt.Errorf("%s is another backup: its SHA-256 is %s", c.File, done.SHA256)
	}
	return done, nil
}

// open opens the file, which is read more than once.
func (c *RestoreCommand) open() (*os.File, error) {
	file, err := os.Open(c.File)
	if err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no file: a backup is read to its end before any of it is used", c.File), err, file.Close())
	}
	return file, nil
}

// put puts the records where they belong. Until it is through, no server takes them.
func (c *RestoreCommand) put(ctx context.Context, stage Stage, to store.Durable, done *restored) (err error) {
	if done.Lost, err = c.room(ctx, to, done.Head); err != nil {
		return fmt.Errorf("%s: %w", done.Into, err)
	}
	for _, pass := range []struct {
		what string
		do   func(feed archive.Feed, progress func(uint64)) error
	}{
		{"Writing", func(feed archive.Feed, progress func(uint64)) error {
			return archive.Fill(ctx, to, done.Last, feed, progress)
		}},
		{"Comparing", func(feed archive.Feed, progress func(uint64)) error {
			_, err := archive.Same(ctx, to, feed, progress)
			return err
		}},
	} {
		if err := c.pass(stage, pass.what, pass.do); err != nil {
			return fmt.Errorf("%s: %w", done.Into, err)
		}
	}
	done.Now, done.Event, err = settle(ctx, stage, to, audit.Event{
		Kind: audit.KindRestore,
		Why: fmt.Sprintf("a backup of %s from %s with SHA-256 %s; the ledger had come to event %d, %s",
			done.Source, done.Taken.Format(time.RFC3339), done.SHA256, done.Head.Seq, done.Head.Hash),
	})
	done.Passed = stage.Now().UTC()
	return err
}

// pass goes through the file once more.
func (c *RestoreCommand) pass(stage Stage, what string, do func(feed archive.Feed, progress func(uint64)) error) error {
	file, err := c.open()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r, err := archive.NewReader(file)
	if err != nil {
		return err
	}
	m := stage.meter(what)
	defer m.done()
	return do(r.Next, m.tell)
}

// room says whether the records may be replaced, and finds out what of them the backup does not know.
func (c *RestoreCommand) room(ctx context.Context, to store.Durable, head event) ([]audit.Event, error) {
	err := archive.Empty(ctx, to)
	switch {
	case !errors.Is(err, archive.ErrNotEmpty):
		return nil, err
	case !c.Replace:
		return nil, fmt.Errorf("%w, and a backup goes into an empty store: name another one, or remove them with --replace --yes", err)
	case !c.Yes:
		return nil, usage("--replace removes all of them; take a backup of them too, and say --yes if that is what you want")
	}
	return lost(ctx, audit.NewLedger(to), head)
}

// lost are the decisions of people after an event; nil if the ledger is not the one that the event is of.
func lost(ctx context.Context, l *audit.Ledger, head event) ([]audit.Event, error) {
	if head.Seq > 0 {
		at, err := l.Events(ctx, audit.Filter{After: head.Seq - 1, Limit: 1})
		if err != nil || len(at) == 0 || at[0].Hash != head.Hash {
			return nil, err
		}
	}
	found := []audit.Event{}
	for {
		events, err := l.Events(ctx, audit.Filter{After: head.Seq, Limit: 1000})
		if err != nil || len(events) == 0 {
			return found, err
		}
		for _, e := range events {
			if decided(e) {
				found = append(found, e)
			}
		}
		head.Seq = events[len(events)-1].Seq
	}
}

// decided says whether an event is one that is to be done again when it was lost.
func decided(e audit.Event) bool {
	switch e.Kind {
	case audit.KindStop, audit.KindWithdraw, audit.KindRevoke, audit.KindKey, audit.KindRegistry, audit.KindSignal:
		return e.Allowed
	default:
		return false
	}
}

// settle is what makes a copy the records: a new epoch, an event that tells of it, and no mark any more.
func settle(ctx context.Context, stage Stage, records store.Durable, e audit.Event) (epoch uint64, at event, err error) {
	began, err := store.Supersede(ctx, records)
	if err != nil {
		return 0, at, err
	}
	e.Allowed, e.By, e.Subject, e.Remote = true, "operator", "records", "local"
	recorder := audit.NewRecorder(ctx, records, stage.Now)
	err = recorder.Record(ctx, e)
	recorder.Close()
	if err != nil {
		return 0, at, err
	}
	if at.Seq, at.Hash, err = audit.NewLedger(records).Head(ctx); err != nil {
		return 0, at, err
	}
	return began.Number, at, archive.Finish(ctx, records)
}

// shownLost is how much of what was lost is shown to a person.
const shownLost = 100

func (r *restored) tell(w io.Writer) {
	fmt.Fprintf(w, "%s has the %d records of %s, epoch %d.\n", r.Into, r.Records, clock(r.Taken), r.Epoch)
	fmt.Fprintf(w, "The ledger goes on after event %d (%s) with event %d, which tells of this.\n", r.Head.Seq, r.Head.Hash, r.Event.Seq)
	fmt.Fprintf(w, "Tokens that are out are refused. Start the servers with the master key of then.\n\n")
	fmt.Fprintf(w, "Lost is what happened from %s to %s (%s). Before the servers start, look through it:\n", clock(r.Taken), clock(r.Passed), span(r.Passed.Sub(r.Taken)))
	fmt.Fprintf(w, "  - grants withdrawn and agents, users or keys stopped since are in force again: stop them again\n")
	fmt.Fprintf(w, "  - budgets, and grants for one time, can be drawn again as far as they were drawn since\n")
	fmt.Fprintf(w, "  - a request with an Idempotency-Key that was carried out since is carried out again when it is repeated\n")
	fmt.Fprintf(w, "  - agents, clients, users and grants that are newer are not there\n\n")
	switch {
	case r.Lost == nil:
		fmt.Fprintf(w, "The last file that you made with obolus audit export has what was decided from %s on.\n", r.Taken.Format(time.RFC3339))
	case len(r.Lost) == 0:
		fmt.Fprintf(w, "The records that were replaced knew of no decision since.\n")
	default:
		fmt.Fprintf(w, "The records that were replaced knew of these decisions:\n")
	}
	for _, e := range r.Lost[:min(len(r.Lost), shownLost)] {
		fmt.Fprintln(w, printable(fmt.Sprintf("  %d  %s  %s", e.Seq, clock(e.At), story(e))))
	}
	if more := len(r.Lost) - shownLost; more > 0 {
		fmt.Fprintf(w, "  and %d more, which --json shows\n", more)
	}
}

func span(d time.Duration) string { return d.Round(time.Second).String() }
