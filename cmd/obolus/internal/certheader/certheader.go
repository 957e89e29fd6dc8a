// Package certheader reads the header in which a proxy tells of the certificate that its client showed in the TLS handshake. It reads and no
// more: whether whoever sent the header may be believed, and what the certificate is worth, is for its callers.
package certheader

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// The headers whose form is known by their names: RFC 9440, and Envoy's. Any other holds PEM, encoded as in a URL (nginx), or DER in base64
// (Traefik, Caddy, HAProxy).
const (
	RFC9440 = "Client-Cert"
	Chain   = "Client-Cert-Chain" // beside RFC9440
	Envoy   = "X-Forwarded-Client-Cert"
)

// Read gives the certificate of the client and what it sent beside it; none: it showed none. The name is in canonical form.
func Read(name string, h http.Header) ([]*x509.Certificate, error) {
	values := h.Values(name)
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return nil, nil
	case len(values) > 1:
		return nil, fmt.Errorf("%s is there twice", name)
	}
	var chain []*x509.Certificate
	var err error
	switch name {
	case RFC9440:
		chain, err = fields(values[0], h.Values(Chain))
	case Envoy:
		chain, err = envoy(values[0])
	default:
		chain, err = encoded(values[0])
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return chain, nil
}

// fields reads RFC 9440 section 2: structured fields with DER between colons.
func fields(leaf string, chains []string) ([]*x509.Certificate, error) {
	items := []string{leaf}
	for _, line := range chains {
		items = append(items, strings.Split(line, ",")...)
	}
	var list []*x509.Certificate
	for _, item := range items {
		item = strings.Trim(item, " \t")
		inner, ok := strings.CutPrefix(item, ":")
		inner, end := strings.CutSuffix(inner, ":")
		if !ok || !end {
			return nil, errors.New("not a byte sequence between colons")
		}
		cert, err := fromDER(inner)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	return list, nil
}

// envoy reads the one element that Envoy writes with forward_client_cert_details: SANITIZE_SET. What a client had put before it would be a
// second element.
func envoy(value string) ([]*x509.Certificate, error) {
	pairs, err := elementOf(value)
	if err != nil {
		return nil, err
	}
	leaf, err := encoded(pairs["cert"])
	if err != nil {
		return nil, err
	}
	if len(leaf) != 1 {
		return nil, errors.New("the member Cert holds more than one certificate")
	}
	if pairs["chain"] == "" {
		return leaf, nil
	}
	chain, err := encoded(pairs["chain"])
	if err != nil {
		return nil, err
	}
	if !chain[0].Equal(leaf[0]) {
		return nil, errors.New("the member Chain does not begin with Cert")
	}
	return chain, nil
}

// elementOf takes the one element of X-Forwarded-Client-Cert apart: pairs between semicolons, values perhaps in quotes.
func elementOf(s string) (map[string]string, error) {
	pairs := map[string]string{}
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok || strings.ContainsAny(key, `;,"`) {
			return nil, errors.New("not pairs of keys and values")
		}
		value, after, err := valueOf(rest)
		if err != nil {
			return nil, err
		}
		if key = strings.ToLower(key); pairs[key] != "" && (key == "cert" || key == "chain") {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		pairs[key] = value
		if after != "" && after[0] != ';' {
			return nil, errors.New("more than one element")
		}
		s = strings.TrimPrefix(after, ";")
	}
	return pairs, nil
}

// valueOf reads a value up to a semicolon or a comma, or in quotes.
func valueOf(s string) (value, after string, err error) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, ";,"); i >= 0 {
			return s[:i], s[i:], nil
		}
		return s, "", nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:], nil
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("a quote does not end")
}

// encoded reads PEM that is encoded as in a URL, or DER in base64, one after the other between commas.
func encoded(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, errors.New("not encoded as in a URL")
	}
	var list []*x509.Certificate
	if !strings.HasPrefix(text, "-----BEGIN") {
		for part := range strings.SplitSeq(text, ",") {
			cert, err := fromDER(part)
			if err != nil {
				return nil, err
			}
			list = append(list, cert)
		}
		return list, nil
	}
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("holds something else than certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return list, nil
}

func fromDER(encoded string) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return x509.ParseCertificate(der)
}
