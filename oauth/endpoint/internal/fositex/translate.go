package fositex

import (
	"errors"

	"github.com/ory/fosite"

	"obolus/oauth"
)

// translate turns an error that comes out of fosite into a refusal: a guest's goes through untouched, the few that fosite itself
// can make get words of our own, since its hints are for developers and name what they should not. Anything else is a
// server_error.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*oauth.Error](err); ours {
		return err
	}
	var theirs *fosite.RFC6749Error
	if !errors.As(err, &theirs) {
		return err
	}
	refuse := func(code oauth.Code, reason oauth.Reason, description string) error {
		return &oauth.Error{Code: code, Reason: reason, Description: description, Err: err}
	}
	switch {
	case errors.Is(theirs, fosite.ErrInvalidScope):
		return refuse(oauth.InvalidScope, oauth.ReasonCeilingScope, "the client may not ask for one of the scopes")
	case errors.Is(theirs, fosite.ErrUnsupportedResponseType):
		return refuse(oauth.UnsupportedResponseType, oauth.ReasonResponseType, "the only response_type is code")
	case errors.Is(theirs, fosite.ErrRegistrationNotSupported):
		return refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "registration is not taken here")
	case errors.Is(theirs, fosite.ErrInvalidClient):
		return refuse(oauth.InvalidClient, oauth.ReasonClientAuth, "client authentication failed")
	case errors.Is(theirs, fosite.ErrInvalidRequest):
		return refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "the request is malformed")
	case errors.Is(theirs, fosite.ErrUnauthorizedClient):
		return refuse(oauth.UnauthorizedClient, oauth.ReasonClientGrant, "the client may not do this")
	default:
		return err
	}
}
