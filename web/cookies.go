package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"obolus/users"
)

// cookieNames are the cookies of a server. Over https their names begin with __Host-, so that nobody on a neighbouring host
// can set them; servers that share a host by their path have names of their own.
type cookieNames struct {
	session, operator, browser string
	secure                     bool
}

func cookiesFor(scheme, base string) cookieNames {
	prefix, suffix := "", ""
	if scheme == "https" {
		prefix = "__Host-"
	}
	if base != "" {
		sum := sha256.Sum256([]byte(base))
		suffix = "-" + hex.EncodeToString(sum[:4])
	}
	name := func(s string) string { return prefix + "obolus-" + s + suffix }
	return cookieNames{session: name("session"), operator: name("operator"), browser: name("browser"), secure: scheme == "https"}
}

func (s *Server) setCookie(v *visit, name, value string, site http.SameSite) {
	http.SetCookie(v.w, &http.Cookie{ //nolint:gosec // Secure follows the scheme of the issuer
		Name: name, Value: value, Path: "/", Secure: s.cookies.secure, HttpOnly: true, SameSite: site,
	})
}

func (s *Server) dropCookie(v *visit, name string) {
	http.SetCookie(v.w, &http.Cookie{ //nolint:gosec // Secure follows the scheme of the issuer
		Name: name, Path: "/", Secure: s.cookies.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1,
	})
}

// cookie is the value of a cookie that is there exactly once.
func cookie(r *http.Request, name string) string {
	found := r.CookiesNamed(name)
	if len(found) != 1 {
		return ""
	}
	return found[0].Value
}

// recognise finds the browser and who is signed in with it.
func (s *Server) recognise(v *visit) error {
	v.browser = cookie(v.r, s.cookies.browser)
	if raw, err := base64.RawURLEncoding.DecodeString(v.browser); err != nil || len(raw) != sha256.Size {
		v.browser = newSecret()
		s.setCookie(v, s.cookies.browser, v.browser, http.SameSiteLaxMode)
	}
	session, err := s.cfg.Users.Session(v.ctx(), users.Cookie(cookie(v.r, s.cookies.session)))
	switch {
	case errors.Is(err, users.ErrNoSession):
	case err != nil:
		return err
	default:
		v.session, v.signedIn = session, true
	}
	return nil
}

// formFor is the token of a form that is shown before anybody is signed in: only this browser can send it.
func (v *visit) formFor(purpose string) string {
	mac := hmac.New(sha256.New, []byte(v.browser))
	mac.Write([]byte(purpose))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// checkBrowser refuses a form that this browser was not given for the purpose.
func (v *visit) checkBrowser(purpose string) error {
	if !hmac.Equal([]byte(v.field("form")), []byte(v.formFor(purpose))) {
		return staleForm()
	}
	return nil
}

// checkForm refuses a form that this session was not given for the purpose.
func (v *visit) checkForm(session users.Session, purpose string) error {
	if !session.CheckForm(purpose, v.field("form")) {
		return staleForm()
	}
	return nil
}

func staleForm() error {
	return refusal(http.StatusForbidden, "This page is out of date",
		"You have signed in or out since it was shown, or it was shown to somebody else. Nothing was done. Open it again.")
}

// field is a member of the form that is there exactly once.
func (v *visit) field(name string) string {
	values := v.form[name]
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

func newSecret() string {
	raw := make([]byte, sha256.Size)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return strings.TrimRight(base64.RawURLEncoding.EncodeToString(sum[:]), "=")
}
