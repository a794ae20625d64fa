package auth

import (
	"fmt"

	"github.com/invopop/jsonschema"
)

// Level is how much a principal may do. Each includes those before it.
type Level int

// The levels.
const (
	None   Level = iota // not even know that it is there
	List                // see the name
	Read                // load a table, a view, a namespace's properties
	Write               // commit
	Manage              // create, drop, rename, register, change a namespace's properties
)

var levelNames = [...]string{None: "none", List: "list", Read: "read", Write: "write", Manage: "manage"}

func (l Level) String() string {
	if l < None || l > Manage {
		return fmt.Sprintf("level %d", int(l))
	}
	return levelNames[l]
}

// UnmarshalText reads list, read, write or manage.
func (l *Level) UnmarshalText(text []byte) error {
	for i := List; i <= Manage; i++ {
		if string(text) == levelNames[i] {
			*l = i
			return nil
		}
	}
	return fmt.Errorf("%q is no level: take list, read, write or manage", text)
}

// MarshalText prints it as UnmarshalText reads it.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// JSONSchema describes the words for editors.
func (Level) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Enum: []any{List.String(), Read.String(), Write.String(), Manage.String()}}
}

// node is a place in the tree of names that grants name. The root stands for everything.
type node struct {
	below     Level // on the namespace and all in it
	namespace Level // on the namespace alone
	table     Level // on the table or view of that name
	children  map[string]*node
}

func (n *node) at(parts []string) *node {
	for _, p := range parts {
		c := n.children[p]
		if c == nil {
			c = &node{}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[p] = c
		}
		n = c
	}
	return n
}

func (n *node) add(g Grant) {
	switch {
	case g.All:
		n.below = max(n.below, g.Allow)
	case g.Below != nil:
		m := n.at(g.Below)
		m.below = max(m.below, g.Allow)
	case g.Namespace != nil:
		m := n.at(g.Namespace)
		m.namespace = max(m.namespace, g.Allow)
	case g.Table != nil:
		m := n.at(g.Table)
		m.table = max(m.table, g.Allow)
	}
}

// find returns the node of a name, nil when no grant leads there, and the highest level that below gives on it or on a
// namespace around it.
func (n *node) find(parts []string) (*node, Level) {
	level := n.below
	for _, p := range parts {
		if n = n.children[p]; n == nil {
			return nil, level
		}
		level = max(level, n.below)
	}
	return n, level
}

// Rights are what a principal may do: the union of its roles. The zero value may do nothing.
type Rights struct{ roles []*node }

// Everything is the rights of one who may do all.
func Everything() Rights { return Rights{[]*node{{below: Manage}}} }

// newRights makes the rights of one role.
func newRights(grants []Grant) *node {
	root := &node{}
	for _, g := range grants {
		root.add(g)
	}
	return root
}

// Overall is the level on everything there is and will be.
func (r Rights) Overall() (l Level) {
	for _, root := range r.roles {
		l = max(l, root.below)
	}
	return l
}

// Namespace is the level on a namespace itself.
func (r Rights) Namespace(ns []string) (l Level) {
	for _, root := range r.roles {
		n, below := root.find(ns)
		l = max(l, below)
		if n != nil {
			l = max(l, n.namespace)
		}
	}
	return l
}

// Table is the level on a table or a view; the last part is its own name.
func (r Rights) Table(id []string) (l Level) {
	if len(id) == 0 {
		return None
	}
	ns, name := id[:len(id)-1], id[len(id)-1]
	for _, root := range r.roles {
		n, below := root.find(ns)
		l = max(l, below)
		if n == nil {
			continue
		}
		if t := n.children[name]; t != nil { // its below is about a namespace that has the same name
			l = max(l, t.table)
		}
	}
	return l
}

// Sees tells whether the principal may know that a namespace is there: it has a level on it or on something in it.
func (r Rights) Sees(ns []string) bool {
	for _, root := range r.roles {
		if n, below := root.find(ns); below >= List || n != nil && (n.namespace >= List || len(n.children) > 0) {
			return true
		}
	}
	return false
}

// Creates tells whether the principal may make the table or view id: it manages the name, or the namespace around it.
func (r Rights) Creates(id []string) bool {
	return len(id) > 1 && (r.Table(id) >= Manage || r.Namespace(id[:len(id)-1]) >= Manage)
}

// CreatesNamespace is Creates for a namespace. One at the top needs a grant on its own name, or on everything.
func (r Rights) CreatesNamespace(ns []string) bool {
	return len(ns) > 0 && (r.Namespace(ns) >= Manage || len(ns) > 1 && r.Namespace(ns[:len(ns)-1]) >= Manage)
}
