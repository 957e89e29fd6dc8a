package bolt

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"obolus/store"
)

// lockWait is how long a process that holds the file may take to let go of it.
const lockWait = 100 * time.Millisecond

// format is the layout of the buckets; another one is refused.
const format = "1"

// The buckets. Listed and other records lie apart, so that a list meets nothing else; deaths has the records that expire,
// the next one first. The sequence of about is the highest version ever given.
const (
	bucketAbout  = "about"
	bucketListed = "listed"
	bucketOther  = "other"
	bucketDeaths = "deaths"

	aboutFormat = "format"
	aboutFence  = "fence"
)

var errEmpty = errors.New("the file is empty, and it was not once: put a backup in its place, or remove it to begin anew")

// damage is what was found wrong inside the file.
type damage struct{ found any }

// Error says that the file cannot be used.
func (d *damage) Error() string {
	return fmt.Sprintf("the file is damaged or cut short: put a backup in its place (%v)", d.found)
}

// intact runs what touches the pages of the file, and turns into an error what the library panics with when they are
// not what they should be: a failed assertion, or a fault where the file ends too early.
func intact(touch func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if found := recover(); found != nil {
			err = &damage{found}
		}
	}()
	return touch()
}

func openFile(path string) (*bbolt.DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for the records: %w", err)
	}
	if err := plausible(path); err != nil {
		return nil, failed(path, err)
	}
	db, err := openDB(path, bbolt.Options{})
	if err != nil {
		return nil, failed(path, err)
	}
	return db, syncFolder(filepath.Dir(path))
}

func openDB(path string, o bbolt.Options) (db *bbolt.DB, err error) {
	o.Timeout, o.FreelistType, o.NoStatistics = lockWait, bbolt.FreelistMapType, true
	err = intact(func() error {
		db, err = bbolt.Open(path, 0o600, &o)
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		err = store.ErrLocked
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		err = &damage{err}
	}
	return db, err
}

// failed names the file once.
func failed(path string, err error) error {
	if named, ok := errors.AsType[*fs.PathError](err); ok {
		err = named.Err
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// plausible refuses what is no file, one that was emptied, which would otherwise be taken for a new one, and one that is
// shorter than it says.
func plausible(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("that is not a file")
	}
	if info.Size() > 0 {
		return whole(path, info.Size())
	}
	if _, err := os.Stat(path + markSuffix); err == nil {
		return errEmpty
	}
	return nil
}

// whole looks into the file without reading the list of free pages, for which opening it to write may reach too far.
func whole(path string, size int64) error {
	db, err := openDB(path, bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	err = intact(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if size < tx.Size() {
				return &damage{fmt.Sprintf("it has %d bytes of %d", size, tx.Size())}
			}
			return nil
		})
	})
	return errors.Join(err, closeFile(db))
}

// syncFolder makes the name of a new file as durable as what is in it.
func syncFolder(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the folder that the operator named
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func closeFile(db *bbolt.DB) error {
	return intact(db.Close)
}

// prepare returns the fence and the highest version of a file, making both if it is new.
func prepare(db *bbolt.DB) (fence string, last uint64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		about := tx.Bucket([]byte(bucketAbout))
		if about == nil {
			return nil
		}
		if f := string(about.Get([]byte(aboutFormat))); f != format {
			return fmt.Errorf("its format is %q, and this program knows %q: use the program that wrote it", f, format)
		}
		fence, last = string(about.Get([]byte(aboutFence))), about.Sequence()
		return nil
	})
	if err != nil || fence != "" {
		return fence, last, err
	}
	fence = rand.Text()
	return fence, 0, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketAbout, bucketListed, bucketOther, bucketDeaths} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		about := tx.Bucket([]byte(bucketAbout))
		return errors.Join(about.Put([]byte(aboutFormat), []byte(format)), about.Put([]byte(aboutFence), []byte(fence)))
	})
}

// renew gives the file another fence.
func renew(db *bbolt.DB) (fence string, err error) {
	fence = rand.Text()
	return fence, db.Update(func(tx *bbolt.Tx) error { return putFence(tx, fence) })
}

func putFence(tx *bbolt.Tx, fence string) error {
	return tx.Bucket([]byte(bucketAbout)).Put([]byte(aboutFence), []byte(fence))
}

func number(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
