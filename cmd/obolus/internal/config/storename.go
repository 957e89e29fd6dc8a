package config

import (
	"net/url"
	"strings"
)

// StoreName is a store's address without what may be secret in it.
func StoreName(address string) string {
	kind, _, _ := strings.Cut(address, ":")
	if kind == "bolt" || kind == "memory" {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return kind
	}
	return kind + "://" + u.Host + u.Path
}
