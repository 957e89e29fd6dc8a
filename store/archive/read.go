package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"obolus/oauth/strict"
	"obolus/store"
)

// Reader reads a file. What it gives is only good once Next has said io.EOF, as the hash is at the end: see Verify.
type Reader struct {
	from    *bufio.Reader
	hash    hash.Hash
	bytes   int64
	header  Header
	records uint64
	last    store.Key
	sum     Sum
}

// NewReader reads as far as the header.
func NewReader(r io.Reader) (*Reader, error) {
	a := &Reader{from: bufio.NewReaderSize(r, 1<<20), hash: sha256.New()}
	start, err := a.from.Peek(len(magic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unread(err)
	}
	if string(start) != magic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	if _, err := a.take(len(magic)); err != nil {
		return nil, err
	}
	head, err := a.take(headLength)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] != markHeader || length > maxHeader {
		return nil, damaged("it has no header")
	}
	text, err := a.take(int(length))
	if err != nil {
		return nil, err
	}
	a.header, err = header(text)
	return a, err
}

// header reads a header strictly, but for what another version may have put there.
func header(text []byte) (Header, error) {
	var of struct {
		Format int `json:"format"`
	}
	if strict.Check(text, strict.Limits{Depth: 3}) != nil || json.Unmarshal(text, &of) != nil {
		return Header{}, damaged("its header cannot be read")
	}
	if of.Format != format {
		return Header{}, fmt.Errorf("%w: its format is %d, and this program knows %d", ErrFormat, of.Format, format)
	}
	var h Header
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if dec.Decode(&h) != nil || h.Last >= 1<<53 {
		return Header{}, damaged("its header cannot be read")
	}
	return h, nil
}

// Sum is that of the whole file, once Next has said io.EOF.
func (a *Reader) Sum() Sum { return a.sum }

// Next gives the next record; io.EOF says that the file has come to its end and is whole.
func (a *Reader) Next() (store.Entry, error) {
	if a.sum.SHA256 != "" {
		return store.Entry{}, io.EOF
	}
	kind, err := a.from.Peek(1)
	if err != nil {
		return store.Entry{}, unread(err)
	}
	switch kind[0] {
	case markRecord:
		return a.record()
	case markTrailer:
		return store.Entry{}, a.trailer()
	default:
		return store.Entry{}, damaged("after %d records comes what is none", a.records)
	}
}

func (a *Reader) record() (store.Entry, error) {
	head, err := a.take(recordLength)
	if err != nil {
		return store.Entry{}, err
	}
	version, ms := binary.BigEndian.Uint64(head[2:]), binary.BigEndian.Uint64(head[10:])
	p, n, v := int(binary.BigEndian.Uint16(head[18:])), int(binary.BigEndian.Uint16(head[20:])), int(binary.BigEndian.Uint32(head[22:]))
	if head[1] > 1 || ms > 1<<62 || p > store.MaxKey || n > store.MaxKey || v > store.MaxValue {
		return store.Entry{}, damaged("record %d is none", a.records+1)
	}
	body, err := a.take(p + n + v)
	if err != nil {
		return store.Entry{}, err
	}
	e := store.Entry{Listed: head[1] == 1, Record: store.Record{
		Key: store.Key{Partition: string(body[:p]), Name: string(body[p : p+n])}, Value: body[p+n:], Version: version,
	}}
	if ms != 0 {
		e.Expires = time.UnixMilli(int64(ms)).UTC()
	}
	if e.Validate() != nil || e.Compare(a.last) <= 0 || version > a.header.Last {
		return store.Entry{}, damaged("record %d is none", a.records+1)
	}
	a.last = e.Key
	a.records++
	return e, nil
}

// trailer compares the count and the hash, and sees to it that nothing follows. It returns io.EOF when all is well.
func (a *Reader) trailer() error {
	head, err := a.take(countLength)
	if err != nil {
		return err
	}
	if count := binary.BigEndian.Uint64(head[1:]); count != a.records {
		return damaged("it has %d records and says that there are %d", a.records, count)
	}
	found := [sha256.Size]byte(a.hash.Sum(nil))
	told, err := a.take(sha256.Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(told, found[:]) {
		return damaged("its SHA-256 is not the one that it ends with: it was altered")
	}
	switch _, err := a.from.Peek(1); {
	case err == nil:
		return damaged("something follows after its end")
	case !errors.Is(err, io.EOF):
		return unread(err)
	}
	a.sum = sum(a.records, a.bytes, found)
	return io.EOF
}

// take reads and hashes so many bytes.
func (a *Reader) take(n int) ([]byte, error) {
	data := make([]byte, n)
	if _, err := io.ReadFull(a.from, data); err != nil {
		return nil, unread(err)
	}
	_, _ = a.hash.Write(data) // it never fails
	a.bytes += int64(n)
	return data, nil
}

func unread(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends too early: it was cut short")
	}
	return fmt.Errorf("read the backup: %w", err)
}

// Verify reads a whole file. Each, which may be nil, is told every record before it is known whether the file is whole.
func Verify(r io.Reader, each func(store.Entry)) (Header, Sum, error) {
	a, err := NewReader(r)
	if err != nil {
		return Header{}, Sum{}, err
	}
	for {
		e, err := a.Next()
		if errors.Is(err, io.EOF) {
			return a.header, a.sum, nil
		}
		if err != nil {
			return a.header, Sum{}, err
		}
		if each != nil {
			each(e)
		}
	}
}
