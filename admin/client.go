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
	res, err := c.send(ctx, call)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if out == nil {
		return res.Header.Get("ETag"), nil
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return res.Header.Get("ETag"), nil
}

// Stream carries out a call whose answer is no JSON, and gives the answer to read, with its length as far as it is told.
func (c *Client) Stream(ctx context.Context, call Call) (*Copy, error) {
	res, err := c.send(ctx, call) //nolint:bodyclose // whoever reads the copy closes it
	if err != nil {
		return nil, err
	}
	return &Copy{ReadCloser: res.Body, Bytes: res.ContentLength}, nil
}

// send sends a call and returns an answer that is no refusal. Its body is the caller's to close.
func (c *Client) send(ctx context.Context, call Call) (*http.Response, error) {
	var body io.Reader
	if call.Body != nil {
		data, err := json.Marshal(call.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	target := strings.TrimSuffix(c.Server, "/") + Prefix + call.Path
	if len(call.Query) > 0 {
		target += "?" + call.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if call.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if call.Match != "" {
		req.Header.Set("If-Match", call.Match)
	}
	res, err := c.HTTP.Do(req)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // its method and address are told already
	}
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoServer, c.Server, err)
	}
	if res.StatusCode < http.StatusBadRequest {
		return res, nil
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return nil, refusal(res, data)
}

func refusal(res *http.Response, data []byte) error {
	var p Problem
	if err := json.Unmarshal(data, &p); err != nil || p.Status == 0 {
		return problem(res.StatusCode, "", "the server answered "+res.Status+", which is no answer of this API")
	}
	return &p
}
