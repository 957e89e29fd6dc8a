package resource

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"obolus/oauth"
	"obolus/token"
)

// Profile is what a resource server says of itself.
type Profile struct {
	Name          string   // for people
	Documentation string   // URL
	Scopes        []string // that it understands
	DetailsTypes  []string // of authorization_details
}

const wellKnown = "/.well-known/oauth-protected-resource"

// metadataURL is where the metadata lies, RFC 9728 section 3.1: the well-known path between host and path. Empty: the resource is no URL.
func metadataURL(cfg Config) string {
	u, err := url.Parse(cfg.Resource)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	out := u.Scheme + "://" + u.Host + wellKnown + path
	if u.RawQuery != "" {
		out += "?" + u.RawQuery
	}
	return out
}

// ProtectedResourcePath is the path at which [Guard.ProtectedResource] is served, such as
// /.well-known/oauth-protected-resource/mcp for the resource https://api.example.com/mcp.
func (g *Guard) ProtectedResourcePath() string {
	u, err := url.Parse(g.metadata)
	if err != nil || u.Path == "" {
		return wellKnown
	}
	return u.Path
}

// ProtectedResource serves the protected resource metadata of RFC 9728, by which a client finds the authorization server.
func (g *Guard) ProtectedResource() http.Handler {
	doc := struct {
		Resource      string   `json:"resource"`
		Servers       []string `json:"authorization_servers"`
		Scopes        []string `json:"scopes_supported,omitempty"`
		Methods       []string `json:"bearer_methods_supported"`
		Name          string   `json:"resource_name,omitempty"`
		Documentation string   `json:"resource_documentation,omitempty"`
		DetailsTypes  []string `json:"authorization_details_types_supported,omitempty"`
		ProofAlgs     []string `json:"dpop_signing_alg_values_supported"`
		RequireDPoP   bool     `json:"dpop_bound_access_tokens_required"`
	}{
		Resource: g.cfg.Resource, Servers: []string{g.cfg.Issuer}, Scopes: g.cfg.Profile.Scopes, Methods: []string{"header"},
		Name: g.cfg.Profile.Name, Documentation: g.cfg.Profile.Documentation, DetailsTypes: g.cfg.Profile.DetailsTypes,
		ProofAlgs: token.ProofAlgorithms(), RequireDPoP: g.cfg.RequireDPoP,
	}
	body, err := json.Marshal(doc)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
		case err != nil:
			g.Refuse(w, oauth.AsError(err))
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "public, max-age=300")
			w.Header().Set("Access-Control-Allow-Origin", "*")
			_, _ = w.Write(body)
		}
	})
}
