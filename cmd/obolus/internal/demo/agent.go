package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"obolus/errand"
	"obolus/token"
)

// agent is a program that acts for people. It has two keys: one says who it is, the other binds its tokens.
type agent struct {
	id     string
	key    *token.SigningKey
	proof  *token.SigningKey
	http   *http.Client
	issuer string
	api    string
}

func newAgent(id string, wire *http.Transport) (*agent, error) {
	a := &agent{id: id, http: &http.Client{Transport: wire, Timeout: 40 * time.Second}}
	var err error
	if a.key, err = token.GenerateKey(token.ES256, rand.Reader); err != nil {
		return nil, err
	}
	a.proof, err = token.GenerateKey(token.ES256, rand.Reader)
	return a, err
}

// answer is what the token endpoint said.
type answer struct {
	status      int
	Token       string `json:"access_token"`
	Error       string `json:"error"`
	Reason      string `json:"reason"`
	Interaction string `json:"interaction_uri"`
	Description string `json:"error_description"`
}

func (a answer) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", a.status, a.Error, a.Reason))
}

// exchange brings a user's token and asks for one that this agent may use: RFC 8693.
func (a *agent) exchange(ctx context.Context, subject, scope string) (answer, error) {
	runner, err := errand.New(errand.Config{Issuer: a.issuer, Agent: a.id, Key: a.key, Bind: a.proof, HTTP: a.http})
	if err != nil {
		return answer{}, err
	}
	t, err := runner.Exchange(ctx, errand.Request{UserToken: subject, Resource: a.api, Scopes: []string{scope}}, 0)
	if no, ok := errors.AsType[*errand.Refusal](err); ok {
		return answer{
			status: no.Status, Error: string(no.Code), Reason: string(no.Reason), Interaction: no.Interaction, Description: no.Description,
		}, nil
	}
	return answer{status: http.StatusOK, Token: t.AccessToken}, err
}

// maxAnswer is as much as is read of an answer.
const maxAnswer = 1 << 20

func ask(client *http.Client, req *http.Request) (answer, error) {
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	got := answer{status: res.StatusCode}
	if len(data) == 0 {
		return got, nil
	}
	if err := json.Unmarshal(data, &got); err != nil {
		return got, fmt.Errorf("answer %d is no JSON: %w", res.StatusCode, err)
	}
	return got, nil
}

// send calls the mail API with a token, and proves to have a key.
func (a *agent) send(ctx context.Context, access string, with *token.SigningKey) (answer, error) {
	at := a.api + "/send"
	proof, err := token.SignProof(with, token.ProofClaims{Method: http.MethodPost, URI: at, AccessToken: access}, time.Now())
	if err != nil {
		return answer{}, err
	}
	body := strings.NewReader(`{"to":"carol@example.com","text":"The meeting is at ten."}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "DPoP "+access)
	req.Header.Set("DPoP", proof)
	return ask(a.http, req)
}
