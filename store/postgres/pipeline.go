package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"obolus/store"
	"obolus/store/internal/turns"
)

// pipeline is one or more batches on their way, and what came back for them.
type pipeline struct {
	words words
	taken []*turns.Turn

	outcomes [][]outcome // for each batch
	records  []raw       // for all of them
	micros   int64
	fence    string
}

// What a commit came to.
const (
	stateRefused = iota
	stateApplied
	stateLate
	stateOverflow
)

// outcome is what the function apply returns.
type outcome struct {
	state       int16
	seen, wrote columns
}

type columns struct {
	versions, expires []int64
	values            [][]byte
}

// raw is a record as a row has it.
type raw struct {
	version, expires int64
	value            []byte
}

func (e *Engine) pipeline(taken []*turns.Turn) *pipeline {
	return &pipeline{words: e.words, taken: taken}
}

// send has everything carried out in one round trip and one transaction: first the locks, then the commits, then the reads.
func (p *pipeline) send(ctx context.Context, c *pgx.Conn) error {
	b := &pgx.Batch{}
	p.outcomes, p.records = make([][]outcome, len(p.taken)), nil
	if held := p.stripes(); len(held) > 0 {
		b.Queue(p.words.hold, held)
	}
	fenced := false
	for i, t := range p.taken {
		fenced = fenced || t.Batch.Fence != ""
		p.outcomes[i] = make([]outcome, len(t.Batch.Commits))
		for j, commit := range t.Batch.Commits {
			b.Queue(p.words.apply, p.words.args(commit)...).QueryRow(p.outcomes[i][j].scan)
		}
	}
	if partitions, names := p.reads(); len(names) > 0 {
		b.Queue(p.words.read, partitions, names).Query(p.scan)
	}
	b.Queue(p.words.clock, fenced).QueryRow(func(row pgx.Row) error { return row.Scan(&p.micros, &p.fence) })
	return c.SendBatch(ctx, b).Close()
}

// stripes are the locks to hold, in their order.
func (p *pipeline) stripes() []int32 {
	var held []int32
	for _, t := range p.taken {
		for _, c := range t.Batch.Commits {
			held = append(held, p.words.stripe(c.Partition))
		}
	}
	slices.Sort(held)
	return slices.Compact(held)
}

func (p *pipeline) reads() (partitions, names []string) {
	for _, t := range p.taken {
		for _, k := range t.Batch.Reads {
			partitions, names = append(partitions, k.Partition), append(names, k.Name)
		}
	}
	return partitions, names
}

func (p *pipeline) scan(rows pgx.Rows) error {
	for rows.Next() {
		var r raw
		if err := rows.Scan(&r.version, &r.expires, &r.value); err != nil {
			return err
		}
		p.records = append(p.records, r)
	}
	return rows.Err()
}

func (o *outcome) scan(row pgx.Row) error {
	*o = outcome{}
	return row.Scan(&o.state, &o.seen.versions, &o.seen.expires, &o.seen.values, &o.wrote.versions, &o.wrote.expires, &o.wrote.values)
}

// args are those of the function apply. What no write of the commit has is left out, and null then.
func (w words) args(c store.Commit) []any {
	var limit *int64
	if !c.NotAfter.IsZero() {
		ms := c.NotAfter.UnixMilli()
		limit = &ms
	}
	condNames, condKinds, numbers := make([]string, len(c.If)), make([]int16, len(c.If)), make([]int64, len(c.If))
	for i, cond := range c.If {
		condNames[i], condKinds[i], numbers[i] = cond.Name, int16(cond.Is), cond.Count
		if cond.Is == store.AtVersion {
			numbers[i] = int64(min(cond.Version, math.MaxInt64))
		}
	}
	n := len(c.Writes)
	names, kinds, values, lists := make([]string, n), make([]int16, n), make([][]byte, n), make([]bool, n)
	var adds, ttls, fixed []int64
	for i, write := range c.Writes {
		names[i], lists[i] = write.Name, write.Listed
		switch {
		case write.Delete:
			kinds[i] = kindDelete
		case write.Add != 0:
			kinds[i] = kindAdd
			adds = place(adds, i, n, write.Add)
		default:
			values[i] = some(write.Value)
			fixed = place(fixed, i, n, int64(write.Version)) //nolint:gosec // it is below 1<<53
		}
		ttls = place(ttls, i, n, write.TTL.Milliseconds())
	}
	return []any{
		c.Partition, w.stripe(c.Partition) % ears, w.channel, limit,
		condNames, condKinds, numbers, names, kinds, values, adds, ttls, fixed, lists,
	}
}

// The kinds of writes.
const (
	kindDelete = 1
	kindAdd    = 2
)

// place puts a number into a column of n, which comes to be with the first that is not zero.
func place(column []int64, i, n int, number int64) []int64 {
	if number == 0 {
		return column
	}
	if column == nil {
		column = make([]int64, n)
	}
	column[i] = number
	return column
}

func some(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// result is the answer to one of the batches.
func (p *pipeline) result(which int) (store.Results, error) {
	b := p.taken[which].Batch
	if b.Fence != "" && b.Fence != p.fence {
		return store.Results{}, store.ErrFence
	}
	res := store.Results{
		Outcomes: make([]store.Outcome, len(b.Commits)),
		Records:  make([]store.Record, len(b.Reads)),
		Now:      time.UnixMicro(p.micros).UTC(),
	}
	first := 0
	for _, t := range p.taken[:which] {
		first += len(t.Batch.Reads)
	}
	if len(p.records) < first+len(b.Reads) {
		return store.Results{}, errAnswer
	}
	for i, k := range b.Reads {
		res.Records[i] = p.records[first+i].record(k)
	}
	for i, c := range b.Commits {
		var err error
		if res.Outcomes[i], err = p.outcomes[which][i].of(c); err != nil {
			return store.Results{}, err
		}
	}
	return res, nil
}

var errAnswer = fmt.Errorf("%w: postgres: an answer is of another kind", store.ErrUnavailable)

func (o outcome) of(c store.Commit) (store.Outcome, error) {
	out := store.Outcome{Applied: o.state == stateApplied, Late: o.state == stateLate}
	if o.state == stateOverflow {
		return out, fmt.Errorf("%w: a counter leaves the range of int64", store.ErrInvalid)
	}
	if !o.seen.have(len(c.If)) || out.Applied && !o.wrote.have(len(c.Writes)) {
		return out, errAnswer
	}
	out.Seen = make([]store.Record, len(c.If))
	for i, cond := range c.If {
		out.Seen[i] = o.seen.at(i).record(store.Key{Partition: c.Partition, Name: cond.Name})
	}
	if !out.Applied {
		return out, nil
	}
	out.Wrote = make([]store.Record, len(c.Writes))
	for i, w := range c.Writes {
		r := o.wrote.at(i)
		if r.value == nil && !w.Delete {
			r.value = w.Value // it is as it was sent
		}
		out.Wrote[i] = r.record(store.Key{Partition: c.Partition, Name: w.Name})
	}
	return out, nil
}

func (c columns) have(n int) bool {
	return len(c.versions) == n && len(c.expires) == n && len(c.values) == n
}

func (c columns) at(i int) raw { return raw{c.versions[i], c.expires[i], c.values[i]} }

func (r raw) record(k store.Key) store.Record {
	rec := store.Record{Key: k, Value: r.value, Version: uint64(r.version)} //nolint:gosec // it counts up from two
	if r.expires != 0 {
		rec.Expires = time.UnixMilli(r.expires).UTC()
	}
	return rec
}
