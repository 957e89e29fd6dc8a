package details

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"obolus/oauth/strict"
)

// vaultForm is HashiCorp Vault's own type. Its 2.2 members limit further; send them to Vault 2.2 or later only.
const vaultForm = `{
	"type": "vault:path_access",
	"about": "In Vault, {capabilities} at {path}",
	"members": {
		"path": {"kind": "string", "required": true, "max_length": 512},
		"capabilities": {"kind": "set", "required": true,
			"values": ["read", "create", "update", "delete", "list", "sudo", "patch", "subscribe", "recover"]},
		"allowed_parameters": {"kind": "parameters", "rule": "subset"},
		"denied_parameters": {"kind": "parameters", "rule": "superset"},
		"required_parameters": {"kind": "set", "rule": "superset"}
	}}`

// toolForm is one call, or any call, of one tool of an MCP server. Arguments are compared as a whole.
const toolForm = `{
	"type": "mcp_tool_call",
	"about": "Call the tool {tool}[ of {server}][ with {arguments}| with the arguments whose digest is {args_digest}| with any arguments][ at {locations}]",
	"members": {
		"tool": {"kind": "string", "required": true, "max_length": 256},
		"server": {"kind": "string", "max_length": 256},
		"locations": {"kind": "set"},
		"arguments": {"kind": "object"},
		"args_digest": {"kind": "string", "pattern": "sha-256=:[A-Za-z0-9+/]{43}=:"}
	}}`

// paymentForm is one payment of at most an amount. It is counted: who may pay up to 20 may not pay 20 twice.
const paymentForm = `{
	"type": "payment", "once": true,
	"about": "Pay up to {amount.value} {amount.currency}[ to {payee}| to anybody][, account {account}][, reference {reference}][, at {locations}]",
	"members": {
		"amount": {"kind": "object", "required": true, "members": {
			"value": {"kind": "decimal", "required": true, "rule": "max", "minimum": "0.0001"},
			"currency": {"kind": "string", "required": true, "pattern": "[A-Z]{3}"}}},
		"payee": {"kind": "string", "max_length": 256},
		"account": {"kind": "string", "max_length": 64},
		"reference": {"kind": "string", "max_length": 140},
		"locations": {"kind": "set"}
	}}`

// builtin makes the built-in forms, with the checks that a declaration has no words for.
func builtin() (map[string]*form, error) {
	forms := make(map[string]*form)
	for _, text := range []string{vaultForm, toolForm, paymentForm} {
		f, err := readForm([]byte(text))
		if err != nil {
			return nil, err
		}
		forms[f.name] = f
	}
	forms["vault:path_access"].fields.find("path").check = vaultPath
	forms["mcp_tool_call"].check = argsDigest
	return forms, nil
}

// vaultPath holds a path to the exact form that Vault documents: no API prefix, no glob, no template.
func vaultPath(s string) error {
	segments := strings.Split(s, "/")
	switch {
	case segments[0] == "" || segments[0] == "v1" && len(segments) > 1:
		return errors.New("begins with / or v1/; a path begins with its mount")
	case strings.Contains(s, "*") || strings.Contains(s, "{{") || slices.Contains(segments, "+"):
		return errors.New("is a pattern; only exact paths are granted")
	case slices.Contains(segments[:len(segments)-1], "") || slices.Contains(segments, ".") || slices.Contains(segments, ".."):
		return errors.New("has an empty segment, or one that is . or ..") //nolint:revive,staticcheck // the dots are what it is about
	default:
		return nil
	}
}

// argsDigest sees that the digest of the arguments, where both are there, is theirs: SHA-256 of the canonical JSON in the form of RFC 9530.
func argsDigest(members map[string]any) error {
	arguments, ok := members["arguments"]
	digest := text(members["args_digest"])
	if !ok || digest == "" {
		return nil
	}
	canonical, err := strict.Canonical([]byte(visible(arguments)))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(canonical)
	if digest != "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":" {
		return errors.New("member args_digest is not that of arguments")
	}
	return nil
}
