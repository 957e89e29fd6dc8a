package endpoint

import (
	"html/template"
	"net/http"
	"strings"

	"obolus/oauth"
)

// errorPage tells a person that an application sent a request which cannot go on. It loads nothing and links to nothing.
const errorPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>This request cannot go on</title>
</head>
<body>
<main>
<h1>This request cannot go on</h1>
<p>The application that sent you here made a mistake: {{.Description}}.</p>
<p>You can close this page. If you were in the middle of something, go back to the application and start again; if it
keeps happening, tell those who run it.</p>
<p><small>Error: <code>{{.Code}}</code></small></p>
</main>
</body>
</html>
`

// page answers a person whose browser cannot be sent back to the application.
func page(w http.ResponseWriter, e *oauth.Error) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", "1")
	}
	var text strings.Builder
	t, err := template.New("error").Parse(errorPage)
	if err == nil {
		err = t.Execute(&text, e)
	}
	code := e.Status()
	if code == http.StatusUnauthorized {
		code = http.StatusBadRequest
	}
	if err != nil {
		code = http.StatusInternalServerError
	}
	html(w, code, text.String())
}

// html sends a page that nothing can be put into and that can be put into nothing.
func html(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text))
}
