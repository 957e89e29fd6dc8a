package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"obolus/admin"
	"obolus/cmd/obolus/internal/config"
	"obolus/store"
	"obolus/store/archive"
)

// BackupCommand is `obolus backup`.
type BackupCommand struct {
	Connection

	File  string `arg:"" help:"Where to write it; - is the standard output."`
	Force bool   `help:"Write over the file if there is one."`
}

// Help teaches by example.
func (*BackupCommand) Help() string {
	return `Writes all records, as they are at one moment, into one file. A server that runs is asked for them and serves on; when none does, the
records are opened here. The file tells by its hash whether it was cut short or altered. What is sealed in it stays sealed: the master key is
not in it and is kept elsewhere.

Examples:

  obolus backup obolus.backup
  obolus backup --server https://auth.example.com --token-file operator.token obolus.backup
  obolus backup - | zstd > obolus.backup.zst
  obolus backup --force --json obolus.backup`
}

// Run writes the backup.
func (c *BackupCommand) Run(ctx context.Context, s *Session) error {
	if c.File == "-" {
		made, err := c.write(ctx, s, s.Out)
		if err != nil || !s.json {
			return err
		}
		s.Out = s.Err
		return c.tell(s, made)
	}
	var made backup
	err := c.file(func(w io.Writer) (err error) {
		made, err = c.write(ctx, s, w)
		return err
	})
	if err != nil {
		return err
	}
	return c.tell(s, made)
}

// backup is what was written.
type backup struct {
	File string `json:"file"`
	archive.Header
	archive.Sum
}

func (c *BackupCommand) tell(s *Session, made backup) error {
	return s.print(made, func(w io.Writer) {
		fmt.Fprintf(w, "%s has the %d records of %s, epoch %d.\n", c.File, made.Records, clock(made.Taken), made.Epoch)
		fmt.Fprintf(w, "SHA-256 %s\n", made.SHA256)
		fmt.Fprintln(w, "It is of no use without the master key, which is not in it.")
	})
}

// write lets a server write the backup or, when none runs, writes it from the records themselves.
func (c *BackupCommand) write(ctx context.Context, s *Session, w io.Writer) (backup, error) {
	made := backup{File: c.File}
	if !c.Offline {
		var err error
		made.Header, made.Sum, err = c.ask(ctx, s, w)
		if !errors.Is(err, admin.ErrNoServer) || c.Server != "" {
			return made, err
		}
	}
	if err := there(s.config.Records); err != nil {
		return made, err
	}
	records, err := s.ShareRecords(ctx, s.config.Records)
	if err != nil {
		return made, s.held(err)
	}
	m := s.meter("Copying")
	kind, _, _ := strings.Cut(s.config.Records, ":")
	made.Header, made.Sum, err = archive.Write(ctx, w, records, archive.Origin{Program: s.Version, Source: kind}, m.tell)
	m.done()
	return made, errors.Join(err, records.Close())
}

// ask copies what a server sends, and looks whether all of it came.
func (c *BackupCommand) ask(ctx context.Context, s *Session, w io.Writer) (archive.Header, archive.Sum, error) {
	api := &admin.Client{Server: s.api.Server, Token: s.api.Token, HTTP: &http.Client{Transport: c.network()}}
	sent, err := api.Stream(ctx, admin.Call{Method: http.MethodGet, Path: "/backup"})
	if err != nil {
		return archive.Header{}, archive.Sum{}, err
	}
	defer func() { _ = sent.Close() }()
	m, records := s.meter("Copying"), uint64(0)
	defer m.done()
	return archive.Verify(io.TeeReader(sent, w), func(store.Entry) {
		records++
		m.tell(records)
	})
}

// there refuses a file of records that is not there, which opening it would make.
func there(address string) error {
	if file, ok := strings.CutPrefix(address, "bolt:"); ok {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the store of records (%s): there is no such file", address)
		}
	}
	return nil
}

// held tells why records cannot be opened that somebody else has.
func (s *Session) held(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("the records are held by a server that does not answer at %s (--server says where it is): %w", s.api.Server, err)
	}
	return fmt.Errorf("the store of records (%s): %w", config.StoreName(s.config.Records), err)
}

// file writes a file under another name, and gives it its own when all of it is on disk.
func (c *BackupCommand) file(write func(io.Writer) error) (err error) {
	if err := c.free(); err != nil {
		return err
	}
	name := c.File + ".tmp"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the operator says which file
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = c.free() // somebody may have been quicker
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	if err := os.Rename(name, c.File); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	dir, err := os.Open(filepath.Dir(c.File))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// free says whether the file may be written.
func (c *BackupCommand) free() error {
	_, err := os.Lstat(c.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) || c.Force:
		return nil
	case err == nil:
		return fmt.Errorf("%s is there already; --force writes over it", c.File)
	default:
		return err
	}
}
