package names_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"obolus/agents/names"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text, want string
	}{
		{"plain", "Calendar Agent", ""},
		{"accents", "Zoë’s Café Agent", ""},
		{"punctuation", "Acme – travel & expenses (v2.1)", ""},
		{"one other script", "Помощник", ""},
		{"one other script, Greek", "Βοηθός", ""},
		{"Japanese with Latin", "東京 カレンダー Bot", ""},
		{"Korean with Latin", "서울 Bot", ""},
		{"Hindi", "सहायक", ""},
		{"Latin with a Cyrillic а", "P\u0430ypal", "Cyrillic and Latin"},
		{"Latin with a Greek ο", "G\u03bf\u03bfgle", "Greek and Latin"},
		{"Cyrillic with Greek", "\u043f\u03bf", "Cyrillic and Greek"},
		{"right-to-left override", "evil\u202Egpj.exe", "U+202E"},
		{"zero width space", "Pay\u200Bpal", "U+200B"},
		{"zero width joiner", "Pay\u200Dpal", "U+200D"},
		{"soft hyphen", "Pay\u00ADpal", "U+00AD"},
		{"newline", "Pay\npal", "U+000A"},
		{"NUL", "Pay\x00pal", "U+0000"},
		{"markup", "<b>Pay</b>", "<"},
		{"fullwidth letters", "\uff30\uff41\uff59pal", "compatibility"},
		{"ligature", "\ufb01le", "compatibility"},
		{"decomposed", "Zoe\u0308", "compatibility"},
		{"no-break space", "Pay\u00A0pal", "compatibility"},
		{"space at the end", "Paypal ", "space"},
		{"two spaces", "Pay  pal", "space"},
		{"emoji", "Bot 🤖", "🤖"},
		{"nothing but signs", "---", "no letter"},
		{"a mark with nothing to stand on", "\u0301a", "U+0301"},
		{"empty", "", "empty"},
		{"long", strings.Repeat("a", 65), "longer"},
		{"no UTF-8", "a\xff", "UTF-8"},
		{"tag characters", "a\U000E0041", "U+E0041"},
		{"Hangul filler", "a\u3164b", "compatibility"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := names.Check(c.text)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, names.ErrName) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if c.name != "a mark with nothing to stand on" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to tell of %q", err, c.want)
			}
		})
	}
}

func TestSkeleton(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b string }{
		{"Paypal", "PАУРАL"}, // Cyrillic А У Р А
		{"Paypal", "Рaypal"},
		{"PayPal", "PayPaI"},
		{"paypal", "pay-pal"},
		{"Paypal", "PAYPAL"},
		{"Paypal", "Pay\u200Bpal"},
		{"Paypal", "\uff30aypal"},
		{"Paypal", "Páypal"},
		{"Google", "G00gle"},
		{"Google", "Gοοgle"}, // Greek
		{"modern", "modem"},
		{"Claude", "Cl\u0430ude"},
		{"scope", "ѕсоре"}, // all Cyrillic
		{"TAXI", "ТАХІ"},
	} {
		if names.Skeleton(c.a) != names.Skeleton(c.b) {
			t.Errorf("%q (%s) and %q (%s) look alike", c.a, names.Skeleton(c.a), c.b, names.Skeleton(c.b))
		}
	}
	for _, c := range []struct{ a, b string }{
		{"Calendar Agent", "Calendar Keeper"}, {"Помощник", "Помощь"}, {"東京", "京都"}, {"Travel 2", "Travel 7"},
	} {
		if names.Skeleton(c.a) == names.Skeleton(c.b) {
			t.Errorf("%q and %q are told apart", c.a, c.b)
		}
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"plain", 10, "plain"},
		{"evil\u202Egpj", 20, "evil⟨U+202E⟩gpj"},
		{"a\u200Bb", 20, "a⟨U+200B⟩b"},
		{"a\nb\tc", 20, "a⟨U+000A⟩b⟨U+0009⟩c"},
		{"no\u00A0break", 20, "no⟨U+00A0⟩break"},
		{"a\xffb", 20, "a\uFFFDb"},
		{"abcdef", 3, "abc…"},
		{"abc", 3, "abc"},
		{"z" + strings.Repeat("\u0301", 50), 10, "z\u0301\u0301"},
		{"\U000E0041", 5, "⟨U+E0041⟩"},
		{"\u3164", 5, "⟨U+3164⟩"},
		{"\ue000", 5, "⟨U+E000⟩"},
	} {
		if got := names.Visible(c.text, c.limit); got != c.want {
			t.Errorf("Visible(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func TestVisibleIsBoundedAndPlain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		got := names.Visible(text, limit)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > limit*11+1 {
			t.Fatalf("%q is not bounded", got)
		}
		if again := names.Visible(got, 1000); again != got {
			t.Fatalf("%q shows as %q, and that as %q", text, got, again)
		}
	})
}

func TestHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, want string }{
		{"https://Example.com/x", "example.com"},
		{"https://example.com:8443/", "example.com:8443"},
		{"https://p\u0430ypal.com/", "xn--pypal-4ve.com"},
		{"http://[::1]:80/", "[::1]:80"},
		{"http://127.0.0.1:1234/cb", "127.0.0.1:1234"},
		{"com.example.app:/cb", ""},
		{"not an address", ""},
		{"https://user@evil.example/", "evil.example"},
	} {
		if got := names.Host(c.address); got != c.want {
			t.Errorf("Host(%q) = %q, want %q", c.address, got, c.want)
		}
	}
}

func FuzzSkeleton(f *testing.F) {
	f.Add("Paypal")
	f.Add("ѕсоре\u202e")
	f.Add("crnlvvv")
	f.Add("\xc9\xf6ȍ")
	f.Fuzz(func(t *testing.T, name string) {
		s := names.Skeleton(name)
		if again := names.Skeleton(s); again != s {
			t.Fatalf("%q has the skeleton %q, which has the skeleton %q", name, s, again)
		}
	})
}
