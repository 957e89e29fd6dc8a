package errand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"obolus/oauth"
)

// Refusal is a refusal of the token endpoint: docs/errors.md.
type Refusal struct { //nolint:errname // the word of the guides
	Status      int
	Code        oauth.Code
	Reason      oauth.Reason
	Description string
	// Interaction is the link for the user who has to be asked, and Interval how long to wait before the same request is repeated.
	Interaction string
	Interval    time.Duration
	// Grantable is what would have been granted of a request that was too wide.
	Grantable json.RawMessage
	// MaxAge is how recently the user must have signed in, if that is the reason.
	MaxAge time.Duration
	// RetryAfter is how long the server wants to be left alone.
	RetryAfter time.Duration
	// Said is the whole answer.
	Said json.RawMessage
}

// ErrUnanswered: the authorization server did not answer. What it did nobody knows.
var ErrUnanswered = errors.New("no answer of the authorization server")

// Error is for the person who runs the agent.
func (r *Refusal) Error() string {
	text := string(r.Code)
	if r.Reason != "" {
		text += " (" + string(r.Reason) + ")"
	}
	if r.Interaction != "" {
		return oauth.Printable(text + ": the user has to allow it at " + r.Interaction)
	}
	text = oauth.Printable(text + ": " + r.Description)
	if len(r.Grantable) > 0 {
		text += "; this would be granted: " + strings.Map(visible, string(r.Grantable))
	}
	return text
}

// visible shows what could move a cursor or turn a line around as a question mark.
func visible(c rune) rune {
	if !strconv.IsPrint(c) {
		return '?'
	}
	return c
}

// transient says whether the same request may be answered otherwise in a moment.
func (r *Refusal) transient() bool {
	busy := r.Status == http.StatusServiceUnavailable || r.Status == http.StatusTooManyRequests || r.Reason == oauth.ReasonKeyBusy
	return busy && r.Code != oauth.AccessDenied
}

const maxAnswer = 1 << 20

// client is the HTTP client for the authorization server: it waits longer than the server holds an answer back, and is blind to redirects, by which
// a token and a credential would go to somebody else.
func client(given *http.Client) *http.Client {
	c := http.Client{}
	if given != nil {
		c = *given
	}
	if c.Timeout == 0 {
		c.Timeout = patience + 30*time.Second
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// Post sends a form to a token endpoint, for grants that an Agent does not know: those of an app. A refusal is a *Refusal.
func Post(ctx context.Context, endpoint string, form url.Values) (oauth.TokenAnswer, error) {
	answer, _, err := post(ctx, client(nil), endpoint, form, http.Header{})
	return answer, err
}

// post gives the answer, and the nonce for the next proof if there is one.
func post(ctx context.Context, c *http.Client, endpoint string, form url.Values, h http.Header) (oauth.TokenAnswer, string, error) {
	none := oauth.TokenAnswer{}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return none, "", err
	}
	req.Header = h
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := c.Do(req)
	if err != nil {
		return none, "", fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	defer func() { _ = res.Body.Close() }()
	nonce := res.Header.Get("DPoP-Nonce")
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return none, nonce, fmt.Errorf("half an answer of the authorization server: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return none, nonce, refused(res, body)
	}
	var answer oauth.TokenAnswer
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		return none, nonce, fmt.Errorf("%s does not answer like a token endpoint", endpoint)
	}
	return answer, nonce, nil
}

// refused reads a refusal.
func refused(res *http.Response, body []byte) error {
	var said struct {
		Code        oauth.Code      `json:"error"`
		Description string          `json:"error_description"`
		Reason      oauth.Reason    `json:"reason"`
		URI         string          `json:"interaction_uri"`
		Interval    int64           `json:"interval"`
		MaxAge      int64           `json:"max_age"`
		Grantable   json.RawMessage `json:"grantable"`
	}
	if json.Unmarshal(body, &said) != nil || said.Code == "" {
		said.Code, said.Description = oauth.ServerError, "the answer was "+res.Status
		body = nil
	}
	r := &Refusal{
		Status: res.StatusCode, Code: said.Code, Reason: said.Reason, Description: said.Description, Interaction: said.URI,
		Interval: time.Duration(said.Interval) * time.Second, MaxAge: time.Duration(said.MaxAge) * time.Second, Grantable: said.Grantable, Said: body,
	}
	if n, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 16); err == nil {
		r.RetryAfter = time.Duration(n) * time.Second
	}
	return r
}
