package operator

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"obolus/admin"
	"obolus/oauth"
	"obolus/token"
)

// Issuer is the flag of the commands that play an app or an agent, which need no operator's token.
type Issuer struct {
	Server string `default:"http://127.0.0.1:8420" env:"OBOLUS_SERVER" help:"The issuer."`
}

// TokenLogin is `obolus token login`: the app's part of an errand.
type TokenLogin struct {
	Issuer
	Client   string        `help:"The app: a public client with the redirect URI http://127.0.0.1/callback." placeholder:"ID" required:""`
	Resource string        `help:"The API that the app wants a token for; left out, for the issuer itself." placeholder:"URI"`
	Scope    []string      `help:"What the app wants to do; may be repeated." required:"" sep:" "`
	Timeout  time.Duration `default:"5m" help:"How long to wait for the browser."`
}

// Help teaches by example.
func (TokenLogin) Help() string {
	return `Prints a link for a browser, waits for the person who signs in there, and prints the person's token.

Examples:

  obolus token login --client app --scope mail.send > alice.token
  obolus token login --client app --resource https://mail.example.com --scope "mail.read mail.send" > alice.token`
}

// Run signs a person in by the authorization code flow with PKCE, RFC 6749 section 4.1, RFC 7636 and RFC 8252 section 7.3.
func (c *TokenLogin) Run(ctx context.Context, stage Stage) error {
	if err := isServer(c.Server); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	redirect := "http://" + listener.Addr().String() + "/callback"
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	ask := url.Values{
		"response_type": {"code"}, "client_id": {c.Client}, "redirect_uri": {redirect}, "scope": {strings.Join(c.Scope, " ")}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	if c.Resource != "" {
		ask.Set("resource", c.Resource)
	}
	fmt.Fprintf(stage.Err, "Open this in a browser, and sign in:\n\n  %s/authorize?%s\n\n", c.Server, ask.Encode())
	code, err := comeBack(ctx, listener, state, c.Server)
	if err != nil {
		return err
	}
	answer, err := c.ask(ctx, url.Values{
		"grant_type": {string(oauth.GrantAuthorizationCode)}, "client_id": {c.Client}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier},
	}, nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(stage.Out, answer.AccessToken)
	return nil
}

// comeBack waits for the browser to come back with a code.
func comeBack(ctx context.Context, listener net.Listener, state, issuer string) (string, error) {
	type outcome struct {
		code string
		err  error
	}
	came := make(chan outcome, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/callback" || q.Get("state") != state || q.Get("iss") != issuer {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		out := outcome{code: q.Get("code")}
		if out.code == "" {
			out.err = fmt.Errorf("the server said %s: %s", q.Get("error"), q.Get("error_description"))
		}
		select {
		case came <- out:
		default:
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "Done. You can close this page and go back to the terminal.\n")
	})}
	go func() { _ = server.Serve(listener) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	select {
	case out := <-came:
		return out.code, out.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return "", errors.New("nobody signed in")
		}
		return "", errors.New("nobody came back from the browser in time: if its page told of a mistake, that is to be mended; else run this again, --timeout says how long to wait")
	}
}

// TokenExchange is `obolus token exchange`: the agent's part of an errand.
type TokenExchange struct {
	Issuer
	Agent    string        `help:"The agent." placeholder:"ID" required:""`
	Key      string        `help:"The agent's private key, PEM." placeholder:"FILE" required:"" type:"existingfile"`
	Subject  string        `help:"The file with the user's token; - is the standard input." placeholder:"FILE" required:""`
	Resource string        `help:"The one API that the token is for; left out, the agent's default." placeholder:"URI"`
	Scope    []string      `help:"What the agent wants to do; left out, what the user allowed." sep:" "`
	Details  string        `help:"authorization_details, RFC 9396." name:"authorization-details" placeholder:"JSON"`
	Wait     time.Duration `default:"5m" help:"How long to wait for the user's consent; 0 to be told the link and no more."`
	JSON     bool          `help:"Print the whole answer." name:"json"`
}

// Help teaches by example.
func (TokenExchange) Help() string {
	return `Exchanges a user's token as the agent would. When the user has not been asked yet it prints the link to the question, and waits.

Examples:

  obolus token exchange --agent helper --key helper.pem --subject alice.token --resource https://mail.example.com --scope mail.send
  obolus token exchange --agent helper --key helper.pem --subject alice.token --wait 0 --json`
}

// Run exchanges the token, RFC 8693 section 2.
func (c *TokenExchange) Run(ctx context.Context, stage Stage) error {
	if err := isServer(c.Server); err != nil {
		return err
	}
	key, subject, err := c.files(stage.In)
	if err != nil {
		return err
	}
	shown := ""
	for until := stage.Now().Add(c.Wait); ; {
		assertion, err := token.SignAssertion(key, c.Agent, c.Server, stage.Now())
		if err != nil {
			return err
		}
		form := url.Values{
			"grant_type": {string(oauth.GrantTokenExchange)}, "subject_token": {subject}, "subject_token_type": {string(oauth.TypeAccessToken)},
			"client_id": {c.Agent}, "client_assertion_type": {oauth.AssertionJWT}, "client_assertion": {assertion},
		}
		for name, value := range map[string]string{"resource": c.Resource, "scope": strings.Join(c.Scope, " "), "authorization_details": c.Details} {
			if value != "" {
				form.Set(name, value)
			}
		}
		left := until.Sub(stage.Now())
		patience := time.Duration(0) // the link is shown before anything is waited for
		if shown != "" {
			patience = max(min(left, 30*time.Second), 0)
		}
		answer, err := c.ask(ctx, form, http.Header{"Prefer": {"wait=" + strconv.Itoa(int(patience/time.Second))}})
		waiting, asked := errors.AsType[*refusal](err)
		if !asked || waiting.URI == "" || left <= 0 {
			return c.show(stage, answer, err)
		}
		if waiting.URI != shown {
			shown = waiting.URI
			fmt.Fprintf(stage.Err, "The user has to allow it. Open this in a browser:\n\n  %s\n\n", shown)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(max(waiting.Interval, 1)) * time.Second):
		}
	}
}

func (c *TokenExchange) files(in io.Reader) (*token.SigningKey, string, error) {
	pem, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, "", err
	}
	key, err := token.ParsePrivateKeyPEM(pem, "")
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", c.Key, err)
	}
	subject, err := c.subject(in)
	if err == nil && (subject == "" || strings.Trim(subject, tokenLetters) != "") {
		err = usage("--subject: %s holds no token", c.Subject)
	}
	return key, subject, err
}

// tokenLetters are those of a JWT; any other token that can be exchanged has no others.
const tokenLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/="

func (c *TokenExchange) subject(in io.Reader) (string, error) {
	if c.Subject == "-" {
		return given{Token: "-"}.read(in)
	}
	data, err := os.ReadFile(c.Subject)
	if err != nil {
		return "", usage("--subject: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func (c *TokenExchange) show(stage Stage, answer oauth.TokenAnswer, err error) error {
	no, told := errors.AsType[*refusal](err)
	switch {
	case told && c.JSON:
		return errors.Join(err, pretty(stage.Out, no.said))
	case told && no.Code == string(oauth.InvalidClient):
		return fmt.Errorf("%w: no agent is registered as %s, or the key in %s is none of its keys", err, c.Agent, c.Key)
	case err != nil:
		return err
	case c.JSON:
		return pretty(stage.Out, answer)
	default:
		fmt.Fprintln(stage.Out, answer.AccessToken)
		return nil
	}
}

func pretty(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// refusal is a refusal of the token endpoint.
type refusal struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	Reason      string `json:"reason"`
	URI         string `json:"interaction_uri"`
	Interval    int    `json:"interval"`
	// Grantable is what would have been granted of a request that was too wide.
	Grantable json.RawMessage `json:"grantable"`

	said json.RawMessage // all of it
}

// Error is for the person at the terminal.
func (r *refusal) Error() string {
	text := r.Code
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	if r.URI != "" {
		return text + ": the user has to allow it at " + r.URI
	}
	text += ": " + r.Description
	if len(r.Grantable) > 0 {
		text += "; this would be granted: " + string(r.Grantable)
	}
	return printable(text)
}

// ask posts a form to the token endpoint.
func (i Issuer) ask(ctx context.Context, form url.Values, header http.Header) (oauth.TokenAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.Server+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return oauth.TokenAnswer{}, err
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{Timeout: 90 * time.Second}
	res, err := client.Do(req)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if err != nil {
		return oauth.TokenAnswer{}, fmt.Errorf("%w at %s: %w; --server says where one is", admin.ErrNoServer, i.Server, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return oauth.TokenAnswer{}, err
	}
	if res.StatusCode == http.StatusOK {
		var answer oauth.TokenAnswer
		return answer, json.NewDecoder(bytes.NewReader(body)).Decode(&answer)
	}
	no := refusal{said: body}
	if json.Unmarshal(body, &no) != nil || no.Code == "" {
		return oauth.TokenAnswer{}, fmt.Errorf("%s answered %s", i.Server, res.Status)
	}
	return oauth.TokenAnswer{}, &no
}
