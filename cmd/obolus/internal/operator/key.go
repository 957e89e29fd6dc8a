package operator

import (
	"context"
	"io"
	"net/http"

	"obolus/admin"
	"obolus/keys"
)

// KeyCommand is `obolus key`.
type KeyCommand struct {
	Connection

	List     KeyList     `cmd:"" help:"List the keys that sign tokens."`
	Rotate   KeyRotate   `cmd:"" help:"Make a new key to sign with."`
	Withdraw KeyWithdraw `cmd:"" help:"Take a leaked key away, and every token it signed."`
}

// Help teaches by example.
func (KeyCommand) Help() string {
	return `Examples:

  obolus key list
  obolus key rotate
  obolus key withdraw 3mXk9w --why "it was in a backup"`
}

// KeyList is `obolus key list`.
type KeyList struct{}

// Help teaches by example.
func (KeyList) Help() string { return "Examples:\n\n  obolus key list" }

// Run prints the keys.
func (c *KeyList) Run(ctx context.Context, s *Session) error {
	list, _, err := get[admin.KeyList](ctx, s, "/keys")
	if err != nil {
		return err
	}
	return s.print(list, func(w io.Writer) {
		row(w, "KID", "ALGORITHM", "STATUS", "MADE", "SIGNS FROM", "REPLACED")
		for _, k := range list.Keys {
			row(w, k.ID, k.Alg, k.Status, clock(k.Created), clock(k.Active), clock(k.Replaced))
		}
	})
}

// KeyRotate is `obolus key rotate`.
type KeyRotate struct {
	Algorithm string `help:"ES256, EdDSA, PS256 or RS256; the server's default if not said." placeholder:"ALG"`
}

// Help teaches by example.
func (KeyRotate) Help() string {
	return `The new key is published before it signs, and the old one after it has signed its last, so nobody notices.

Examples:

  obolus key rotate
  obolus key rotate --algorithm PS256`
}

// Run makes the key.
func (c *KeyRotate) Run(ctx context.Context, s *Session) error {
	var k keys.Info
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodPost, Path: "/keys/rotate", Body: admin.Rotation{Algorithm: c.Algorithm}}, &k); err != nil {
		return err
	}
	if s.json {
		return s.print(k, nil)
	}
	s.say("The key %s (%s) signs from %s.", k.ID, k.Alg, clock(k.Active))
	return nil
}

// KeyWithdraw is `obolus key withdraw`.
type KeyWithdraw struct {
	KID string `arg:"" help:"The key's id." name:"kid"`
	Why string `help:"For the ledger." placeholder:"TEXT"`
	Yes bool   `help:"Do not ask." short:"y"`
}

// Help teaches by example.
func (KeyWithdraw) Help() string {
	return "Examples:\n\n  obolus key withdraw 3mXk9w --why \"it was in a backup\" --yes"
}

// Run takes the key away.
func (c *KeyWithdraw) Run(ctx context.Context, s *Session) error {
	if err := s.confirm(c.Yes, "Every token that the key "+c.KID+" signed ends now."); err != nil {
		return err
	}
	if err := s.do(ctx, http.MethodPost, admin.Path("keys", c.KID, "withdraw"), admin.Why{Why: c.Why}); err != nil {
		return err
	}
	s.say("The key %s and the tokens it signed are worthless.", c.KID)
	return nil
}
