package endpoint

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"obolus/agents"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/details"
)

// before refuses what fosite would take, or would refuse in another way than this server must.
func (a *authorization) before() error {
	f := a.form
	switch {
	case f.repeated != "":
		return repeated(f.repeated)
	case !slices.Contains(a.client.GrantTypes, oauth.GrantAuthorizationCode):
		return &oauth.Error{
			Code: oauth.UnauthorizedClient, Reason: oauth.ReasonClientGrant, Description: "the client is not registered for the authorization code",
		}
	case f.get("request") != "":
		return &oauth.Error{Code: oauth.RequestNotSupported, Reason: oauth.ReasonMalformed, Description: "request objects are not taken"}
	case f.get("request_uri") != "":
		return &oauth.Error{
			Code: oauth.RequestURINotSupported, Reason: oauth.ReasonRequestURI, Description: "the only request_uri is one that was pushed",
		}
	case f.get("response_type") == "":
		return missing("response_type")
	case f.get("response_mode") != "" && f.get("response_mode") != "query":
		return malformed("the only response_mode is query")
	}
	for _, name := range []string{"actor_token", "subject_token", "client_secret", "client_assertion"} {
		if f.get(name) != "" {
			return malformed(name + " does not belong into an authorization request")
		}
	}
	if _, ok := oauth.ParseScope(f.get("scope")); !ok {
		return &oauth.Error{
			Code: oauth.InvalidScope, Reason: oauth.ReasonScopeMalformed,
			Description: "scope is not a list of scope tokens with one space between them",
		}
	}
	return nil
}

// request makes the authorization request that a user will be asked about, of a form whose client, redirect URI, response type
// and scopes fosite has let pass.
func (a *authorization) request(ctx context.Context, scopes []string) (authcode.Request, error) {
	f := a.form
	r := authcode.Request{
		ClientID: a.client.ID, RedirectURI: a.redirect, State: f.get("state"), Scopes: scopes, Challenge: f.get("code_challenge"), MaxAge: -1,
	}
	if err := checkChallenge(f); err != nil {
		return r, err
	}
	var err error
	if r.JKT, err = a.key(); err != nil {
		return r, err
	}
	if err := a.signIn(&r); err != nil {
		return r, err
	}
	res, err := a.s.audience(ctx, f.list("resource"))
	if err != nil {
		return r, err
	}
	r.Resource = a.s.uri(res)
	if err := a.s.scopesOf(ctx, res, scopes); err != nil {
		return r, err
	}
	if r.Details, err = a.details(res); err != nil {
		return r, err
	}
	if len(scopes) == 0 && r.Details == nil {
		return r, &oauth.Error{
			Code: oauth.InvalidScope, Reason: oauth.ReasonScopeEmpty, Description: "neither scope nor authorization_details says what is wanted",
		}
	}
	return r, nil
}

// checkChallenge demands a challenge of RFC 7636 by S256, of every client.
func checkChallenge(f form) error {
	bad := func(description string) error {
		return &oauth.Error{Code: oauth.InvalidRequest, Reason: oauth.ReasonPKCE, Description: description}
	}
	switch {
	case f.get("code_challenge") == "":
		return bad("code_challenge is missing: PKCE is required")
	case f.get("code_challenge_method") != "S256":
		return bad("the only code_challenge_method is S256")
	case !isDigest(f.get("code_challenge")):
		return bad("the code_challenge is not a SHA-256 digest in base64url")
	default:
		return nil
	}
}

// isDigest says whether s is 256 bits in base64url.
func isDigest(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == 32 && len(s) == 43
}

// key is the DPoP key that the code is bound to, if any: RFC 9449 section 10.
func (a *authorization) key() (string, error) {
	jkt := a.form.get("dpop_jkt")
	switch {
	case jkt == "":
		return a.jkt, nil
	case !isDigest(jkt):
		return "", malformed("dpop_jkt is not a SHA-256 thumbprint in base64url")
	case a.jkt != "" && a.jkt != jkt:
		return "", errProof("the DPoP proof is by another key than dpop_jkt", nil)
	default:
		return jkt, nil
	}
}

// signIn reads how the user must have signed in: OpenID Connect Core section 3.1.2.1.
func (a *authorization) signIn(r *authcode.Request) error {
	if s := a.form.get("max_age"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 1<<30 || strings.Trim(s, "0123456789") != "" {
			return malformed("max_age is not a number of seconds")
		}
		r.MaxAge = n
	}
	r.Prompt = a.form.get("prompt")
	prompts := strings.Fields(r.Prompt)
	for _, p := range prompts {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) || p == "none" && len(prompts) > 1 {
			return malformed("prompt is none, or some of login, consent and select_account")
		}
	}
	asked := strings.Fields(a.form.get("acr_values"))
	if len(asked) == 0 {
		return nil
	}
	for _, acr := range asked {
		if slices.Contains(a.s.cfg.Settings.ACRValues, acr) && !slices.Contains(r.ACRValues, acr) {
			r.ACRValues = append(r.ACRValues, acr)
		}
	}
	if len(r.ACRValues) == 0 {
		return &oauth.Error{
			Code: oauth.UnmetAuthRequirements, Reason: oauth.ReasonUserAuthTooOld, Description: "no sign-in here meets acr_values",
		}
	}
	return nil
}

// scopesOf holds scopes to those of the resource or, when none was named, of any resource.
func (s *Server) scopesOf(ctx context.Context, res agents.Resource, scopes []string) error {
	known := func(scope string) bool { _, ok := res.Scopes[scope]; return ok }
	if res.ID == "" && len(scopes) > 0 {
		all, err := s.resources(ctx)
		if err != nil {
			return err
		}
		known = func(scope string) bool {
			return slices.ContainsFunc(all, func(r agents.Resource) bool { _, ok := r.Scopes[scope]; return ok && !r.Disabled })
		}
	}
	for _, scope := range scopes {
		if !known(scope) {
			return &oauth.Error{
				Code: oauth.InvalidScope, Reason: oauth.ReasonScopeUnknown, Description: oauth.Printable("scope " + scope + " is not known"),
			}
		}
	}
	return nil
}

// resources lists every registered resource.
func (s *Server) resources(ctx context.Context) ([]agents.Resource, error) {
	var all []agents.Resource
	after := ""
	for {
		page, err := s.cfg.Registry.Resources(ctx, after, 500)
		if err != nil {
			return nil, oauth.Unavailable(err)
		}
		all = append(all, page...)
		if len(page) < 500 {
			return all, nil
		}
		after = page[len(page)-1].ID
	}
}

// details reads authorization_details, of types that the client and the resource are registered for and at no other place than the
// resource: RFC 9396 sections 2 and 5.
func (a *authorization) details(res agents.Resource) ([]byte, error) {
	asked := a.form.get("authorization_details")
	if asked == "" {
		return nil, nil
	}
	set, err := a.s.cfg.Details.Parse([]byte(asked))
	if err != nil {
		return nil, errDetails(err)
	}
	for _, name := range set.Types() {
		mine := len(a.client.DetailTypes) == 0 || slices.Contains(a.client.DetailTypes, name)
		if !mine || res.ID != "" && !slices.Contains(res.Details, name) {
			return nil, &oauth.Error{
				Code: oauth.InvalidAuthorizationDetails, Reason: oauth.ReasonDetailsType,
				Description: oauth.Printable("authorization_details of type " + name + " are not for this client at this resource"),
			}
		}
	}
	return set.JSON(), a.located(set, res)
}

func (a *authorization) located(set details.Set, res agents.Resource) error {
	if res.ID == "" || a.s.cfg.Details.CheckTarget(set, res.URI, res.Aliases) == nil {
		return nil
	}
	return &oauth.Error{
		Code: oauth.InvalidAuthorizationDetails, Reason: oauth.ReasonDetailsLocation,
		Description: "authorization_details name another location than the resource",
	}
}
