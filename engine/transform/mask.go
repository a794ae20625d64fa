package transform

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// maskNode is a masked column. Everything that reads the column after the filter reads this, so that its values are
// computed once a batch and their clear form goes no further. null stays null.
type maskNode struct {
	base
	arg    *columnNode
	m      Mask
	mac    hash.Hash
	serial uint64
	sum    []byte
	text   []byte
}

// tokenDomain keeps tokens apart from what hmac gives for the same value under the same key.
const tokenDomain = "firn.tokenise\x00"

// alphabet is Crockford's base 32 in lower case: no letters that are taken for digits.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

func newMask(arg *columnNode, t valueType, m Mask) *maskNode {
	n := &maskNode{base: base{t: t}, arg: arg, m: m}
	if m.Method == MethodHMAC || m.Method == MethodTokenise {
		n.mac = hmac.New(sha256.New, []byte(m.Key.Reveal()))
	}
	return n
}

// eval masks all rows at once, whichever are asked for.
func (n *maskNode) eval(x *exec, _ []int32) *vec {
	if n.serial == x.serial {
		return &n.out
	}
	n.serial = x.serial
	a, out := n.arg.eval(x, x.all[:x.n]), n.room(x)
	if n.m.Method == MethodRedact && n.t.kind != kindString {
		for i := range out.null {
			out.null[i] = true
		}
		return out
	}
	for i := range int32(x.n) {
		if out.null[i] = a.null[i]; a.null[i] {
			continue
		}
		switch n.m.Method {
		case MethodRedact:
			out.s[i] = n.m.With
		case MethodTruncate:
			out.s[i] = characters(a.s[i], 0, int64(n.m.Length))
		default:
			out.s[i] = n.keyed(x, a, i)
		}
	}
	return out
}

// keyed is the hash or token of a row's value, in the arena.
func (n *maskNode) keyed(x *exec, a *vec, i int32) string {
	n.text = n.text[:0]
	if n.m.Method == MethodTokenise {
		n.text = append(n.text, tokenDomain...)
	}
	n.text = appendText(n.text, a, i, n.arg.t)
	n.mac.Reset()
	n.mac.Write(n.text)
	n.sum = n.mac.Sum(n.sum[:0])
	at := len(x.arena)
	if n.m.KeyID != "" {
		x.arena = append(append(x.arena, n.m.KeyID...), ':')
	}
	if n.m.Method == MethodHMAC {
		x.arena = hex.AppendEncode(x.arena, n.sum)
	} else {
		x.arena = appendToken(x.arena, n.sum, n.m.Length)
	}
	return x.text(at)
}

// appendToken writes length characters of five bits each.
func appendToken(to, sum []byte, length int) []byte {
	var acc, bits uint
	for _, b := range sum {
		acc = acc<<8 | uint(b)
		for bits += 8; bits >= 5; bits -= 5 {
			if length == 0 {
				return to
			}
			length--
			to = append(to, alphabet[acc>>(bits-5)&31])
		}
		acc &= 1<<bits - 1
	}
	return to
}

// maskedType is the type of a column under a mask; ok is false when the method cannot be had for it.
func maskedType(t valueType, m Mask) (_ valueType, ok bool, why string) {
	switch m.Method {
	case MethodRedact:
		return t, true, ""
	case MethodTruncate:
		return t, t.kind == kindString, "only strings are truncated; take redact, or cast a computed column"
	}
	if t.kind == kindBool {
		return t, false, "of two values each is told by its token; take redact, or drop the column"
	}
	return valueType{kind: kindString}, t.kind != kindOther, "only single values have a token; take redact, or drop the column"
}
