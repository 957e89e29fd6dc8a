package policy

import (
	"encoding/json"
	"strings"

	"obolus/audit"
	"obolus/oauth"
)

// Past makes an Input of an event in the ledger, if guardrails had their say in it. The ledger has no labels, owners and sign-ins, and
// of the target only the URI: who replays adds what else is to count, as it is today.
func Past(e audit.Event) (Input, bool) {
	in := Input{
		ClientID: e.Client, Now: e.At, Chain: e.Chain, Agent: Agent{ID: e.Actor}, User: User{ID: e.User},
		Target: Target{ID: e.Target, URI: e.Target}, Consent: Consent{ID: e.Grant}, Scopes: strings.Fields(e.GrantedScope),
	}
	asked := e.GrantedDetails
	if !e.Allowed && e.Kind == audit.KindExchange { // what was refused was granted nothing; a token that cannot be redeemed was
		in.Scopes, asked = strings.Fields(e.AskedScope), e.AskedDetails
	}
	switch e.Kind {
	case audit.KindExchange:
		in.Stage = Exchange
	case audit.KindRedeem:
		in.Stage = Redeem
	default:
		return Input{}, false
	}
	if !e.Allowed && e.Reason != oauth.ReasonGuardrail && e.Reason != oauth.ReasonGuardrailError {
		return Input{}, false
	}
	if len(asked) > 0 && json.Unmarshal(asked, &in.Details) != nil {
		return Input{}, false
	}
	return in, in.check() == nil
}
