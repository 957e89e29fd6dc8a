package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"obolus/cmd/obolus/internal/strictyaml"
)

// Sources are where a configuration comes from.
type Sources struct {
	File    string   // empty: none
	Environ []string // as os.Environ gives it
	Flags   []Flag
}

// Flag is one setting from the command line.
type Flag struct{ Name, Path, Value string }

// maxFile bounds the configuration file.
const maxFile = 16 << 20

// notSettings are variables that begin like ours and are none: those of the commands, those that tests read, and those
// which Kubernetes puts beside every process when a service is called obolus.
var notSettings = regexp.MustCompile(`^OBOLUS_(CONFIG|SERVER|TOKEN_FILE|TEST_\w*|SERVICE_\w+|PORT(_\w+)?)$`)

// Load reads the sources and checks what they say. The error lists every mistake, one per line.
func Load(from Sources) (Config, error) {
	tree := strictyaml.New[Config]()
	if from.File != "" {
		data, err := readFile(from.File)
		if err != nil {
			return Config{}, err
		}
		tree.File(from.File, data)
	}
	unknown := environ(tree, from.Environ)
	for _, f := range from.Flags {
		tree.Set(f.Path, f.Value, f.Name)
	}
	cfg := Defaults()
	if err := tree.Decode(&cfg); err != nil {
		if problems, ok := errors.AsType[strictyaml.Problems](err); ok {
			return Config{}, append(problems, unknown...)
		}
		return Config{}, err
	}
	cfg.derive()
	c := checker{cfg: &cfg, tree: tree, problems: unknown}
	c.files()
	c.server()
	c.registry()
	if all := tree.All(c.problems); len(all) > 0 {
		return Config{}, all
	}
	cfg.Issuer = cfg.IssuerAt(cfg.Listen)
	return cfg, nil
}

// readFile reads the configuration file with errors that a person understands.
func readFile(name string) ([]byte, error) {
	wrong := func(format string, args ...any) error {
		return strictyaml.Problems{{Text: fmt.Sprintf(format, args...)}}
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wrong("the configuration file %s does not exist", name)
	case err != nil:
		return nil, wrong("the configuration file cannot be read: %v", err)
	case info.IsDir():
		return nil, wrong("the configuration file %s is a folder", name)
	case info.Size() > maxFile:
		return nil, wrong("the configuration file %s is above %d MiB", name, maxFile>>20)
	}
	data, err := os.ReadFile(name) //nolint:gosec // the operator says which file
	if err != nil {
		return nil, wrong("the configuration file cannot be read: %v", err)
	}
	return data, nil
}

// environ sets what OBOLUS_… variables say and names those that say nothing we know.
func environ(tree *strictyaml.Tree, vars []string) strictyaml.Problems {
	byName := map[string]string{}
	for _, path := range tree.Paths() {
		byName[Variable(path)] = path
	}
	var unknown strictyaml.Problems
	for _, v := range slices.Sorted(slices.Values(vars)) {
		name, value, _ := strings.Cut(v, "=")
		path, known := byName[name]
		switch {
		case known:
			tree.Set(path, value, name)
		case strings.HasPrefix(name, "OBOLUS_") && !notSettings.MatchString(name):
			unknown = append(unknown, strictyaml.Problem{
				Place: strictyaml.Place{Origin: name}, Text: "no setting has this name; `obolus serve --help` lists them",
			})
		}
	}
	return unknown
}

// Variable is the name of the variable for a dotted path: OBOLUS_KEYS_ALGORITHM for keys.algorithm.
func Variable(path string) string {
	return "OBOLUS_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// Variables lists the names of all variables that are read.
func Variables() []string {
	var names []string
	for _, path := range strictyaml.New[Config]().Paths() {
		names = append(names, Variable(path))
	}
	return names
}

// derive fills what follows from other settings.
func (c *Config) derive() {
	c.Records = cmp.Or(c.Records, "bolt:"+filepath.Join(c.Data, "records.db"))
	c.Operators.TokenFile = cmp.Or(c.Operators.TokenFile, filepath.Join(c.Data, "operator.token"))
	for i := range c.Agents {
		c.Agents[i].State = cmp.Or(c.Agents[i].State, "active")
		c.Agents[i].Auth = cmp.Or(c.Agents[i].Auth, guessIdentity(c.Agents[i].Credential), "private_key_jwt")
	}
	for i := range c.Clients {
		c.Clients[i].Auth = cmp.Or(c.Clients[i].Auth, c.Clients[i].guessAuth())
	}
	for i := range c.Resources {
		r := &c.Resources[i]
		r.Name = cmp.Or(r.Name, r.ID)
		r.Algorithm = cmp.Or(r.Algorithm, c.Keys.Algorithm)
		if r.Redemption == "" {
			r.Redemption = "none"
			if len(r.Servers) > 0 {
				r.Redemption = "required"
			}
		}
	}
	for i := range c.IdentityProviders {
		p := &c.IdentityProviders[i]
		p.Name = cmp.Or(p.Name, p.ID)
		if len(p.Scopes) == 0 {
			p.Scopes = []string{"openid", "profile", "email"}
		}
	}
}

// IssuerAt is the issuer for an address when none was set: empty for port 0, where it is known only after listening.
func (c Config) IssuerAt(address string) string {
	if c.Issuer != "" {
		return c.Issuer
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "0" {
		return ""
	}
	scheme := "http://"
	if c.TLS.Cert != "" {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}
