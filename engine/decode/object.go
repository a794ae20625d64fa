package decode

import (
	"hash/maphash"
)

// space returns the first position at or after p that is not JSON whitespace.
func space(b []byte, p int) int {
	for b[p] == ' ' || b[p] == '\n' || b[p] == '\r' || b[p] == '\t' {
		p++
	}
	return p
}

// object reads the members of an object, from the byte after its brace on, into the struct's columns. It returns the
// position after the closing brace, or -1. A field's column is one longer than the struct's once the field was seen,
// which is how duplicates and absent fields are told without a set.
func (d *JSON) object(o *objectPlan, b []byte, p int) int {
	row, left := o.col.n, len(o.fields)
	if b[p] <= ' ' {
		p = space(b, p)
	}
	if b[p] == '}' {
		return d.endObject(o, row, left, p+1)
	}
	at, from := o.first, -1
	for {
		f := &o.fields[at]
		if load64(b, p)&f.mask == f.head && (f.n <= 8 || f.ends(b, p)) {
			p += f.n
		} else {
			if at, p = d.key(o, b, p, from); p < 0 {
				return -1
			}
			if at < 0 {
				goto next // an ignored field; its value is skipped
			}
			f = &o.fields[at]
		}
		if b[p] <= ' ' {
			p = space(b, p)
		}
		if f.val.col.n != row {
			d.fail(ReasonDuplicateKey, p, "the key is there twice")
			return d.under(f.name)
		}
		if p = d.value(&f.val, b, p); p < 0 {
			return d.under(f.name)
		}
		left--
		from = at
	next:
		if b[p] <= ' ' {
			p = space(b, p)
		}
		if b[p] != ',' {
			if b[p] == '}' {
				return d.endObject(o, row, left, p+1)
			}
			return d.syntax(p, "',' or '}'")
		}
		p++
		if b[p] <= ' ' {
			p = space(b, p)
		}
		if at = o.first; from >= 0 {
			at = o.fields[from].next
		}
	}
}

// endObject closes a struct's value at p: fields that did not come are null, if they may be.
func (d *JSON) endObject(o *objectPlan, row, left, p int) int {
	if left > 0 {
		for i := range o.fields {
			f := &o.fields[i]
			if f.val.col.n != row {
				continue
			}
			if f.required {
				d.fail(ReasonMissingField, p-1, "a required field is missing: %s", f.name)
				return d.under(f.name)
			}
			f.val.col.null()
		}
	}
	o.col.endStruct()
	return p
}

// key reads a key that was not the predicted one, and the colon. It learns what follows the field `from` (-1: what
// comes first). at is -1 for a field that the contract does not have; its value is skipped already.
func (d *JSON) key(o *objectPlan, b []byte, p, from int) (at, end int) {
	if b[p] != '"' {
		return 0, d.syntax(p, "a key")
	}
	keyAt := p
	name, p, lone := d.text(b, p)
	if p < 0 {
		return 0, -1
	}
	if b[p] <= ' ' {
		p = space(b, p)
	}
	if b[p] != ':' {
		return 0, d.syntax(p, "':'")
	}
	p++
	at, known := o.index[string(name)]
	if known && !lone {
		if from >= 0 {
			o.fields[from].next = at
		} else {
			o.first = at
		}
		return at, p
	}
	if o.closed {
		d.fail(ReasonUnknownField, keyAt, "the contract has no such field and says additionalProperties: false")
		return 0, d.under(string(name))
	}
	if o.rest == nil {
		d.unknown++
	}
	if q := d.skip(b, space(b, p), o.depth); q >= 0 {
		if o.rest != nil {
			d.keepMember(o.rest, b[keyAt:q])
		}
		return -1, q
	}
	name, _, _ = d.text(b, keyAt) // again: the failed value may have used the same scratch
	return 0, d.under(string(name))
}

// list reads the elements of an array from the byte after its bracket on.
func (d *JSON) list(v *valuePlan, b []byte, p int) int {
	p = space(b, p)
	if b[p] == ']' {
		v.col.endList()
		return p + 1
	}
	first := v.elem.col.n
	for {
		if p = d.value(v.elem, b, p); p < 0 {
			return d.under(itoa(v.elem.col.n - first))
		}
		if p = space(b, p); b[p] != ',' {
			break
		}
		p = space(b, p+1)
	}
	if b[p] != ']' {
		return d.syntax(p, "',' or ']'")
	}
	v.col.endList()
	return p + 1
}

// mapping reads the members of an object, from the byte after its brace on, as keys and values of a map.
func (d *JSON) mapping(v *valuePlan, b []byte, p int) int {
	keys := v.col.kids[0]
	first := keys.n
	p = space(b, p)
	if b[p] == '}' {
		v.col.endList()
		return p + 1
	}
	for {
		if b[p] != '"' {
			return d.syntax(p, "a key")
		}
		keyAt := p
		name, q, lone := d.text(b, p)
		if q < 0 {
			return -1
		}
		if lone {
			return d.loneSurrogate(keyAt)
		}
		keys.appendBytes(name)
		if p = space(b, q); b[p] != ':' {
			return d.syntax(p, "':'")
		}
		if p = d.value(v.elem, b, space(b, p+1)); p < 0 {
			return d.under(string(keys.bytesAt(keys.n - 1)))
		}
		if p = space(b, p); b[p] != ',' {
			break
		}
		p = space(b, p+1)
	}
	if b[p] != '}' {
		return d.syntax(p, "',' or '}'")
	}
	if i := d.keys.duplicate(keys, first); i >= 0 {
		d.fail(ReasonDuplicateKey, p, "the key is there twice")
		return d.under(string(keys.bytesAt(i)))
	}
	v.col.endList()
	return p + 1
}

func (d *JSON) loneSurrogate(p int) int {
	return d.fail(ReasonInvalidUTF8, p, "the string holds half a surrogate pair, which has no UTF-8 form")
}

func (c *column) bytesAt(i int) []byte { return c.data[c.offs[i]:c.offs[i+1]] }

// keySet finds equal keys of one map in time linear in their number, with memory that is kept for the next.
type keySet struct {
	seed  maphash.Seed
	slots []int32 // index + 1 of a key; open addressing
}

// smallMap is up to how many keys comparing each with each is cheaper than hashing.
const smallMap = 12

// duplicate returns the index of a key from first on that stands there before, -1 when there is none.
func (s *keySet) duplicate(keys *column, first int) int {
	n := keys.n - first
	if n <= smallMap {
		for i := first + 1; i < keys.n; i++ {
			for j := first; j < i; j++ {
				if string(keys.bytesAt(i)) == string(keys.bytesAt(j)) {
					return i
				}
			}
		}
		return -1
	}
	size := 1
	for size < 2*n {
		size *= 2
	}
	if cap(s.slots) < size {
		s.slots = make([]int32, size)
	}
	s.slots = s.slots[:size]
	clear(s.slots)
	for i := first; i < keys.n; i++ {
		key := keys.bytesAt(i)
		at := int(maphash.Bytes(s.seed, key) & uint64(size-1))
		for ; s.slots[at] != 0; at = (at + 1) & (size - 1) {
			if string(keys.bytesAt(int(s.slots[at]-1))) == string(key) {
				return i
			}
		}
		s.slots[at] = int32(i + 1)
	}
	return -1
}
