package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"obolus/token"
)

func TestActorsAreRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want string // subjects of the chain, outermost first
		err  error
	}{
		"one":                          {`{"iss":"i","sub":"a"}`, "a", nil},
		"three":                        {`{"iss":"i","sub":"a","act":{"iss":"i","sub":"b","act":{"iss":"i","sub":"c"}}}`, "a b c", nil},
		"members without a meaning":    {`{"iss":"i","sub":"a","exp":1,"cnf":{"jkt":"x"},"aud":["y"]}`, "a", nil},
		"names in other case":          {`{"iss":"i","sub":"a","SUB":"mallory","Act":{"sub":"x"}}`, "a", nil},
		"spaces":                       {` { "iss" : "i" , "sub" : "a" } `, "a", nil},
		"no sub":                       {`{"iss":"i"}`, "", token.ErrActor},
		"no iss":                       {`{"sub":"a"}`, "", token.ErrActorIssuer},
		"no iss beneath":               {`{"iss":"i","sub":"a","act":{"sub":"b"}}`, "", token.ErrActorIssuer},
		"no sub beneath":               {`{"iss":"i","sub":"a","act":{"iss":"i"}}`, "", token.ErrActor},
		"sub a number beneath":         {`{"iss":"i","sub":"a","act":{"iss":"i","sub":1}}`, "", token.ErrActor},
		"longer than allowed":          {`{"iss":"i","sub":"a","act":{"iss":"i","sub":"b","act":{"iss":"i","sub":"c","act":{"iss":"i","sub":"d"}}}}`, "", token.ErrChainDepth},
		"sub twice":                    {`{"iss":"i","sub":"a","sub":"b"}`, "", token.ErrActor},
		"sub twice beneath":            {`{"iss":"i","sub":"a","act":{"iss":"i","sub":"b","sub":"c"}}`, "", token.ErrActor},
		"act twice":                    {`{"iss":"i","sub":"a","act":{"iss":"i","sub":"b"},"act":{"iss":"i","sub":"c"}}`, "", token.ErrActor},
		"act null":                     {`{"iss":"i","sub":"a","act":null}`, "", token.ErrActor},
		"act a string":                 {`{"iss":"i","sub":"a","act":"b"}`, "", token.ErrActor},
		"iss a list":                   {`{"iss":["i"],"sub":"a"}`, "", token.ErrActor},
		"sub_profile a list":           {`{"iss":"i","sub":"a","sub_profile":[]}`, "", token.ErrActor},
		"a list":                       {`["a"]`, "", token.ErrActor},
		"a string":                     {`"a"`, "", token.ErrActor},
		"half of a surrogate in sub":   {`{"iss":"i","sub":"\ud800"}`, "", token.ErrActor},
		"deeper than any chain may be": {chainOf(20).text(), "", token.ErrActor},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a token.Actor
			err := json.Unmarshal([]byte(c.in), &a)
			var chain []token.Actor
			if err == nil {
				chain, err = a.Chain(3)
			}
			if !errors.Is(err, c.err) || err == nil && subjects(chain) != c.want {
				t.Fatalf("got %q, %v", subjects(chain), err)
			}
			if c.err != nil {
				return
			}
			out, err := a.MarshalJSON()
			if err != nil || string(out) != strings.TrimSpace(c.in) {
				t.Errorf("written as %s, %v", out, err)
			}
		})
	}
}

func subjects(chain []token.Actor) string {
	names := make([]string, len(chain))
	for i, a := range chain {
		names[i] = a.Subject
	}
	return strings.Join(names, " ")
}

func TestChainOfNobody(t *testing.T) {
	t.Parallel()
	if chain, err := (*token.Actor)(nil).Chain(3); chain != nil || err != nil {
		t.Error(chain, err)
	}
	if err := new(token.Actor).UnmarshalJSON(nil); !errors.Is(err, token.ErrActor) {
		t.Error(err)
	}
	one := token.Nest(token.Actor{Issuer: "i", Subject: "a"}, nil)
	for _, limit := range []int{0, -1} {
		if _, err := one.Chain(limit); !errors.Is(err, token.ErrChainDepth) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

// TestNesting: what was received stays beneath, byte for byte, whatever is put on top.
func TestNesting(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ -~äöü€]{1,12}`)
		received := fmt.Sprintf(`{ "sub":%s,"x":{"y":[1,2.50]},  "iss":%s}`, jsonText(name.Draw(t, "sub")), jsonText(name.Draw(t, "iss")))
		act := new(token.Actor)
		if err := act.UnmarshalJSON([]byte(received)); err != nil {
			t.Fatal(err)
		}
		want := []string{act.Subject}
		for range rapid.IntRange(0, 6).Draw(t, "hops") {
			outer := token.Actor{Issuer: name.Draw(t, "iss"), Subject: name.Draw(t, "sub"), Profile: rapid.SampledFrom([]string{"", "ai_agent"}).Draw(t, "profile")}
			next := token.Nest(outer, act)
			if next.Issuer != outer.Issuer || next.Profile != outer.Profile {
				t.Fatalf("nested as %+v", next)
			}
			act, want = &next, append([]string{outer.Subject}, want...)
			if rapid.Bool().Draw(t, "over the wire") {
				text, err := json.Marshal(token.Claims{Audience: token.Audience{"a"}, Act: act})
				if err != nil {
					t.Fatal(err)
				}
				var c token.Claims
				if err := json.Unmarshal(text, &c); err != nil {
					t.Fatal(err)
				}
				act, received = c.Act, compactJSON(t, received) // encoding/json takes the spaces out of what it is given
			}
		}
		text, err := act.MarshalJSON()
		if err != nil || !strings.Contains(string(text), received) {
			t.Fatalf("%s is not in %s, %v", received, text, err)
		}
		chain, err := act.Chain(7)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]string, len(chain))
		for i, a := range chain {
			got[i] = a.Subject
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("chain %q, want %q", got, want)
		}
		if _, err := act.Chain(len(want) - 1); !errors.Is(err, token.ErrChainDepth) {
			t.Fatalf("cut short: %v", err)
		}
	})
}

func jsonText(s string) string {
	out, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func compactJSON(t *rapid.T, s string) string {
	out, err := json.Marshal(json.RawMessage(s))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
