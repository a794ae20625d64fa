package decode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
)

// extra is a column that no field of the contract describes: what an event gives as a whole. Such columns stand behind
// those of the fields and may be null.
type extra struct {
	name string
	what extraKind
}

// extraKind says what an extra column holds.
type extraKind uint8

const (
	extraRest   extraKind = iota // members of the event that no field names
	extraOp                      // of an envelope: what was done to the row
	extraTime                    // when the connector saw it
	extraSource                  // where it was done
	extraKinds
)

// extraColumns are the columns of a table by what they hold; nil for what the contract does not keep.
type extraColumns [extraKinds]*column

func (k extraKind) icebergType() iceberg.Type {
	if k == extraTime {
		return iceberg.PrimitiveTypes.TimestampTz
	}
	return iceberg.PrimitiveTypes.String
}

func (k extraKind) doc() string {
	return [extraKinds]string{
		extraRest:   "members of the event that the schema does not name, as one JSON object",
		extraOp:     "what was done to the row: c created, r read in a snapshot, u updated, d deleted, t all rows truncated",
		extraTime:   "when the connector processed the change",
		extraSource: "where the change was made, as JSON",
	}[k]
}

// extra is the contract's extra column of a name; nil when it has none.
func (c *Contract) extra(name string) *extra {
	for i := range c.extras {
		if c.extras[i].name == name {
			return &c.extras[i]
		}
	}
	return nil
}

// withExtra adds a column. Names are compared as SQL engines do.
func (c *Contract) withExtra(name string, what extraKind) (*Contract, error) {
	if err := checkExtraName(name); err != nil {
		return nil, err
	}
	for _, f := range c.root.fields {
		if strings.EqualFold(f.name, name) {
			return nil, fmt.Errorf("%s has a field %q (#%s): take another name", c.Name, f.name, f.typ.pointer)
		}
	}
	if own, taken := ledger.OwnLike(name); taken {
		return nil, fmt.Errorf("%s is a column that firn writes itself: take another name", own)
	}
	for _, e := range c.extras {
		if strings.EqualFold(e.name, name) {
			return nil, fmt.Errorf("%q is the name of another column already: take another name", e.name)
		}
	}
	out := *c
	out.extras = append(slices.Clip(c.extras), extra{name: name, what: what})
	return &out, nil
}

// maxExtraName bounds the name of a column that the configuration gives, in bytes.
const maxExtraName = 128

func checkExtraName(name string) error {
	if len(name) > maxExtraName {
		return fmt.Errorf("the name has %d bytes, at most %d", len(name), maxExtraName)
	}
	plain := func(r rune) bool {
		return r == '_' || r == '-' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z'
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return fmt.Errorf("%q is no name of a column: take letters, digits, _ and -", name)
	}
	return nil
}

// extraColumn plans the table's column for an extra.
func (pl *planner) extraColumn(e *extra, f iceberg.NestedField, dt arrow.DataType) (*column, error) {
	want := e.what.icebergType()
	if !f.Type.Equals(want) {
		return nil, pl.errorf(f.Name, "the table says %s, and what goes there is a %s (%s): name another column", f.Type, want, e.what.doc())
	}
	if f.Required {
		return nil, pl.errorf(f.Name, "the table requires it, and it may be null (%s); make the column optional", e.what.doc())
	}
	col, err := pl.leaf(dt)
	pl.extras[e.what] = col
	return col, err
}

// WithRest returns the contract with a string column for what it does not name: the members of an event that no field is
// called, in their order and byte for byte, as one JSON object; null where there are none. Only members of the event itself
// are kept, those of structs are read over. Errors wrap ErrContract.
func (c *Contract) WithRest(name string) (*Contract, error) {
	switch {
	case c.root.avro != nil || c.root.proto != nil:
		return nil, fmt.Errorf("%w: rest: only JSON events have members that a schema does not name; take rest out", ErrContract)
	case c.root.closed:
		return nil, fmt.Errorf("%w: rest: %s#/additionalProperties is false, so there is nothing to keep: take one of them out", ErrContract, c.Name)
	}
	out, err := c.withExtra(name, extraRest)
	if err != nil {
		return nil, fmt.Errorf("%w: rest: %w", ErrContract, err)
	}
	return out, nil
}

// keepMember puts a member of the event, key and value, behind those that the rest's column holds of it already. They
// become a value with endRest; until then nobody sees them, so an event that fails leaves nothing. What is kept is never
// longer than the event: each member had a comma or a brace before it there, too.
func (d *JSON) keepMember(col *column, member []byte) {
	dst := col.room(d.kept + 1 + len(member))[d.kept:]
	if dst[0] = ','; d.kept == 0 {
		dst[0] = '{'
	}
	d.kept += 1 + copy(dst[1:], member)
}

// endRest closes the object that keepMember began, or appends null.
func (d *JSON) endRest(col *column) {
	if d.kept == 0 {
		col.null()
		return
	}
	col.room(d.kept + 1)[d.kept] = '}'
	col.endBytes(d.kept + 1)
}
