package strictyaml_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/strictyaml"
)

type inner struct {
	Depth int             `json:"depth"`
	Free  json.RawMessage `json:"free,omitempty"`
}

type embedded struct {
	Auth string `json:"auth"`
}

type span time.Duration

func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}

type item struct {
	ID string `json:"id"`
	embedded
	Embedded
	When   time.Time         `json:"when"`
	Words  map[string]string `json:"words"`
	Nested inner             `json:"nested"`
	File   string            `json:"file" path:"file"`
}

// Embedded is exported, as an embedded struct must be for its members to count.
type Embedded struct {
	Secret string `json:"secret"`
}

type settings struct {
	Name  string   `json:"name"`
	Deep  inner    `json:"deep"`
	For   span     `json:"for"`
	On    bool     `json:"on"`
	Part  float64  `json:"part"`
	List  []string `json:"list"`
	Items []item   `json:"items"`
	Store string   `json:"store" path:"bolt"`
}

func TestGood(t *testing.T) {
	tree := strictyaml.New[settings]()
	tree.File("/etc/x/conf.yaml", []byte(`
name: n
deep: {depth: 3, free: {a: [1, 2.5, true, null, "x"], n: 12345678901234567890}}
for: 90s
on: true
part: 1
list: [a, "1"]
store: bolt:data/r.db
items:
  - {id: one, auth: none, secret: s, when: 2030-01-02T03:04:05Z, words: {a.b: c}, file: keys/a.pem}
  - {id: two, file: /abs, nested: {depth: 1}}
`))
	tree.Set("name", "from env", "OBOLUS_NAME")
	tree.Set("deep.depth", "7", "--depth")
	tree.Set("list", "x, y", "OBOLUS_LIST")
	tree.Set("on", "", "OBOLUS_ON")
	var got settings
	if err := tree.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := settings{
		Name: "from env", For: span(90 * time.Second), On: true, Part: 1, List: []string{"x", "y"}, Store: "bolt:/etc/x/data/r.db",
		Deep: inner{Depth: 7, Free: json.RawMessage(`{"a":[1,2.5,true,null,"x"],"n":12345678901234567890}`)},
		Items: []item{
			{
				ID: "one", Embedded: Embedded{Secret: "s"}, embedded: embedded{Auth: "none"}, File: "/etc/x/keys/a.pem",
				When: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Words: map[string]string{"a.b": "c"},
			},
			{ID: "two", File: "/abs", Nested: inner{Depth: 1}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for path, place := range map[string]string{
		"name": "OBOLUS_NAME", "deep.depth": "--depth", "for": "/etc/x/conf.yaml:4", "items[1].nested": "/etc/x/conf.yaml:11",
		"items[0].words.nothing": "/etc/x/conf.yaml:10", "list[1]": "OBOLUS_LIST[1]", "nowhere": "/etc/x/conf.yaml",
	} {
		if got := tree.At(path).String(); got != strings.TrimSuffix(place, "[1]") {
			t.Errorf("%s is at %s, want %s", path, got, place)
		}
	}
}

func TestMistakes(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":        {"nam: x", `f.yaml:1: unknown key "nam"; did you mean "name"?`},
		"unknown key inside": {"items:\n- id: x\n  zzzzzz: 1", `f.yaml:3: items[0]: unknown key "zzzzzz"; known here: id, auth, secret, when, words, nested, file`},
		"twice":              {"name: x\non: true\nname: y", `f.yaml:3: key "name" is already set in line 1`},
		"twice in free":      {"deep: {free: {a: 1, a: 2}}", `f.yaml:1: deep.free: key "a" is already set in line 1`},
		"number for text":    {"name: 12", `f.yaml:1: name: wants text, not a number (text goes in quotes)`},
		"text for number":    {"deep: {depth: x}", `f.yaml:1: deep.depth: wants a whole number, not text`},
		"float for int":      {"deep: {depth: 1.5}", `f.yaml:1: deep.depth: wants a whole number, not a number (text goes in quotes)`},
		"huge":               {"deep: {depth: 99999999999999999999}", `f.yaml:1: deep.depth: wants a whole number, not `},
		"yes":                {"on: yes", `f.yaml:1: on: wants true or false, not text`},
		"duration":           {"for: 60", `f.yaml:1: for: wants a duration like "60s", not a number`},
		"bad duration":       {"for: soon", `f.yaml:1: for: wants a duration like "60s", not "soon"`},
		"bad time":           {"items: [{when: never}]", `f.yaml:1: items[0].when: wants a time like 2030-01-02T15:04:05Z, not "never"`},
		"table for list":     {"list: {a: b}", `f.yaml:1: list: wants a list, not a table`},
		"list for table":     {"deep: []", `f.yaml:1: deep: wants a table of keys and values, not a list`},
		"list for text":      {"name: [x]", `f.yaml:1: name: wants text, not a list`},
		"empty item":         {"list:\n- a\n-", `f.yaml:3: list[1]: is empty`},
		"empty word":         {"items: [{words: {a: }}]", `f.yaml:1: items[0].words.a: has no value`},
		"alias":              {"name: &a x\nstore: *a", `f.yaml:1: name: anchors are not read`},
		"merge":              {"deep: {<<: {depth: 1}}", `f.yaml:1: deep: unknown key "<<"`},
		"tag":                {"name: !!str 12", `f.yaml:1: name: tags such as !!str are not read`},
		"second document":    {"name: x\n---\nname: y", `f.yaml:2: a second document is not read`},
		"no yaml":            {"name: x\n  y: [", `f.yaml:2: this is no YAML: `},
		"tabs":               {"deep:\n\tdepth: 1", `f.yaml:2: this is no YAML: found character that cannot start any token`},
		"deep":               {"deep: {free: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}", `is nested too deeply`},
		"not utf8":           {"name: \xff\xfe", `this is no YAML: `},
		"key no text":        {"? [a]\n: b", `f.yaml:1: a key is plain text`},
		"scalar document":    {"hello", `f.yaml:1: wants a table of keys and values, not text`},
	} {
		t.Run(name, func(t *testing.T) {
			tree := strictyaml.New[settings]()
			tree.File("f.yaml", []byte(c.yaml))
			err := tree.Decode(&settings{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAllAtOnce(t *testing.T) {
	tree := strictyaml.New[settings]()
	tree.File("f.yaml", []byte("on: 1\nname: 2\ndeep: {depth: x}\n"))
	tree.Set("for", "soon", "OBOLUS_FOR")
	tree.Set("nothing.here", "x", "--nothing")
	err := tree.Decode(&settings{})
	want := []string{"OBOLUS_FOR: for: ", "--nothing: there is no such setting", "f.yaml:1: on: ", "f.yaml:2: name: ", "f.yaml:3: deep.depth: "}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d lines:\n%v", len(lines), err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d is %q, want %q", i, line, want[i])
		}
	}
}

func TestEmptyDocuments(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n"} {
		tree := strictyaml.New[settings]()
		tree.File("f.yaml", []byte(text))
		if err := tree.Decode(&settings{}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"name: x", "items: [{id: a}]", "deep: {free: [1, {a: b}]}", "a: &a [*a]", "? {}\n: x", "for: 1s\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tree := strictyaml.New[settings]()
		tree.File("f.yaml", data)
		err := tree.Decode(&settings{})
		for line := range strings.Lines(errorText(err)) {
			if strings.TrimSpace(line) == "" {
				t.Errorf("an empty line in %q", err)
			}
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return "fine"
	}
	return err.Error()
}
