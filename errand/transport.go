package errand

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"obolus/oauth"
)

// Transport pays for the requests of an HTTP client, so that one which knows nothing of Obolus, such as that of an MCP client, can be used as it is.
// A request that it pays for is sent again only with the same token, and only when the resource server says that it was not carried out: 503, or 401
// with a nonce for the proof.
type Transport struct {
	Agent *Agent
	// For says what a request is to be paid with; nil: it is sent as it is. It must not change the request, and reads its body by GetBody alone.
	// A Request without a UserToken is for the user whose token the HTTP request has as its bearer token: that of a client which signed its user in.
	For func(*http.Request) (*Request, error)
	// Ask gets the link for the user who has to be asked; see [Agent.Run].
	Ask func(link string)
	// Base sends; nil: http.DefaultTransport.
	Base http.RoundTripper
}

var _ http.RoundTripper = (*Transport)(nil)

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	want, err := t.For(r)
	if err == nil && want == nil {
		return base.RoundTrip(r)
	}
	paid := Token{}
	if err == nil && want.UserToken == "" {
		own := *want
		own.UserToken = strings.TrimPrefix(r.Header.Get("Authorization"), oauth.Bearer+" ")
		want = &own
	}
	if err == nil {
		paid, err = t.Agent.Run(r.Context(), *want, t.Ask)
	}
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, fmt.Errorf("nothing to pay with: %w", err)
	}
	return pay(base, r, paid)
}

// pay sends a request with its token until it is answered.
func pay(base http.RoundTripper, r *http.Request, with Token) (*http.Response, error) {
	nonce := ""
	for n := 1; ; n++ {
		out := r.Clone(r.Context())
		if n > 1 && r.Body != nil && r.Body != http.NoBody {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			out.Body = body
		}
		if err := with.AuthorizeWith(out, nonce); err != nil {
			return nil, errors.Join(err, closed(out))
		}
		res, err := base.RoundTrip(out)
		if err != nil || n == attempts || r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
			return res, err
		}
		pause, again := unpaid(res, with)
		if !again {
			return res, nil
		}
		_ = res.Body.Close()
		nonce = res.Header.Get("DPoP-Nonce")
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return nil, r.Context().Err()
		}
	}
}

func closed(r *http.Request) error {
	if r.Body == nil {
		return nil
	}
	return r.Body.Close()
}

// unpaid says whether a request can be sent again with the same token, and how soon.
func unpaid(res *http.Response, with Token) (time.Duration, bool) {
	switch res.StatusCode {
	case http.StatusServiceUnavailable:
		if n, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 16); err == nil {
			return time.Duration(n) * time.Second, n <= uint64(max(with.ExpiresIn, 0))
		}
		return 0, false
	case http.StatusUnauthorized:
		wanted := strings.Contains(strings.Join(res.Header.Values("WWW-Authenticate"), ", "), `error="`+string(oauth.UseDPoPNonce)+`"`)
		return 0, wanted && with.TokenType == oauth.DPoP && res.Header.Get("DPoP-Nonce") != ""
	default:
		return 0, false
	}
}

// Call is the call of a tool of an MCP server.
type Call struct {
	Tool      string
	Arguments json.RawMessage
}

// MCPCall reads the call of a tool out of a request to an MCP server, for [Transport].For. Nil: it is no such call.
func MCPCall(r *http.Request) (*Call, error) {
	if r.Method != http.MethodPost || r.Body == nil || r.Body == http.NoBody {
		return nil, nil //nolint:nilnil // no call
	}
	if r.GetBody == nil {
		return nil, errors.New("the request can be read but once")
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	var message struct {
		Method string `json:"method"`
		Params struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"params"`
	}
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(data, &message) != nil || message.Method != "tools/call" {
		return nil, nil //nolint:nilnil // no call: the server says what is wrong with it
	}
	return &Call{Tool: message.Params.Name, Arguments: message.Params.Arguments}, nil
}

// Details are the authorization_details that allow this call and no other.
func (c Call) Details() (json.RawMessage, error) {
	type detail struct {
		Type      string          `json:"type"`
		Tool      string          `json:"tool"`
		Arguments json.RawMessage `json:"arguments"`
	}
	d := detail{Type: "mcp_tool_call", Tool: c.Tool, Arguments: c.Arguments}
	if len(d.Arguments) == 0 {
		d.Arguments = json.RawMessage("{}")
	}
	return json.Marshal([]detail{d})
}
