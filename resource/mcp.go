package resource

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"obolus/oauth"
	"obolus/oauth/strict"
)

// MCPToolCall is the type of authorization_details that allow calls of tools.
const MCPToolCall = "mcp_tool_call"

// MCP makes the rule for the endpoint of an MCP server. A call of a tool is held against the mcp_tool_call details of its token, if it
// has any: tool, server, and the arguments or their digest. A one-transaction token that has them pays for one such call and for nothing
// else. The digest of a request is that of the tool and its arguments, so that a repeat with another JSON-RPC id is the same request.
//
// What a client must send before it can call, and what only lists, is free: the handshake, the lists of tools, prompts and resources, notifications,
// answers to the server's own questions, and a stream. Every token with the Scopes will do for these, before and after it was redeemed, and none is
// used up. Everything else that is no call, such as to read a resource or to get a prompt, goes by session token, or costs a one-transaction token
// that has no mcp_tool_call details.
type MCP struct {
	// Scopes are needed for every request, but for calls of a tool that is Detailed and for what is free, where mcp_tool_call details do instead.
	Scopes []string
	// Tools are those that may be called; a call of any other is refused.
	Tools map[string]Tool
	// Server is the name that details may give to this server.
	Server string
}

// Tool is what a call of a tool needs.
type Tool struct {
	Scopes         []string // besides MCP.Scopes
	OneTransaction bool     // a session token is not enough
	// Detailed is for what a user allows call by call: the token's mcp_tool_call details must cover the call, and stand in for MCP.Scopes.
	// Without it a token that has no details is good for every call within its scopes.
	Detailed bool
	Late     bool // the tool may answer without an effect and calls [Caller.Redeem] itself
}

// Rule is for [Guard.Require].
func (m MCP) Rule() Rule {
	return Rule{Scopes: m.Scopes, Refine: m.refine, instead: MCPToolCall}
}

// call is what a request asks.
type call struct {
	method    string
	answer    bool // a result or an error, and no method
	tool      string
	arguments json.RawMessage
}

const callTool = "tools/call"

// refine reads the request once and gives the rule for it.
func (m MCP) refine(r *http.Request) (Rule, error) {
	if r.Method != http.MethodPost { // a stream or the end of one: nothing is asked
		return free(), nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return Rule{}, badRequest(oauth.ReasonTooLarge, "the body is too large", err)
	}
	c, err := readCall(body)
	if err != nil {
		return Rule{}, badRequest(oauth.ReasonMalformed, "the body is not one JSON-RPC request", err)
	}
	if c.free() {
		return free(), nil
	}
	if c.method != callTool {
		return noCall(), nil
	}
	tool, ok := m.Tools[c.tool]
	if !ok {
		return Rule{}, NoDetail("there is no such tool for a token")
	}
	rule := Rule{
		Scopes: tool.Scopes, OneTransaction: tool.OneTransaction, Late: tool.Late,
		Details: func(_ *http.Request, granted []Detail) error { return m.within(c, granted) },
		Digest:  func(*http.Request) ([]byte, error) { return c.digest() },
	}
	if tool.Detailed {
		rule.instead, rule.always, rule.Check = MCPToolCall, tool.Scopes, detailed
	}
	return rule, nil
}

// detailed refuses a token that has no details for calls. Those that it has were held against this one before.
func detailed(_ *http.Request, c *Caller) error {
	if !c.has(MCPToolCall) {
		return NoDetail("the call needs a token that names it in mcp_tool_call details")
	}
	return nil
}

// free is for requests that cost nothing.
func free() Rule { return Rule{free: true, instead: MCPToolCall, Details: AnyDetails} }

// free says whether a message asks for no more than what there is, of a server of any version of the protocol.
func (c call) free() bool {
	switch c.method {
	case "initialize", "server/discover", "ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return true
	case "": // an answer of the client
		return c.answer
	default:
		return strings.HasPrefix(c.method, "notifications/")
	}
}

// noCall is for requests that call no tool: what was granted for one call is not for them.
func noCall() Rule {
	return Rule{Details: AnyDetails, Check: func(_ *http.Request, c *Caller) error {
		if c.OneTransaction && c.has(MCPToolCall) {
			return NoDetail("the token is for the call of a tool")
		}
		return nil
	}}
}

// readCall reads a JSON-RPC request by the exact names of its members. One that has a member of the same name in other case is refused:
// there are parsers that would take it.
func readCall(body []byte) (call, error) {
	var c call
	var params []byte
	err := members(body, map[string]func([]byte) error{
		"jsonrpc": nil, "id": nil,
		"method": func(v []byte) error { return json.Unmarshal(v, &c.method) },
		"params": func(v []byte) error { params = v; return nil },
		"result": func([]byte) error { c.answer = true; return nil },
		"error":  func([]byte) error { c.answer = true; return nil },
	})
	if err != nil || c.method != callTool {
		return c, err
	}
	err = members(params, map[string]func([]byte) error{
		"name":      func(v []byte) error { return json.Unmarshal(v, &c.tool) },
		"arguments": func(v []byte) error { c.arguments = slices.Clone(v); return nil },
	})
	if err == nil && c.tool == "" {
		err = errors.New("no tool is named")
	}
	return c, err
}

// members visits those members of an object that are named; a nil function only reserves the name.
func members(object []byte, known map[string]func([]byte) error) error {
	if len(object) == 0 {
		return errors.New("not an object")
	}
	return strict.Object(object, strict.Limits{Depth: maxDepth}, func(name string, value []byte) error {
		if visit, ok := known[name]; ok {
			if visit == nil {
				return nil
			}
			return visit(value)
		}
		for have := range known {
			if strings.EqualFold(have, name) {
				return fmt.Errorf("member %s is written in another case", have)
			}
		}
		return nil
	})
}

// digest covers the tool and its arguments.
func (c call) digest() ([]byte, error) {
	arguments, err := sorted(c.arguments)
	if err != nil {
		return nil, badRequest(oauth.ReasonMalformed, "the arguments are not acceptable JSON", err)
	}
	return json.Marshal([]any{callTool, c.tool, json.RawMessage(arguments)})
}

// within says whether one of the granted entries covers the call.
func (m MCP) within(c call, granted []Detail) error {
	if len(granted) == 0 {
		return nil // scopes alone decide
	}
	for _, d := range granted {
		if d.Type != MCPToolCall {
			continue
		}
		ok, err := m.covers(d, c)
		if err != nil {
			return NoDetail(err.Error())
		}
		if ok {
			return nil
		}
	}
	return NoDetail("none of the token's authorization_details allows this call")
}

// covers holds a call against one entry. An entry with a member that is not known here limits in a way that is not understood,
// and covers nothing.
func (m MCP) covers(d Detail, c call) (bool, error) {
	entry := make(map[string]json.RawMessage)
	if err := json.Unmarshal(d.Raw, &entry); err != nil {
		return false, fmt.Errorf("an entry cannot be read: %w", err)
	}
	for name, value := range entry {
		var ok bool
		var err error
		switch name {
		case "type", "locations": // no token has locations that are not its audience
			ok = true
		case "tool":
			ok = isText(value, c.tool)
		case "server":
			ok = m.Server != "" && isText(value, m.Server)
		case "arguments":
			ok, err = sameArguments(c.arguments, value)
		case "args_digest":
			ok, err = digestIs(c.arguments, value)
		}
		if err != nil || !ok {
			return false, err
		}
	}
	return entry["tool"] != nil, nil
}

func isText(value json.RawMessage, want string) bool {
	var s string
	return json.Unmarshal(value, &s) == nil && s == want
}

// sameArguments compares canonical forms.
func sameArguments(got, want json.RawMessage) (bool, error) {
	a, err := exact(got)
	if err != nil {
		return false, err
	}
	b, err := exact(want)
	return err == nil && bytes.Equal(a, b), err
}

func digestIs(got, want json.RawMessage) (bool, error) {
	canonical, err := exact(got)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(canonical)
	return isText(want, "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":"), nil
}

// exact gives the canonical form of RFC 8785, and refuses numbers that it would change: the canonical form knows doubles
// only, and a program that reads more digits would do something else than what was allowed. No arguments are an empty object.
func exact(raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("the arguments are not acceptable JSON: %w", err)
	}
	if !exactNumbers(v) {
		return nil, errors.New("the arguments have a number that cannot be compared exactly")
	}
	return strict.Canonical(raw)
}

func exactNumbers(v any) bool {
	switch v := v.(type) {
	case json.Number:
		return exactNumber(v)
	case []any:
		return !slices.ContainsFunc(v, func(one any) bool { return !exactNumbers(one) })
	case map[string]any:
		for _, one := range v {
			if !exactNumbers(one) {
				return false
			}
		}
	}
	return true
}

// maxDigits is how many decimal digits a double tells apart, whatever they are.
const maxDigits = 15

// exactNumber says whether no other number has the same canonical form: at most 15 digits, no exponent.
func exactNumber(n json.Number) bool {
	digits := strings.TrimLeft(strings.Replace(n.String(), ".", "", 1), "-0")
	return len(digits) <= maxDigits && !strings.ContainsAny(digits, "eE")
}

// sorted gives JSON with its names sorted, no space, and numbers as they were written.
func sorted(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return []byte("{}"), nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
