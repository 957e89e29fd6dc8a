package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"obolus/store"
)

// Origin is what a file tells of where it comes from.
type Origin struct {
	Program string
	Source  string
}

// Write writes everything that is in a store at one moment. Progress, which may be nil, is told how many records there were so
// far. What was written is only good if there is no error.
func Write(ctx context.Context, w io.Writer, from store.Durable, o Origin, progress func(records uint64)) (Header, Sum, error) {
	if err := Check(ctx, from); err != nil {
		return Header{}, Sum{}, err
	}
	h := Header{Format: format, Program: o.Program, Source: o.Source}
	var s Sum
	err := from.Snapshot(ctx, func(snap store.Snapshot) error {
		epoch, err := store.EpochIn(snap)
		if err != nil {
			return err
		}
		h.Taken, h.Epoch, h.Last = snap.Now.UTC(), epoch.Number, snap.Last
		s, err = write(w, h, Entries(snap), progress)
		return err
	})
	return h, s, err
}

// Entries feeds what a snapshot shows.
func Entries(s store.Snapshot) Feed {
	var page []store.Entry
	after := store.Key{}
	return func() (store.Entry, error) {
		if len(page) == 0 {
			var err error
			if page, err = s.Page(after, 1000); err != nil {
				return store.Entry{}, err
			}
			if len(page) == 0 {
				return store.Entry{}, io.EOF
			}
			after = page[len(page)-1].Key
		}
		next := page[0]
		page = page[1:]
		return next, nil
	}
}

// writer hashes and counts what goes through it.
type writer struct {
	to    *bufio.Writer
	hash  hash.Hash
	bytes int64
}

func (w *writer) write(parts ...[]byte) error {
	for _, p := range parts {
		_, _ = w.hash.Write(p) // it never fails
		w.bytes += int64(len(p))
		if _, err := w.to.Write(p); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
	}
	return nil
}

func write(to io.Writer, h Header, feed Feed, progress func(uint64)) (Sum, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return Sum{}, err
	}
	w := &writer{to: bufio.NewWriterSize(to, 1<<20), hash: sha256.New()}
	length := binary.BigEndian.AppendUint32([]byte{markHeader}, uint32(len(head))) //nolint:gosec // it is short
	if err := w.write([]byte(magic), length, head); err != nil {
		return Sum{}, err
	}
	records := uint64(0)
	for {
		e, err := feed()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = w.record(e)
		}
		if err != nil {
			return Sum{}, err
		}
		records++
		tell(progress, records)
	}
	if err := w.write(binary.BigEndian.AppendUint64([]byte{markTrailer}, records)); err != nil {
		return Sum{}, err
	}
	s := sum(records, w.bytes+sha256.Size, [sha256.Size]byte(w.hash.Sum(nil)))
	if err := w.write(w.hash.Sum(nil)); err != nil {
		return Sum{}, err
	}
	if err := w.to.Flush(); err != nil {
		return Sum{}, fmt.Errorf("write the backup: %w", err)
	}
	return s, nil
}

func (w *writer) record(e store.Entry) error {
	if err := e.Validate(); err != nil {
		return err
	}
	head := make([]byte, 0, recordLength+len(e.Partition)+len(e.Name))
	head = append(head, markRecord, 0)
	if e.Listed {
		head[1] = 1
	}
	head = binary.BigEndian.AppendUint64(head, e.Version)
	head = binary.BigEndian.AppendUint64(head, expires(e))
	head = binary.BigEndian.AppendUint16(head, uint16(len(e.Partition))) //nolint:gosec // the contract bounds it
	head = binary.BigEndian.AppendUint16(head, uint16(len(e.Name)))      //nolint:gosec // and this
	head = binary.BigEndian.AppendUint32(head, uint32(len(e.Value)))     //nolint:gosec // and this
	head = append(append(head, e.Partition...), e.Name...)
	return w.write(head, e.Value)
}

// expires is the moment in milliseconds; zero is never.
func expires(e store.Entry) uint64 {
	if e.Expires.IsZero() {
		return 0
	}
	return uint64(e.Expires.UnixMilli())
}

// tell tells of progress now and then.
func tell(progress func(uint64), records uint64) {
	if progress != nil && records%1000 == 0 {
		progress(records)
	}
}
