package resource_test

import (
	"encoding/json"
	"fmt"
	"log" //nolint:depguard // an example ends as a main does
	"net/http"
	"net/http/httptest"
	"strings"

	"obolus/resource"
)

// A mail server in whole: one guard, one rule, one handler. The rule holds each mail against what the user allowed; the transaction is paid for
// last, so a mail that is refused costs the agent nothing, and a token sends one mail however often it is shown.
func Example() {
	is := newIssuer(example{})
	defer is.server.Close()
	key := testKey(example{}) // its public part is registered for the client "mail"
	is.keys = append(is.keys, key.Public())
	pem, err := key.PEM()
	if err != nil {
		log.Fatal(err)
	}

	guard, err := resource.New(resource.Config{
		Issuer:   is.server.URL,
		Resource: api,
		Client:   resource.PrivateKeyPEM("mail", pem),
	})
	if err != nil {
		log.Fatal(err)
	}
	rule := resource.Rule{
		Scopes: []string{"mail.send"},
		Details: func(r *http.Request, granted []resource.Detail) error {
			var mail, allowed struct{ To string }
			if err := json.NewDecoder(r.Body).Decode(&mail); err != nil {
				return err
			}
			for _, d := range granted {
				if d.Type == "mail" && d.Into(&allowed) == nil && allowed.To == mail.To {
					return nil
				}
			}
			return resource.NoDetail("the user did not allow a mail to " + mail.To)
		},
	}
	mux := http.NewServeMux()
	mux.Handle(guard.ProtectedResourcePath(), guard.ProtectedResource())
	mux.Handle("POST /mail/send", guard.Require(rule)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := resource.CallerFrom(r.Context())
		fmt.Fprintf(w, "%s sends a mail for %s", caller.Agent, caller.User)
		if err := caller.Commit(r.Context()); err != nil {
			log.Print(err)
		}
	})))

	// The agent has exchanged its user's token for one that is good for one mail to bob.
	token := is.token(once, details(`[{"type":"mail","to":"bob"}]`))
	for _, to := range []string{"eve", "bob", "bob"} {
		r := httptest.NewRequest(http.MethodPost, "/mail/send", strings.NewReader(`{"to":"`+to+`"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(to, w.Code, w.Body)
	}
	// Output:
	// eve 403 {"error":"insufficient_scope","error_description":"the user did not allow a mail to eve"}
	// bob 200 agent-a sends a mail for alice
	// bob 401 {"error":"invalid_token","error_description":"the token has been used"}
}

// example stands in for a test.
type example struct{}

func (example) Helper()           {}
func (example) Error(args ...any) { log.Print(args...) }
func (example) Fatal(args ...any) { log.Fatal(args...) }
func (example) Cleanup(func())    {}
