package token

import "bytes"

// derOf writes an ECDSA signature as the standard library reads it: a sequence of two integers in DER, of the two numbers of fixed
// length that stand in a JWS (RFC 7518 section 3.4).
func derOf(signature []byte) []byte {
	const sequence = 0x30
	half := len(signature) / 2
	out := append(make([]byte, 0, len(signature)+8), sequence, 0)
	out = appendInteger(appendInteger(out, signature[:half]), signature[half:])
	out[1] = byte(len(out) - 2) //nolint:gosec // 70 at most
	return out
}

// appendInteger writes a number that is not negative: as short as it can be, but with a zero in front where its first bit is set.
func appendInteger(out, number []byte) []byte {
	const integer = 0x02
	number = bytes.TrimLeft(number, "\x00")
	size := byte(len(number)) //nolint:gosec // 32 at most
	if size == 0 || number[0] >= 0x80 {
		return append(append(out, integer, size+1, 0), number...)
	}
	return append(append(out, integer, size), number...)
}
