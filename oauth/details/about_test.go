package details_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"obolus/oauth/details"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for _, c := range []struct {
		entry string
		want  []string
	}{
		{vault, []string{"In Vault, read, list at secret/data/ci"}},
		{
			`{"type":"vault:path_access","path":"a","capabilities":["update"],"allowed_parameters":{"ttl":["1h"]},"required_parameters":["ttl"]}`,
			[]string{"In Vault, update at a", `allowed_parameters: {"ttl":["1h"]}`, "required_parameters: ttl"},
		},
		{pay, []string{"Pay up to 20.00 EUR to Book shop"}},
		{
			`{"type":"payment","amount":{"value":"5","currency":"CHF"},"account":"CH93 0076 2011 6238 5295 7","reference":"7","locations":["https://bank.test/"]}`,
			[]string{"Pay up to 5 CHF to anybody, account CH93 0076 2011 6238 5295 7, reference 7, at https://bank.test/"},
		},
		{call, []string{`Call the tool send_mail with {"to":"bob@example.com"}`}},
		{`{"type":"mcp_tool_call","tool":"t"}`, []string{"Call the tool t with any arguments"}},
		{
			`{"type":"mcp_tool_call","tool":"t","server":"<b>","args_digest":"sha-256=:zasGfp876zLRJSz9Y+SSWS/sv1kbDQjK2yS7F/OGQkY=:"}`,
			[]string{"Call the tool t of <b> with the arguments whose digest is sha-256=:zasGfp876zLRJSz9Y+SSWS/sv1kbDQjK2yS7F/OGQkY=:"},
		},
		{
			`{"type":"mcp_tool_call","tool":"{tool} [x|y]","arguments":{"a":"<\u202e&\n\ud83d\ude00\udb40\udc01"}}`,
			[]string{`Call the tool {tool} [x|y] with {"a":"<\u202e&\n😀\udb40\udc01"}`},
		},
		{
			entry(`,"size":3,"public":true,"owner":{"name":"Ann","id":1},"note":"hi"`),
			[]string{"Do read at docs with up to 3 bytes", "note: hi", "owner.id: 1", "owner.name: Ann", "public: true"},
		},
	} {
		t.Run(c.entry, func(t *testing.T) {
			t.Parallel()
			if got := r.Describe(parse(t, r, c.entry).Entries()[0]); !slices.Equal(got, c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestNothingIsAllowedUnseen describes an entry with every member and looks for each value.
func TestNothingIsAllowedUnseen(t *testing.T) {
	t.Parallel()
	r := registry(t)
	e := parse(t, r, entry(`,"locations":["https://u1/"],"datatypes":["u2"],"size":333,"since":444,"price":"5.55","level":"6.66","public":true,"demands":["u7"],
		"exactly":["u8"],"note":"u9","options":{"u10":["u11"]},"bans":{"u12":[]},"extra":{"u13":"u14"},"owner":{"name":"u15","id":161616}`)).Entries()[0]
	told := strings.Join(r.Describe(e), "\n")
	for _, value := range []string{
		"read", "docs", "https://u1/", "u2", "333", "444", "5.55", "6.66", "true", "u7", "u8", "u9", "u10", "u11", "u12", "u13", "u14", "u15", "161616",
	} {
		if !strings.Contains(told, value) {
			t.Errorf("%s is not told:\n%s", value, told)
		}
	}
	other, err := details.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := other.Describe(e); len(got) != 1 || !strings.Contains(got[0], "161616") {
		t.Errorf("another registry says %q", got)
	}
}

func TestASentenceOfNothing(t *testing.T) {
	t.Parallel()
	r, err := details.New([]json.RawMessage{json.RawMessage(`{"type":"quiet","about":"[See {x}| Read {y}]","members":{"x":{"kind":"boolean"},"y":{"kind":"boolean"}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"type":"quiet"}`:                   `[quiet]`,
		`{"type":"quiet","y":true}`:          `[Read true]`,
		`{"type":"quiet","x":true,"y":true}`: `[See true y: true]`,
	} {
		if got := fmt.Sprint(r.Describe(parse(t, r, text).Entries()[0])); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func ExampleRegistry() {
	types, err := details.New([]json.RawMessage{json.RawMessage(`{
		"type": "calendar", "about": "See {calendar}[ up to {days} days ahead]",
		"members": {
			"calendar": {"kind": "string", "required": true},
			"days":     {"kind": "integer", "rule": "max", "minimum": 1}}}`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	granted, err := types.Parse([]byte(`[{"type": "calendar", "calendar": "work", "days": 7}]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	asked, err := types.Parse([]byte(`[{"type": "calendar", "calendar": "work"}]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(types.Describe(granted.Entries()[0])[0])
	fmt.Println(types.Covers(granted, asked))
	widest, _ := types.Widest(granted, asked)
	fmt.Println(string(widest.JSON()))
	// Output:
	// See work up to 7 days ahead
	// entry 0 (calendar): not within what is granted
	// [{"calendar":"work","days":7,"type":"calendar"}]
}
