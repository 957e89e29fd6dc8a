package operator

import (
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
	"strings"
	"time"

	"obolus/admin"
	"obolus/errand"
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
	answer, err := errand.Post(ctx, c.Server+"/token", url.Values{
		"grant_type": {string(oauth.GrantAuthorizationCode)}, "client_id": {c.Client}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier},
	})
	if err != nil {
		return c.unanswered(err)
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

// Run exchanges the token as an agent does. Without time to wait it tells the link and no more.
func (c *TokenExchange) Run(ctx context.Context, stage Stage) error {
	if err := isServer(c.Server); err != nil {
		return err
	}
	key, subject, err := c.files(stage.In)
	if err != nil {
		return err
	}
	agent, err := errand.New(errand.Config{Issuer: c.Server, Agent: c.Agent, Key: key, Now: stage.Now})
	if err != nil {
		return err
	}
	r := errand.Request{UserToken: subject, Resource: c.Resource, Scopes: c.Scope, Details: json.RawMessage(c.Details)}
	if c.Wait <= 0 {
		t, err := agent.Exchange(ctx, r, 0)
		return c.show(stage, t, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	t, err := agent.Run(ctx, r, func(link string) {
		fmt.Fprintf(stage.Err, "The user has to allow it. Open this in a browser:\n\n  %s\n\n", printable(link))
	})
	return c.show(stage, t, err)
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

func (c *TokenExchange) show(stage Stage, t errand.Token, err error) error {
	no, told := errors.AsType[*errand.Refusal](err)
	switch {
	case told && c.JSON && no.Said != nil:
		return errors.Join(err, pretty(stage.Out, no.Said))
	case told && no.Code == oauth.InvalidClient:
		return fmt.Errorf("%w: no agent is registered as %s, or the key in %s is none of its keys", err, c.Agent, c.Key)
	case err != nil:
		return c.unanswered(err)
	case c.JSON:
		return pretty(stage.Out, t.TokenAnswer)
	default:
		fmt.Fprintln(stage.Out, t.AccessToken)
		return nil
	}
}

func pretty(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// unanswered says where a server was looked for that does not answer.
func (i Issuer) unanswered(err error) error {
	if !errors.Is(err, errand.ErrUnanswered) {
		return err
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	return fmt.Errorf("%w at %s: %w; --server says where one is", admin.ErrNoServer, i.Server, err)
}
