package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"obolus/audit"
	"obolus/cmd/obolus/internal/config"
	"obolus/store"
	"obolus/store/archive"
)

// MigrateCommand is `obolus migrate`.
type MigrateCommand struct {
	From string `help:"Where the records are: bolt:PATH or postgres://…" placeholder:"STORE" required:""`
	To   string `help:"Where they shall be; it must be empty."           placeholder:"STORE" required:""`
	JSON bool   `help:"Print JSON for programs."                          name:"json"`
}

// Help teaches by example.
func (*MigrateCommand) Help() string {
	return `Copies all records from one store into another that is empty, compares both to the last byte, and begins a new epoch: tokens that are
out are refused, and agents get new ones. Everything else goes on as it was: agents, grants and what is left of their budgets, keys, the
ledger. The servers must be stopped; while it runs neither store lets one in. The master key stays the same.

Examples:

  obolus migrate --from bolt:obolus-data/records.db --to "$POSTGRES"
  obolus migrate --from "$POSTGRES" --to bolt:obolus-data/records.db --json`
}

// migrated is what was done.
type migrated struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Records uint64 `json:"records"`
	SHA256  string `json:"records_sha256"` // of them all, in both stores
	Epoch   uint64 `json:"new_epoch"`
	Event   event  `json:"ledger_is_at"`
}

// Run moves the records.
func (c *MigrateCommand) Run(ctx context.Context, stage Stage) (err error) {
	from, err := recordsAt(stage, "", config.Flag{Name: "--from", Path: "records", Value: c.From})
	if err != nil {
		return err
	}
	to, err := recordsAt(stage, "", config.Flag{Name: "--to", Path: "records", Value: c.To})
	if err != nil {
		return err
	}
	if from.Records == to.Records {
		return usage("--from and --to are the same")
	}
	if err := there(from.Records); err != nil {
		return err
	}
	source, err := hold(ctx, stage, from.Records)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	destination, err := hold(ctx, stage, to.Records)
	if err != nil {
		return err
	}
	done := migrated{From: config.StoreName(from.Records), To: config.StoreName(to.Records)}
	err = c.move(ctx, stage, source, destination, &done)
	if err = errors.Join(err, destination.Close()); err != nil {
		return err
	}
	s := &Session{Stage: stage, json: c.JSON}
	return s.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%s has the %d records of %s; all are the same in both (SHA-256 %s).\n", done.To, done.Records, done.From, done.SHA256)
		fmt.Fprintf(w, "The ledger goes on with event %d, which tells of this. Tokens that are out are refused.\n", done.Event.Seq)
		fmt.Fprintf(w, "Start the servers with records: %s and the same master key. %s is as it was: let no server take it any more, for it\n", done.To, done.From)
		fmt.Fprintf(w, "would not hear of what is withdrawn from now on.\n")
	})
}

func (c *MigrateCommand) move(ctx context.Context, stage Stage, from, to store.Durable, done *migrated) error {
	if err := archive.Check(ctx, from); err != nil {
		return fmt.Errorf("%s: %w", done.From, err)
	}
	err := archive.Empty(ctx, to)
	if errors.Is(err, archive.ErrNotEmpty) {
		err = fmt.Errorf("%w: records are moved into an empty store", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", done.To, err)
	}
	err = from.Snapshot(ctx, func(s store.Snapshot) error {
		first, err := s.Page(store.Key{}, 1)
		if err != nil {
			return err
		}
		if len(first) == 0 {
			return fmt.Errorf("%s: there are no records", done.From)
		}
		m := stage.meter("Copying")
		err = archive.Fill(ctx, to, s.Last, archive.Entries(s), m.tell)
		m.done()
		if err != nil {
			return err
		}
		m = stage.meter("Comparing")
		defer m.done()
		sum, err := archive.Same(ctx, to, archive.Entries(s), m.tell)
		done.Records, done.SHA256 = sum.Records, sum.SHA256
		return err
	})
	if err != nil {
		return err
	}
	seq, hash, err := audit.NewLedger(to).Head(ctx)
	if err != nil {
		return err
	}
	done.Epoch, done.Event, err = settle(ctx, stage, to, audit.Event{
		Kind: audit.KindMigrate,
		Why: fmt.Sprintf("from %s to %s at %s; %d records with SHA-256 %s; the ledger had come to event %d, %s",
			done.From, done.To, stage.Now().UTC().Format(time.RFC3339), done.Records, done.SHA256, seq, hash),
	})
	return err
}
