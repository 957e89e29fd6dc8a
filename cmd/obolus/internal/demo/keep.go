package demo

import (
	"context"
	"net/http"
	"time"

	"obolus/admin"
)

// keep leaves everybody running: the agent is let go on, has a question for Alice, and waits for her answer.
func (w *world) keep(ctx context.Context, t *teller) error {
	call := admin.Call{Method: http.MethodPost, Path: admin.Path("agents", w.agent.id, "resume"), Body: admin.Why{Why: "the demo goes on"}}
	if _, err := w.clerk.Do(ctx, call, nil); err != nil {
		return err
	}
	cfg := w.server.Config()
	t.say("\nEverything is still running, and the agent may act again. Open in a browser:\n")
	for _, l := range []line{
		{"agents", w.server.Issuer() + "/agents : what Alice's agents did, and the button that stops them"},
		{"sign in", w.alice.id + " with the password " + w.alice.password + " (or " + w.bob.id + ", " + w.bob.password + ")"},
		{"console", w.server.Issuer() + "/console : for operators; the token is in " + cfg.Operators.TokenFile},
		{"metadata", w.server.Issuer() + "/.well-known/oauth-authorization-server"},
	} {
		t.line(faint, l)
	}
	t.say("\nTo read along in another terminal:\n\n  obolus audit list --follow --server %s --token-file %s", w.server.Issuer(), cfg.Operators.TokenFile)
	t.say("")
	t.tell("The agent goes on asking whether it may read Alice's mail. Ctrl-C ends it all.")
	t.say("")
	w.nag(ctx, t)
	return nil
}

// nag asks again and again, and tells when the answer changes.
func (w *world) nag(ctx context.Context, t *teller) {
	last := ""
	for ctx.Err() == nil && t.gone == nil {
		got, err := w.agent.exchange(ctx, w.alice.token, "mail.read")
		switch {
		case err != nil:
		case got.Interaction != "" && got.Interaction != last:
			last = got.Interaction
			t.line(faint, line{"question", got.Interaction})
		case got.Token != "":
			t.line(green, line{"allowed", "the agent has a token; it reads nothing, this is a demo"})
			last = ""
		case got.Error != "" && got.Interaction == "" && got.String() != last:
			last = got.String()
			t.line(red, line{"refused", got.String()})
			if got.Reason == "" || got.status == http.StatusBadRequest && got.Error == "invalid_request" {
				_ = w.signIn(ctx, &w.alice)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}
