package exchange

import (
	"strings"

	"obolus/audit"
	"obolus/oauth"
	"obolus/oauth/details"
)

// ask is a request after its own form was checked: step 1.
type ask struct {
	Request
	scopes  []string // nil: none was given
	details details.Set
	targets []string
}

// parse checks what RFC 8693 section 2.1 says of the parameters themselves.
func (x *Exchange) parse(r Request, event *audit.Event) (ask, error) {
	a := ask{Request: r, targets: append(append([]string(nil), r.Resources...), r.Audiences...)}
	event.Target = clip(strings.Join(a.targets, " "))
	event.AskedScope = clip(r.Scope)
	if err := checkTypes(r); err != nil {
		return a, err
	}
	for _, uri := range r.Resources {
		if err := checkResource(uri); err != nil {
			return a, err
		}
	}
	scopes, ok := oauth.ParseScope(r.Scope)
	if !ok {
		return a, errScope()
	}
	a.scopes = scopes
	if r.Details == "" {
		return a, nil
	}
	set, err := x.cfg.Details.Parse([]byte(r.Details))
	if err != nil {
		return a, &oauth.Error{
			Code: oauth.InvalidAuthorizationDetails, Reason: oauth.ReasonDetailsBad, Tell: true,
			Description: oauth.Printable("authorization_details: " + clip(err.Error())), Err: err,
		}
	}
	a.details = set
	event.AskedDetails = set.JSON()
	return a, nil
}

// checkTypes holds the tokens and their types together.
func checkTypes(r Request) error {
	missing := func(name string) error {
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMissing, name+" is missing")
	}
	switch {
	case r.SubjectToken == "":
		return missing("subject_token")
	case r.SubjectTokenType == "":
		return missing("subject_token_type")
	case r.ActorToken != "" && r.ActorTokenType == "":
		return missing("actor_token_type")
	case r.ActorToken == "" && r.ActorTokenType != "":
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "actor_token_type without actor_token")
	case r.ActorToken == r.SubjectToken:
		return errSubject(oauth.ReasonSelfDelegation, nil)
	case r.RequestedTokenType != "" && r.RequestedTokenType != oauth.TypeAccessToken:
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonRequestedType, "requested_token_type: only access_token is issued")
	default:
		return nil
	}
}

func errScope() error {
	return oauth.Refuse(oauth.InvalidScope, oauth.ReasonScopeMalformed, "scope is not a list of scope tokens with one space between them")
}

// errSubject is the one answer to everything that is wrong with a subject token, so that nobody learns what.
func errSubject(reason oauth.Reason, cause error) error {
	return oauth.Conceal(oauth.InvalidRequest, reason, "the subject token cannot be used", cause)
}

// errActor is the one answer to everything that is wrong with an actor token.
func errActor(reason oauth.Reason, cause error) error {
	return oauth.Conceal(oauth.InvalidRequest, reason, "the actor token cannot be used", cause)
}

// profile says it in the words of RFC 8693 alone, if the operator wants that.
func (x *Exchange) profile(err error) error {
	refusal := oauth.AsError(err)
	if !x.cfg.Settings.PlainErrors || refusal.Code != oauth.ActorUnauthorized {
		return err
	}
	plain := *refusal
	plain.Code = oauth.InvalidRequest
	return &plain
}

func clip(s string) string { return s[:min(len(s), 1024)] }
