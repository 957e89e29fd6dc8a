package resource

import (
	"net/http"
	"strings"

	"obolus/oauth"
)

// presented is what came in the headers.
type presented struct {
	scheme string // oauth.Bearer or oauth.DPoP; empty: neither came
	token  string
}

// credentials reads the Authorization header, RFC 6750 section 2.1 and RFC 9449 section 7.1. A token anywhere else is refused or not seen.
func credentials(r *http.Request) (presented, error) {
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return presented{}, badRequest(oauth.ReasonRepeated, "more than one Authorization header", nil)
	}
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		return presented{}, badRequest(oauth.ReasonMalformed, "a token does not belong into the URL", nil)
	}
	if len(headers) == 0 {
		return presented{}, errNoToken
	}
	scheme, value, _ := strings.Cut(headers[0], " ")
	cred := presented{token: strings.TrimLeft(value, " ")}
	switch {
	case strings.EqualFold(scheme, oauth.Bearer):
		cred.scheme = oauth.Bearer
	case strings.EqualFold(scheme, oauth.DPoP):
		cred.scheme = oauth.DPoP
	default:
		return presented{}, errNoToken
	}
	if len(cred.token) > maxToken {
		return cred, invalidToken("the token is too large", nil)
	}
	// What else no token has in it is found out by whoever takes it apart.
	if cred.token == "" || strings.IndexByte(cred.token, ' ') >= 0 || strings.IndexByte(cred.token, ',') >= 0 {
		return cred, badRequest(oauth.ReasonMalformed, "the Authorization header is malformed", nil)
	}
	return cred, nil
}
