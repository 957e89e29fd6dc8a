package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"obolus/cmd/obolus/internal/config"
	"obolus/store"
	"obolus/store/archive"
	"obolus/store/bolt"
	"obolus/store/memory"
	"obolus/store/postgres"
	"obolus/store/redis"
)

// stores are what everything is remembered in.
type stores struct {
	records store.Durable
	engine  store.Engine // below live
	live    *store.Live
	mirror  *store.Mirror
}

// openStores opens both stores and puts the live one under its epoch.
func openStores(ctx context.Context, cfg config.Config, o Options) (*stores, error) {
	records, err := openRecords(ctx, cfg.Records, o)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("the store of records (%s): %w; `data` in the configuration, or --data, says another folder", config.StoreName(cfg.Records), err)
	}
	if err != nil {
		return nil, fmt.Errorf("the store of records (%s): %w", config.StoreName(cfg.Records), err)
	}
	if err := archive.Check(ctx, records); err != nil {
		return nil, errors.Join(fmt.Errorf("the store of records (%s): %w", config.StoreName(cfg.Records), err), records.Close())
	}
	engine, err := openLive(ctx, cfg.Live, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the live store (%s): %w", config.StoreName(cfg.Live), err), records.Close())
	}
	live, err := store.OpenLive(ctx, engine, records)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the live store (%s): %w", config.StoreName(cfg.Live), err), engine.Close(), records.Close())
	}
	return &stores{records: records, engine: engine, live: live, mirror: store.NewMirror(records, live)}, nil
}

// ShareRecords opens the store of records at an address beside others who have it open, where the store lets them.
func ShareRecords(ctx context.Context, address string) (store.Durable, error) {
	return openRecords(ctx, address, Options{}.filled())
}

// HoldRecords opens the store of records at an address and keeps all others out.
func HoldRecords(ctx context.Context, address string) (store.Durable, error) {
	return openRecords(ctx, address, Options{alone: true}.filled())
}

func openRecords(ctx context.Context, address string, o Options) (store.Durable, error) {
	file, ok := strings.CutPrefix(address, "bolt:")
	if !ok {
		e, err := postgres.Open(ctx, address, postgres.Options{Alone: o.alone})
		if err != nil {
			return nil, err
		}
		for _, w := range e.Warnings() {
			o.Log.WarnContext(ctx, "the database is weak", "sentence", w)
		}
		return e, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return bolt.Open(file, bolt.Options{Now: o.Now})
}

func openLive(ctx context.Context, address string, o Options) (store.Engine, error) {
	if address == "memory:" {
		return memory.New(o.Now), nil
	}
	e, err := redis.Open(ctx, address, redis.Options{})
	if err != nil {
		return nil, err
	}
	for _, w := range e.Warnings() {
		o.Log.WarnContext(ctx, "the live store is weak", "sentence", w)
	}
	return e, nil
}

// Close lets go of both.
func (s *stores) Close() error { return errors.Join(s.live.Close(), s.records.Close()) }

// answer says whether both stores answer, by asking them.
func (s *stores) answer(ctx context.Context) error {
	nothing := store.Key{Partition: "ready", Name: "ready"}
	if _, err := store.Read(ctx, s.records, nothing); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if _, err := store.Read(ctx, s.live, nothing); err != nil {
		return fmt.Errorf("live: %w", err)
	}
	return nil
}
