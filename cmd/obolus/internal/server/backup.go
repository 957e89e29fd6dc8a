package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"obolus/admin"
	"obolus/audit"
	"obolus/store/archive"
)

// backup copies the records into a file in the data folder, so that however slow the reader is, no store has to keep what it
// replaces meanwhile. The copy has the event that tells of it.
func (p *parts) backup(ctx context.Context, remote string) (*admin.Copy, error) {
	if !p.copying.TryLock() {
		return nil, admin.ErrBusy
	}
	s, err := p.spool(ctx, remote)
	if err != nil {
		p.copying.Unlock()
		return nil, err
	}
	return &admin.Copy{ReadCloser: s, Bytes: s.bytes}, nil
}

func (p *parts) spool(ctx context.Context, remote string) (*spooled, error) {
	err := p.recorder.Record(ctx, audit.Event{Kind: audit.KindBackup, Allowed: true, By: "operator", Subject: "records", Remote: remote})
	if err == nil {
		err = os.MkdirAll(p.cfg.Data, 0o700)
	}
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(p.cfg.Data, ".backup-*")
	if err != nil {
		return nil, fmt.Errorf("make room for the backup: %w", err)
	}
	s := &spooled{File: file, done: p.copying.Unlock, named: os.Remove(file.Name()) != nil}
	kind, _, _ := strings.Cut(p.cfg.Records, ":")
	_, sum, err := archive.Write(ctx, file, p.stores.records, archive.Origin{Program: p.opts.Version, Source: kind}, nil)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, s.let())
	}
	s.bytes = sum.Bytes
	return s, nil
}

// spooled is a file that is read once.
type spooled struct {
	*os.File

	bytes int64
	named bool // the system did not let the name go while the file is open
	done  func()
}

// Close gives its room back, and lets the next one be made.
func (s *spooled) Close() error {
	defer s.done()
	return s.let()
}

func (s *spooled) let() error {
	err := s.File.Close()
	if s.named {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}
