package resource

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"obolus/oauth"
	"obolus/oauth/strict"
)

// ahead is a body of which the beginning was read.
type ahead struct {
	start []byte
	whole bool          // start is all of it
	more  io.ReadCloser // the rest
	at    int
}

// ErrBodyTooLarge is what a function of a [Rule] meets when it reads beyond Config.MaxBody.
var ErrBodyTooLarge = errors.New("the body is larger than what is read before the handler")

// Read is for the functions of a rule: they get what was read, and an error where there is more.
func (a *ahead) Read(p []byte) (int, error) {
	if a.at < len(a.start) {
		n := copy(p, a.start[a.at:])
		a.at += n
		return n, nil
	}
	if a.whole {
		return 0, io.EOF
	}
	return 0, ErrBodyTooLarge
}

// Close does nothing: the body is read again.
func (a *ahead) Close() error { return nil }

// rest is for the handler: the whole body.
func (a *ahead) rest() io.ReadCloser {
	if a.more == nil {
		return http.NoBody
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(a.start), a.more), a.more}
}

// rewind gives the next function of a rule the body from its beginning.
func rewind(r *http.Request) {
	if a, ok := r.Body.(*ahead); ok {
		a.at = 0
	}
}

// readAhead reads the beginning of the body, if the token or the rule needs it.
func (g *Guard) readAhead(r *http.Request, c *Caller) error {
	if !c.OneTransaction && !c.rule.readsBody() {
		return nil
	}
	if r.Body == nil || r.Body == http.NoBody {
		c.body = &ahead{whole: true}
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(r.Body, g.cfg.MaxBody+1))
	if err != nil {
		return badRequest(oauth.ReasonMalformed, "the body cannot be read", err)
	}
	c.body = &ahead{start: start, whole: int64(len(start)) <= g.cfg.MaxBody, more: r.Body}
	r.Body = c.body
	return nil
}

// oneThing refuses bodies that would ask for more than one thing, or for one that different parsers read differently.
func (c *Caller) oneThing(r *http.Request) error {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return &oauth.Error{
			Code: oauth.InvalidRequest, Reason: oauth.ReasonMalformed, HTTPStatus: http.StatusUnsupportedMediaType,
			Description: "a body under a one-transaction token is not encoded",
		}
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(c.body.start, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(text) > 0 && text[0] == '[' && !c.rule.Arrays {
		return badRequest(oauth.ReasonMalformed, "a one-transaction token does not pay for a batch", nil)
	}
	if !isJSON(r) || len(text) == 0 {
		return nil
	}
	if !c.body.whole {
		return &oauth.Error{
			Code: oauth.InvalidRequest, Reason: oauth.ReasonTooLarge, HTTPStatus: http.StatusRequestEntityTooLarge,
			Description: "the JSON document is too large",
		}
	}
	if err := strict.Check(c.body.start, strict.Limits{Depth: maxDepth}); err != nil {
		return badRequest(oauth.ReasonMalformed, "the body is not acceptable JSON", err)
	}
	return nil
}

const maxDepth = 64

// isJSON says whether the body is declared as JSON, RFC 8259 or a +json type of RFC 6839.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// digestOf computes the request_hash of a redemption. It binds one redemption_id to one request; what a user
// allowed is bound by authorization_details.
func (c *Caller) digestOf(r *http.Request) error {
	if !c.OneTransaction {
		return nil
	}
	var sum [sha256.Size]byte
	if c.rule.Digest != nil {
		data, err := c.rule.Digest(r)
		rewind(r)
		if err != nil {
			return forbidden(err)
		}
		sum = sha256.Sum256(data)
	} else {
		body, err := c.body.canonical(r)
		if err != nil {
			return badRequest(oauth.ReasonMalformed, "the body is not acceptable JSON", err)
		}
		h := sha256.New()
		fmt.Fprintf(h, "%s\n%s?%s\n", r.Method, requestPath(r), r.URL.RawQuery)
		h.Write(body)
		h.Sum(sum[:0])
	}
	c.digest = "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	return nil
}

// canonical gives a body in the one form that all spellings of the same JSON have: names sorted, no space, numbers as they were
// written. Any other body is taken as it is, as far as it was read.
func (a *ahead) canonical(r *http.Request) ([]byte, error) {
	if len(a.start) == 0 || !isJSON(r) {
		return a.start, nil
	}
	return sorted(a.start)
}
