package oauth

// Reason says why a request was refused, in one stable word: in the ledger for every refusal, and on the wire where
// Error.Tell allows it. docs/errors.md lists them for people; a reason is never renamed.
type Reason string

// The reasons.
const (
	// Form and transport.
	ReasonMalformed     Reason = "malformed_request"
	ReasonRepeated      Reason = "repeated_parameter"
	ReasonMissing       Reason = "missing_parameter"
	ReasonTooLarge      Reason = "too_large"
	ReasonRateLimited   Reason = "rate_limited"
	ReasonGrantType     Reason = "grant_type_unknown"
	ReasonRequestedType Reason = "requested_token_type"

	// Who asks.
	ReasonClientAuth    Reason = "client_authentication"
	ReasonClientGrant   Reason = "client_grant_type"
	ReasonAssertion     Reason = "assertion_invalid"
	ReasonAssertionUsed Reason = "assertion_replayed"
	ReasonProof         Reason = "dpop_proof_invalid"
	ReasonProofUsed     Reason = "dpop_proof_replayed"
	ReasonProofMissing  Reason = "dpop_proof_missing"
	ReasonCertificate   Reason = "client_certificate"
	ReasonWorkload      Reason = "workload_identity"

	// On whose behalf, and by whom.
	ReasonSubject          Reason = "subject_token"
	ReasonSubjectStopped   Reason = "subject_token_revoked"
	ReasonSubjectEntitled  Reason = "subject_not_entitled"
	ReasonSubjectSpent     Reason = "subject_one_transaction"
	ReasonActor            Reason = "actor_token"
	ReasonActorMismatch    Reason = "actor_not_linked"
	ReasonSelfDelegation   Reason = "self_delegation"
	ReasonAgentUnknown     Reason = "agent_unknown"
	ReasonAgentInactive    Reason = "agent_inactive"
	ReasonChainTooDeep     Reason = "chain_too_deep"
	ReasonChainCycle       Reason = "chain_cycle"
	ReasonChainMalformed   Reason = "chain_malformed"
	ReasonChainSplice      Reason = "chain_splice"
	ReasonMayAct           Reason = "may_act"
	ReasonUserStopped      Reason = "user_stopped"
	ReasonUserAuthTooOld   Reason = "user_authentication"
	ReasonSignIn           Reason = "sign_in"
	ReasonDelegateUnlisted Reason = "delegate_not_allowed"

	// Where and what.
	ReasonTarget          Reason = "target_unknown"
	ReasonTargetMissing   Reason = "target_missing"
	ReasonTargetSeveral   Reason = "target_several"
	ReasonCeilingTarget   Reason = "ceiling_resource"
	ReasonCeilingScope    Reason = "ceiling_scope"
	ReasonCeilingDetails  Reason = "ceiling_details"
	ReasonSubjectScope    Reason = "subject_scope"
	ReasonSubjectDetails  Reason = "subject_details"
	ReasonScopeUnknown    Reason = "scope_unknown"
	ReasonScopeMalformed  Reason = "scope_malformed"
	ReasonScopeEmpty      Reason = "scope_empty"
	ReasonDetailsBad      Reason = "details_malformed"
	ReasonDetailsType     Reason = "details_type"
	ReasonDetailsLocation Reason = "details_location"
	ReasonExpired         Reason = "lifetime_over"

	// Consent.
	ReasonNoGrant        Reason = "grant_missing"
	ReasonGrantScope     Reason = "grant_scope"
	ReasonGrantDetails   Reason = "grant_details"
	ReasonGrantExhausted Reason = "grant_exhausted"
	ReasonGrantWithdrawn Reason = "grant_withdrawn"
	ReasonDenied         Reason = "user_denied"
	ReasonPrompts        Reason = "too_many_prompts"

	// Requests that their agent named by an Idempotency-Key.
	ReasonKeyReused     Reason = "idempotency_key_reused"
	ReasonKeyBusy       Reason = "idempotency_key_busy"
	ReasonConsumed      Reason = "transaction_consumed"
	ReasonIndeterminate Reason = "transaction_indeterminate"

	// Guardrails.
	ReasonGuardrail      Reason = "guardrail"
	ReasonGuardrailError Reason = "guardrail_error"

	// Redemption and the state of tokens.
	ReasonRedeemed     Reason = "already_redeemed"
	ReasonMismatch     Reason = "request_mismatch"
	ReasonAudience     Reason = "wrong_audience"
	ReasonKey          Reason = "key_mismatch"
	ReasonTokenExpired Reason = "token_expired"
	ReasonTokenRevoked Reason = "token_revoked"
	ReasonSuperseded   Reason = "token_superseded"
	ReasonTokenUnknown Reason = "token_unknown"
	ReasonEpoch        Reason = "stale_epoch"
	ReasonTokenInvalid Reason = "token_invalid"
	ReasonNotRedeemer  Reason = "not_a_resource_server"
	ReasonForeignToken Reason = "token_of_another_client"

	// The authorization endpoint.
	ReasonRedirect     Reason = "redirect_uri"
	ReasonPKCE         Reason = "pkce"
	ReasonCode         Reason = "code"
	ReasonRequestURI   Reason = "request_uri"
	ReasonResponseType Reason = "response_type"

	// The server itself.
	ReasonStore    Reason = "store_unavailable"
	ReasonInternal Reason = "internal"
)
