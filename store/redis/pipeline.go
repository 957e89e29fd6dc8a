package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

// pipeline is a batch on its way: one command for each commit, one for all reads or, in a Cluster, where keys are in many places and may
// be on their way between two, for each of them, and what closes it.
type pipeline struct {
	pipe    redis.Pipeliner
	commits []once
	reads   []*redis.Cmd
	all     bool // there is one command for all reads
	known   *known
	checks  []once // one for each node that a fenced batch touches
	clock   *redis.Cmd
}

// once is a command that must never be sent twice, however it failed.
type once struct{ *redis.Cmd }

// NoRetry keeps the cluster client from repeating it.
func (once) NoRetry() bool { return true }

// What the commit script answers first.
const (
	stateRefused = iota
	stateApplied
	stateLate
	stateOverflow
)

func (e *Engine) pipeline(ctx context.Context, b store.Batch, known *known) *pipeline {
	p := &pipeline{pipe: e.client.Pipeline(), known: known}
	bases := make([]string, 0, len(b.Commits)+len(b.Reads))
	for _, c := range b.Commits {
		base := e.base(c.Partition)
		p.commits = append(p.commits, once{redis.NewCmd(ctx, commitArgs(base, c)...)})
		bases = append(bases, base)
	}
	if p.all = !e.cluster && len(b.Reads) > 1; p.all {
		p.reads = []*redis.Cmd{redis.NewCmd(ctx, e.readArgs(b.Reads)...)}
	} else {
		for _, k := range b.Reads {
			base := e.base(k.Partition)
			p.reads = append(p.reads, redis.NewCmd(ctx, "get", base+k.Name))
			bases = append(bases, base)
		}
	}
	switch {
	case known != nil:
		for _, n := range known.touched(bases) {
			p.checks = append(p.checks, once{redis.NewCmd(ctx, "evalsha", n.check.Hash(), 1, n.marker)})
		}
	case len(p.commits) == 0:
		bases = append(bases, e.prefix)
		p.clock = redis.NewCmd(ctx, "evalsha", clockScript.Hash(), 1, bases[0])
	}
	return p
}

func (e *Engine) readArgs(keys []store.Key) []any {
	args := make([]any, 1, len(keys)+1)
	args[0] = "mget"
	for _, k := range keys {
		args = append(args, e.key(k))
	}
	return args
}

// append puts the commands behind others, but for the checks, which come after everything.
func (p *pipeline) append(queue []redis.Cmder) []redis.Cmder {
	for _, c := range p.commits {
		queue = append(queue, c)
	}
	for _, r := range p.reads {
		queue = append(queue, r)
	}
	if p.clock != nil {
		queue = append(queue, p.clock)
	}
	return queue
}

// unheard says whether nothing of the batch can have happened because the scripts are not loaded.
func (p *pipeline) unheard() bool {
	for _, c := range p.commits {
		if !noScript(c.Err()) {
			return false
		}
	}
	return len(p.commits) > 0 || p.clock != nil && noScript(p.clock.Err())
}

// broken says whether a node that was touched is not the one that the fence names.
func (p *pipeline) broken() bool {
	for _, c := range p.checks {
		marked, err := c.Int64()
		if noScript(err) || err == nil && marked == 0 {
			return true
		}
	}
	return false
}

func noScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT")
}

func (p *pipeline) results(b store.Batch) (store.Results, error) {
	res := store.Results{Outcomes: make([]store.Outcome, len(b.Commits))}
	var micros, latest int64
	var failed, invalid error
	for i, c := range b.Commits {
		out, at, err := outcome(c, p.commits[i].Cmd)
		switch {
		case errors.Is(err, store.ErrInvalid):
			invalid = err
		case err != nil:
			failed = err
		}
		res.Outcomes[i], latest = out, max(latest, at)
	}
	var err error
	if res.Records, err = p.records(b.Reads); err != nil {
		failed = err
	}
	for _, c := range p.closing() {
		var err error
		if micros, err = c.Int64(); err != nil {
			failed = unavailable(err)
		}
		latest = max(latest, micros)
	}
	if failed == nil {
		failed = invalid
	}
	if failed != nil {
		return store.Results{}, failed
	}
	res.Now = time.UnixMicro(latest).UTC()
	return res, nil
}

func (p *pipeline) closing() []*redis.Cmd {
	var cmds []*redis.Cmd
	for _, c := range p.checks {
		cmds = append(cmds, c.Cmd)
	}
	if p.clock != nil {
		cmds = append(cmds, p.clock)
	}
	return cmds
}

func (p *pipeline) records(keys []store.Key) ([]store.Record, error) {
	recs := make([]store.Record, len(keys))
	if !p.all {
		for i, k := range keys {
			var err error
			if recs[i], err = read(k, p.reads[i]); err != nil {
				return nil, err
			}
		}
		return recs, nil
	}
	answer, err := p.reads[0].Slice()
	if err != nil {
		return nil, unavailable(err)
	}
	if len(answer) != len(keys) {
		return nil, errAnswer
	}
	for i, k := range keys {
		recs[i].Key = k
		if answer[i] == nil {
			continue
		}
		raw, ok := at[string](answer, i)
		if !ok {
			return nil, errAnswer
		}
		if recs[i], err = decode(k, raw); err != nil {
			return nil, err
		}
	}
	return recs, nil
}

func read(k store.Key, cmd *redis.Cmd) (store.Record, error) {
	raw, err := cmd.Text()
	if errors.Is(err, redis.Nil) {
		return store.Record{Key: k}, nil
	}
	if err != nil {
		return store.Record{}, unavailable(err)
	}
	return decode(k, raw)
}

// commitArgs is the call of the commit script.
func commitArgs(base string, c store.Commit) []any {
	keys := make([]any, 0, len(c.If)+len(c.Writes)+3)
	args := make([]any, 0, 4+2*len(c.If)+4*len(c.Writes))
	limit := ""
	if !c.NotAfter.IsZero() {
		limit = decimal(c.NotAfter.UnixMilli())
	}
	args = append(args, base, limit, len(c.If), len(c.Writes))
	for _, cond := range c.If {
		keys = append(keys, base+cond.Name)
		args = append(args, conditionArgs(cond)...)
	}
	listed, adds := false, false
	for _, w := range c.Writes {
		keys = append(keys, base+w.Name)
		args = append(args, writeArgs(w)...)
		listed, adds = listed || w.Listed, adds || w.Add != 0
	}
	if listed {
		keys = append(keys, base+indexName, base+deathsName)
	}
	if adds {
		keys = append(keys, base+scratchName)
	}
	if len(keys) == 0 {
		keys = append(keys, base)
	}
	return slices.Concat([]any{"evalsha", commitScript.Hash(), len(keys)}, keys, args)
}

func conditionArgs(c store.Condition) []any {
	switch c.Is {
	case store.Absent:
		return []any{"A", ""}
	case store.Present:
		return []any{"P", ""}
	case store.AtVersion:
		return []any{"V", strconv.FormatUint(c.Version, 10)}
	default:
		return []any{"M", decimal(c.Count)}
	}
}

func writeArgs(w store.Write) []any {
	op, operand := "S", any(w.Value)
	switch {
	case w.Delete:
		op, operand = "D", ""
	case w.Add != 0:
		op, operand = "A", decimal(w.Add)
	case w.Value == nil:
		operand = ""
	}
	if w.Listed {
		op += "L"
	}
	return []any{op, operand, decimal(w.TTL.Milliseconds()), strconv.FormatUint(w.Version, 10)}
}

// outcome reads the answer of the commit script, and the clock in it.
func outcome(c store.Commit, cmd *redis.Cmd) (store.Outcome, int64, error) {
	answer, err := cmd.Slice()
	if err != nil {
		return store.Outcome{}, 0, unavailable(err)
	}
	state, okState := at[int64](answer, 0)
	micros, okMicros := at[int64](answer, 1)
	if !okState || !okMicros {
		return store.Outcome{}, 0, errAnswer
	}
	if state == stateOverflow {
		return store.Outcome{}, micros, fmt.Errorf("%w: a counter leaves the range of int64", store.ErrInvalid)
	}
	out := store.Outcome{Applied: state == stateApplied, Late: state == stateLate}
	for i, cond := range c.If {
		rec := store.Record{Key: store.Key{Partition: c.Partition, Name: cond.Name}}
		if raw, exists := at[string](answer, 2+i); exists {
			if rec, err = decode(rec.Key, raw); err != nil {
				return store.Outcome{}, 0, err
			}
		}
		out.Seen = append(out.Seen, rec)
	}
	if !out.Applied {
		return out, micros, nil
	}
	out.Wrote, err = wrote(c, answer[min(2+len(c.If), len(answer)):])
	return out, micros, err
}

func wrote(c store.Commit, answer []any) ([]store.Record, error) {
	recs := make([]store.Record, len(c.Writes))
	for i, w := range c.Writes {
		raw, ok := at[string](answer, i)
		if !ok {
			return nil, errAnswer
		}
		k := store.Key{Partition: c.Partition, Name: w.Name}
		if len(raw) > headSize { // a sum, or the record that stood in the way
			var err error
			if recs[i], err = decode(k, raw[1:]); err != nil {
				return nil, err
			}
			continue
		}
		recs[i] = store.Record{Key: k}
		recs[i].Version, recs[i].Expires, _ = head(raw)
		if !w.Delete {
			recs[i].Value = w.Value
		}
	}
	return recs, nil
}

var errAnswer = fmt.Errorf("%w: redis: a script gives an answer of another kind", store.ErrUnavailable)

func at[T any](answer []any, i int) (T, bool) {
	var zero T
	if i >= len(answer) {
		return zero, false
	}
	v, ok := answer[i].(T)
	return v, ok
}
