package endpoint_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzForm: whatever comes through the door is answered with a clean refusal, and never with a token or a failure of the server.
func FuzzForm(f *testing.F) {
	s := newSite(f, nil)
	for _, seed := range []string{
		"", "=", "&", "a=b&a=c", "grant_type=x", "grant_type=" + url.QueryEscape(exchangeGrant) + "&client_id=app",
		"grant_type=authorization_code&client_id=app&code=AAAA&code_verifier=x", "a=%ff", "a=%00", "a;b=c", "resource=x&resource=y",
		"client_assertion=eyJhbGciOiJub25lIn0.e30.&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer",
		"authorization_details=%5B%0A%5D&grant_type=" + url.QueryEscape(exchangeGrant) + "&client_id=app", "token=x&client_id=mail-server&client_secret=secret",
	} {
		for i := range posts {
			f.Add(seed, i)
		}
	}
	f.Fuzz(func(t *testing.T, body string, path int) {
		if path < 0 || path >= len(posts) || len(body) > 4096 {
			return
		}
		r := httptest.NewRequest(http.MethodPost, posts[path], strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, r)
		if w.Code == http.StatusOK || w.Code == http.StatusCreated {
			if strings.Contains(body, "client_secret=secret") || posts[path] == "/revoke" {
				return // a server of the world, or a public client that ends what it does not have
			}
			t.Fatalf("%s %q: %d %s", posts[path], body, w.Code, w.Body)
		}
		var answer struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Error == "" {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		if w.Code >= 500 || !plain.MatchString(answer.Description) || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}

// FuzzAuthorize: an authorization request is never redirected to where its client did not register.
func FuzzAuthorize(f *testing.F) {
	s := codeSite(f, nil)
	for _, uri := range []string{
		"https://app.test/cb", "http://127.0.0.1:1/cb?x=1", "http://127.0.0.1:1@evil.test/cb?x=1", "//evil.test", "http://[::1]:65535/cb", "com.example.app:/cb",
	} {
		f.Add("app", uri, "s")
		f.Add("native", uri, "a&b=c#d")
	}
	f.Fuzz(func(t *testing.T, id, uri, state string) {
		q := ask("client_id", id, "redirect_uri", uri, "state", state)
		r := httptest.NewRequest(http.MethodGet, "/authorize?"+q.Encode(), nil)
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, r)
		location := w.Header().Get("Location")
		if location == "" {
			if w.Code < 400 || w.Code >= 500 {
				t.Fatalf("got %d", w.Code)
			}
			return
		}
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		at := u.Scheme + "://" + u.Hostname() + u.Path
		for _, known := range []string{
			"https://as.test/consent/", "https://app.test/cb", "http://127.0.0.1/cb", "http://::1/cb", "http://localhost/cb", "com.example.app:///cb",
			"https://native.test/cb", "https://narrow.test/cb",
		} {
			if at == known || strings.HasSuffix(known, "/") && strings.HasPrefix(at, known) {
				return
			}
		}
		t.Fatalf("%q %q is sent to %s", id, uri, location)
	})
}
