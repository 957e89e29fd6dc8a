package endpoint

import (
	"html/template"
	"net/http"
	"strings"

	"obolus/oauth"
)

// explained is a reason and what it means for who gets it.
type explained struct {
	Reason oauth.Reason
	Means  string
}

// explanations are the reasons that a refusal may name, and those that only the ledger has.
func explanations() []explained {
	return append(append(requestReasons(), grantReasons()...), tokenReasons()...)
}

func requestReasons() []explained {
	return []explained{
		{oauth.ReasonMalformed, "The request is not formed as it must be. The description says where."},
		{oauth.ReasonRepeated, "A parameter is there twice. Only resource and audience may repeat, and only in a token exchange or for one resource."},
		{oauth.ReasonMissing, "A parameter is missing."},
		{oauth.ReasonTooLarge, "The request, or a token in it, is larger than this server reads: 64 KiB and 16 KiB."},
		{oauth.ReasonRateLimited, "Too many requests. Wait as long as Retry-After says."},
		{oauth.ReasonGrantType, "The grant_type is not served. The metadata lists those that are."},
		{oauth.ReasonRequestedType, "Only access tokens are issued: leave requested_token_type out, or name that type."},
		{oauth.ReasonClientAuth, "The client could not prove who it is."},
		{oauth.ReasonClientGrant, "The client is not registered for this grant type."},
		{oauth.ReasonAssertion, "The client assertion is not valid: its aud is this issuer alone, iss and sub are the client, it has a jti, and it ends within five minutes."},
		{oauth.ReasonAssertionUsed, "The client assertion was used before, or is older than the server's memory. Sign a new one for each request."},
		{oauth.ReasonProof, "The DPoP proof is not valid for this request, or is by another key than the token."},
		{oauth.ReasonProofUsed, "The DPoP proof was used before. Make a new one for each request."},
		{oauth.ReasonProofMissing, "A DPoP proof is needed: the client is registered for DPoP, or a token in the request is bound to a key."},
		{oauth.ReasonCertificate, "A client certificate is needed, or the one of the connection is not that of the token or of the client."},
		{oauth.ReasonWorkload, "The token of the workload is not valid here, or is not that of the client: its aud is this issuer alone, and its subject and claims are those that are registered."},
		{oauth.ReasonSubject, "The subject token cannot be used. Why is only in the ledger, as for the following ones."},
		{oauth.ReasonSubjectStopped, "The subject token was revoked, or something that it depends on was stopped."},
		{oauth.ReasonSubjectEntitled, "The subject token was not issued for this agent to use."},
		{oauth.ReasonSubjectSpent, "The subject token is for one transaction, and this agent did not redeem it."},
		{oauth.ReasonActor, "The actor token cannot be used."},
		{oauth.ReasonActorMismatch, "The actor token names somebody else than the agent that asks."},
		{oauth.ReasonSelfDelegation, "Subject and actor are the same."},
		{oauth.ReasonAgentUnknown, "There is no such agent."},
		{oauth.ReasonAgentInactive, "The agent is not active. Its operator decides that."},
		{oauth.ReasonChainTooDeep, "The chain of actors would be longer than allowed."},
		{oauth.ReasonChainCycle, "The agent is in the chain of actors already."},
		{oauth.ReasonChainMalformed, "The chain of actors in the subject token cannot be read."},
		{oauth.ReasonChainSplice, "The agent is not the next hop of the subject token's chain of actors."},
		{oauth.ReasonMayAct, "The subject token says that another party may act."},
		{oauth.ReasonUserStopped, "The user was stopped, or was signed out everywhere and has to sign in again."},
		{oauth.ReasonUserAuthTooOld, "The user signed in too long ago, or in another way than the target asks. Have the user sign in again."},
		{oauth.ReasonSignIn, "The sign-in failed, or did not take place."},
		{oauth.ReasonDelegateUnlisted, "The agent may not hand on to that agent."},
	}
}

func grantReasons() []explained {
	return []explained{
		{oauth.ReasonTarget, "The target is not a registered resource, or not written as it is registered."},
		{oauth.ReasonTargetMissing, "Neither resource nor audience was sent, and the agent has no default."},
		{oauth.ReasonTargetSeveral, "A token is for one resource. Ask once for each."},
		{oauth.ReasonCeilingTarget, "The agent is not registered for the target."},
		{oauth.ReasonCeilingScope, "A scope is above what the agent or client may ever ask for."},
		{oauth.ReasonCeilingDetails, "The authorization_details are above what the agent may ever ask for."},
		{oauth.ReasonSubjectScope, "A scope is not in the subject token."},
		{oauth.ReasonSubjectDetails, "The authorization_details are not within those of the subject token."},
		{oauth.ReasonScopeUnknown, "A scope is not one of the resource."},
		{oauth.ReasonScopeMalformed, "scope is a list of tokens with one space between them; case matters."},
		{oauth.ReasonScopeEmpty, "Nothing is left of the request within what is allowed."},
		{oauth.ReasonDetailsBad, "The authorization_details are not what their type allows. The description names the entry and the member."},
		{oauth.ReasonDetailsType, "That type of authorization_details is not registered, or not for this agent at this resource."},
		{oauth.ReasonDetailsLocation, "The authorization_details name another location than the target."},
		{oauth.ReasonExpired, "The token would be over before it could be used: something that it depends on is about to end."},
		{oauth.ReasonNoGrant, "The user has not been asked yet. Show interaction_uri to the user and repeat the same request."},
		{oauth.ReasonGrantScope, "The user allowed less than these scopes. Ask for the missing ones by themselves to have the user asked."},
		{oauth.ReasonGrantDetails, "The user allowed less than these authorization_details."},
		{oauth.ReasonGrantExhausted, "What the user allowed is used up. Repeat the request in a few seconds to have the user asked."},
		{oauth.ReasonGrantWithdrawn, "The user has taken the consent back."},
		{oauth.ReasonDenied, "The user said no."},
		{oauth.ReasonPrompts, "The user was asked too often. Wait before asking again."},
		{oauth.ReasonKeyReused, "The Idempotency-Key was used for another request. Choose a new one for each request."},
		{oauth.ReasonKeyBusy, "A request with this Idempotency-Key is being answered. Repeat it in a moment."},
		{oauth.ReasonConsumed, "The token that was issued under this Idempotency-Key has been used. There is no second one."},
		{oauth.ReasonIndeterminate, "It is not certain whether the token that was issued under this Idempotency-Key was used. There is no second one."},
		{oauth.ReasonGuardrail, "A guardrail of the operator forbids it."},
		{oauth.ReasonGuardrailError, "A guardrail of the operator could not be evaluated, which forbids it."},
	}
}

func tokenReasons() []explained {
	return []explained{
		{oauth.ReasonRedeemed, "The transaction was redeemed before, in another redemption."},
		{oauth.ReasonMismatch, "The redemption_id was used for another request: each request has its own."},
		{oauth.ReasonAudience, "The token is for another resource server."},
		{oauth.ReasonKey, "The token is bound to another key."},
		{oauth.ReasonTokenExpired, "The token has expired."},
		{oauth.ReasonTokenRevoked, "The token, or something that it depends on, was stopped."},
		{oauth.ReasonSuperseded, "Another token was issued for the same transaction, and counts."},
		{oauth.ReasonTokenUnknown, "The token or transaction is not known, or not any more."},
		{oauth.ReasonEpoch, "The token is from before the server last lost its memory. Get a new one."},
		{oauth.ReasonTokenInvalid, "The token is not one of this server's, or was changed."},
		{oauth.ReasonNotRedeemer, "The client is none of the resource's servers."},
		{oauth.ReasonForeignToken, "The token was issued to another client."},
		{oauth.ReasonRedirect, "The redirect_uri is not registered for the client, or not the one of the authorization request."},
		{oauth.ReasonPKCE, "PKCE with S256 is required, and the verifier must be that of the challenge."},
		{oauth.ReasonCode, "The code cannot be used: it is good for a minute, once, for the client it was issued to."},
		{oauth.ReasonRequestURI, "The request_uri is not known, was used, or is over. Push the request again."},
		{oauth.ReasonResponseType, "The only response_type is code."},
		{oauth.ReasonStore, "The server cannot decide right now. Repeat the request; nothing was lost."},
		{oauth.ReasonInternal, "The server met an unexpected condition. Its log says which."},
	}
}

const reasonsPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Reasons of refusals</title>
</head>
<body>
<main>
<h1>Reasons of refusals</h1>
<p>A refusal has a code of OAuth in <code>error</code>. Where telling is no risk it also has one of these words in
<code>reason</code>; the operators' ledger always has.</p>
<dl>
{{range .}}<dt id="{{.Reason}}"><code>{{.Reason}}</code></dt>
<dd>{{.Means}}</dd>
{{end}}</dl>
</main>
</body>
</html>
`

// reasons is where error_uri leads.
func (s *Server) reasons(w http.ResponseWriter, _ *http.Request) error {
	t, err := template.New("reasons").Parse(reasonsPage)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.Execute(&text, explanations()); err != nil {
		return err
	}
	html(w, http.StatusOK, text.String())
	return nil
}
