package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// The mark is a small file beside the records. It has the fence and a version that the records had reached, written
// after they had, so records that are behind their mark were rolled back: an older copy was put in their place, or the disk
// lost what it had confirmed. Then, and when the mark is missing or of other records, the fence is renewed.
//
// Noticed: an older copy of the file put back where the mark still is; a copy put where there is no mark. Not noticed: a
// copy put back together with its own mark, and one that lacks only what was written in the last second before a crash.
const (
	markSuffix = ".mark"
	markFormat = "%-40s %016x\n"
	markEvery  = time.Second
)

type mark struct {
	file    *os.File
	fence   string
	version uint64
	kept    time.Time
}

func openMark(path string) (*mark, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // beside the file that the operator named
	if err != nil {
		return nil, fmt.Errorf("open the mark of the records: %w", err)
	}
	m := &mark{file: file}
	text, err := io.ReadAll(io.LimitReader(file, 128))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the mark of the records: %w", err), file.Close())
	}
	if _, err := fmt.Sscanf(string(text), "%s %x\n", &m.fence, &m.version); err != nil {
		m.fence = "" // no mark
	}
	return m, nil
}

// knows says whether the records are those that were marked, and not behind.
func (m *mark) knows(fence string, version uint64) bool {
	return m.fence == fence && m.version <= version
}

// keep writes the mark where the next start finds it, crash or not.
func (m *mark) keep(fence string, version uint64) error {
	m.fence, m.version = fence, version
	return errors.Join(m.write(), m.file.Sync())
}

// advance marks a version that was reached, now and then.
func (m *mark) advance(version uint64, now time.Time) {
	if version <= m.version {
		return
	}
	m.version = version
	if now.Before(m.kept.Add(markEvery)) && !now.Before(m.kept) {
		return
	}
	m.kept = now
	_ = m.write() // it is behind then, which only makes it notice less
}

func (m *mark) write() error {
	_, err := fmt.Fprintf(io.NewOffsetWriter(m.file, 0), markFormat, m.fence, m.version)
	return err
}

func (m *mark) close() error { return errors.Join(m.write(), m.file.Close()) }
