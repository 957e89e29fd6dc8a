package oauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"obolus/oauth"
)

func TestParseScope(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scope string
		want        []string
		ok          bool
	}{
		{"absent", "", nil, true},
		{"one", "mail.read", []string{"mail.read"}, true},
		{"two", "mail.read mail.send", []string{"mail.read", "mail.send"}, true},
		{"twice the same", "a b a", []string{"a", "b"}, true},
		{"case counts", "A a", []string{"A", "a"}, true},
		{"two spaces", "a  b", nil, false},
		{"a space first", " a", nil, false},
		{"a space last", "a ", nil, false},
		{"a tab", "a\tb", nil, false},
		{"a quote", `a"b`, nil, false},
		{"a backslash", `a\b`, nil, false},
		{"a space that is none", "a\u00a0b", nil, false},
		{"too long a token", strings.Repeat("a", 257), nil, false},
		{"too many", strings.Repeat("a ", 64) + "a", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := oauth.ParseScope(c.scope)
			if ok != c.ok || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%q %v", got, ok)
			}
		})
	}
}

func FuzzParseScope(f *testing.F) {
	f.Add("mail.read mail.send")
	f.Fuzz(func(t *testing.T, s string) {
		scopes, ok := oauth.ParseScope(s)
		if !ok {
			return
		}
		for _, scope := range scopes {
			if !oauth.ValidScope(scope) {
				t.Errorf("%q", scope)
			}
		}
	})
}

func TestAnErrorTellsOnlyWhatItMay(t *testing.T) {
	t.Parallel()
	cause := errors.New("a secret cause")
	foreign := oauth.AsError(cause)
	if foreign.Code != oauth.ServerError || strings.Contains(foreign.Description, "secret") || foreign.Status() != http.StatusInternalServerError {
		t.Errorf("%+v", foreign)
	}
	if !errors.Is(foreign, cause) {
		t.Error("the cause was lost for the log")
	}
	refusal := oauth.Refuse(oauth.InvalidScope, oauth.ReasonCeilingScope, "too much")
	if got := oauth.AsError(fmt.Errorf("wrapped: %w", refusal)); got != refusal || !got.Tell {
		t.Errorf("%+v", got)
	}
	if oauth.Conceal(oauth.InvalidRequest, oauth.ReasonSubject, "no", cause).Tell {
		t.Error("what is concealed is told")
	}
	if u := oauth.Unavailable(cause); u.Status() != http.StatusServiceUnavailable || u.RetryAfter <= 0 {
		t.Errorf("%+v", u)
	}
}

func TestDescriptionsArePrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`say "no"`: "say 'no'", "line\r\nbreak": "", "bäck\\slash": "", "plain ! # [ ] ~": "plain ! # [ ] ~",
	} {
		got := oauth.Printable(in)
		if want != "" && got != want {
			t.Errorf("%q became %q", in, got)
		}
		for i := range len(got) {
			if c := got[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				t.Errorf("%q has %q", got, c)
			}
		}
	}
}

func TestTheStatusOfEachCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[oauth.Code]int{
		oauth.InvalidClient: 401, oauth.InvalidRequest: 400, oauth.InvalidTarget: 400, oauth.InteractionRequired: 400,
		oauth.AlreadyRedeemed: 409, oauth.RequestMismatch: 422, oauth.WrongAudience: 403, oauth.KeyMismatch: 403,
		oauth.TokenExpired: 410, oauth.TokenRevoked: 410, oauth.TokenSuperseded: 410, oauth.TokenUnknown: 410, oauth.StaleEpoch: 410,
		oauth.TemporarilyUnavailable: 503, oauth.ServerError: 500,
	} {
		if got := code.Status(); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
}

func TestAnInteractionCarriesItsLink(t *testing.T) {
	t.Parallel()
	e := oauth.Interaction{URI: "https://as.test/consent/r_1", ExpiresIn: time.Minute, Interval: 2 * time.Second}.Refusal()
	want := map[string]any{"interaction_uri": "https://as.test/consent/r_1", "expires_in": int64(60), "interval": int64(2)}
	if e.Code != oauth.InteractionRequired || e.Status() != 400 || !reflect.DeepEqual(e.Members, want) {
		t.Errorf("%+v", e)
	}
}
