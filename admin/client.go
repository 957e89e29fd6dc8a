package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client talks to the API.
type Client struct {
	Server string // scheme and host: "http://127.0.0.1:8420"
	Token  string
	HTTP   *http.Client
}

// Call is one request. Path stands under Prefix; its variable parts are escaped by Path.
type Call struct {
	Method string
	Path   string
	Query  url.Values
	Body   any    // nil: none
	Match  string // an ETag, or "*"; empty: none
}

// Path joins parts of a path, escaping each.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// ErrNoServer: nobody answers at the address.
var ErrNoServer = errors.New("no server answers")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Do carries out a call, reads the answer into out unless it is nil, and returns the ETag. A refusal is a *Problem.
func (c *Client) Do(ctx context.Context, call Call, out any) (etag string, err error) {
	var body io.Reader
	if call.Body != nil {
		data, err := json.Marshal(call.Body)
		if err != nil {
			return "", err
		}
		body = bytes.NewReader(data)
	}
	target := strings.TrimSuffix(c.Server, "/") + Prefix + call.Path
	if len(call.Query) > 0 {
		target += "?" + call.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, target, body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if call.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if call.Match != "" {
		req.Header.Set("If-Match", call.Match)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w at %s: %w", ErrNoServer, c.Server, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return "", refusal(res, data)
	}
	if out == nil {
		return res.Header.Get("ETag"), nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return res.Header.Get("ETag"), nil
}

func refusal(res *http.Response, data []byte) error {
	var p Problem
	if err := json.Unmarshal(data, &p); err != nil || p.Status == 0 {
		return problem(res.StatusCode, "", "the server answered "+res.Status+", which is no answer of this API")
	}
	return &p
}
