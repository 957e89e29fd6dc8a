// Command bench measures what the server costs.
package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

func now() time.Time { return time.Now() }

func main() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "ob")
	defer os.RemoveAll(dir)
	on := stand{records: "bolt:" + dir + "/r.db", live: os.Getenv("LIVE")}
	w, err := newWorld(ctx, os.Args[1], dir, on, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.close()
	report := func(name string, rs []request) {
		c := w.nodes[0]
		c0, _ := c.cpu()
		o0, b0, _ := c.heap(ctx)
		r, err := load{addr: w.host(), requests: rs, workers: 16}.send(ctx)
		c1, _ := c.cpu()
		o1, b1, _ := c.heap(ctx)
		n := float64(len(rs))
		fmt.Printf("%-20s %7.0f/s p50 %v p99 %v cpu %.1f µs allocs %.0f %.0f B errors %d %v %v\n", name, r.perSecond(), r.quantile(.5), r.quantile(.99), float64(c1-c0)/1e3/n, (o1-o0)/n, (b1-b0)/n, r.failed, r.first, err)
	}
	prof := func(name string, rs []request) {
		if addr := os.Getenv("BENCH_PPROF_ADDR"); addr != "" {
			done := make(chan int)
			go func() {
				for _, kind := range []string{"profile?seconds=3"} {
					data, err := fetch(ctx, "http://"+addr+"/debug/pprof/"+kind)
					fmt.Println(err)
					os.WriteFile("/tmp/prof/"+name+".pb.gz", data, 0o600)
				}
				close(done)
			}()
			time.Sleep(100 * time.Millisecond)
			report(name, rs)
			<-done
		} else {
			report(name, rs)
		}
	}
	n := 3000
	t0 := time.Now()
	subs, err := w.userTokens(ctx, n)
	fmt.Println("user tokens", time.Since(t0), err)
	rs, _ := w.exchange(secretAgent, repeated(w.subject, n), nil)
	report("secret", rs)
	rs, _ = w.exchange(keyAgent, subs, nil)
	prof("uncached", rs)
	for range 2 {
		rs, _ = w.exchange(keyAgent, repeated(w.subject, n), nil)
		prof("cached", rs)
	}
	rs, _ = w.exchange(boundAgent, repeated(w.subject, n), nil)
	report("dpop", rs)
	for range 2 {
		toks, err := w.exchanged(ctx, n)
		fmt.Println(err)
		rs = nil
		for _, t := range toks {
			rs = append(rs, w.redemption("/introspect", t, checkActive))
		}
		report("introspect", rs)
		rs = nil
		for _, t := range toks {
			rs = append(rs, w.redemption("/redeem", t, checkRedeemed))
		}
		prof("redeem", rs)
	}
}
