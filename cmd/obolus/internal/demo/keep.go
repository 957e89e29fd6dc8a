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
		{"agents", w.server.Issuer() + "/agents    what Alice's agents did, and the button that stops them"},
		{"sign in", w.alice.id + " with the password " + w.alice.password + " (or " + w.bob.id + ", " + w.bob.password + ")"},
		{"console", w.server.Issuer() + "/console   for operators; the token is in " + cfg.Operators.TokenFile},
		{"keys", w.server.Issuer() + "/.well-known/oauth-authorization-server"},
		{"command", "obolus audit list --follow --server " + w.server.Issuer() + " --token-file " + cfg.Operators.TokenFile},
	} {
		t.say("    %-8s %s", t.paint(faint, l.name), l.text)
	}
	t.say("\nThe agent goes on asking whether it may read Alice's mail. Ctrl-C ends it all.\n")
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
			t.say("    %-8s %s", t.paint(faint, "question"), got.Interaction)
		case got.Token != "":
			t.say("    %-8s the agent has a token; it reads nothing, this is a demo", t.paint(green, "allowed"))
			last = ""
		case got.Error != "" && got.Interaction == "" && got.String() != last:
			last = got.String()
			t.say("    %-8s %s", t.paint(red, "refused"), got)
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
