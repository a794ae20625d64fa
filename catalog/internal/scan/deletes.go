package scan

import (
	"cmp"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/firnlake/firn/internal/datafile"
)

// deleteIndex finds the delete files that apply to a data file, by the rules of the table spec's scan planning.
type deleteIndex struct {
	vectors map[string]*file   // by data file
	paths   map[string][]*file // position deletes of one data file
	groups  map[string][]*file // position deletes of one partition
	equal   map[string][]*file // equality deletes of one partition, by rising sequence number
	global  []*file            // equality deletes of all partitions, by rising sequence number
}

func newDeleteIndex(deletes []*file, specs map[int]*partitionSpec) *deleteIndex {
	x := &deleteIndex{vectors: map[string]*file{}, paths: map[string][]*file{}, groups: map[string][]*file{}, equal: map[string][]*file{}}
	for _, d := range deletes {
		switch {
		case d.content == iceberg.EntryContentEqDeletes && specs[d.spec].global():
			x.global = append(x.global, d)
		case d.content == iceberg.EntryContentEqDeletes:
			x.equal[d.group()] = append(x.equal[d.group()], d)
		case d.vector():
			if have := x.vectors[d.references]; have == nil || have.sequence < d.sequence {
				x.vectors[d.references] = d
			}
		case d.target() != "":
			x.paths[d.target()] = append(x.paths[d.target()], d)
		default:
			x.groups[d.group()] = append(x.groups[d.group()], d)
		}
	}
	rising := func(a, b *file) int { return cmp.Compare(a.sequence, b.sequence) }
	slices.SortStableFunc(x.global, rising)
	for _, list := range x.equal {
		slices.SortStableFunc(list, rising)
	}
	return x
}

// of lists the delete files of a data file: equality deletes are of later snapshots only, position deletes and deletion
// vectors also of its own. A deletion vector holds what the position deletes before it held.
func (x *deleteIndex) of(f *file) (out []*file) {
	later := func(list []*file) []*file {
		i, _ := slices.BinarySearchFunc(list, f.sequence+1, func(d *file, seq int64) int { return cmp.Compare(d.sequence, seq) })
		return list[i:]
	}
	out = append(out, later(x.global)...)
	if len(x.equal) == 0 && len(x.groups) == 0 && len(x.paths) == 0 && len(x.vectors) == 0 {
		return out
	}
	group := f.group()
	out = append(out, later(x.equal[group])...)
	if v := x.vectors[f.path]; v != nil && v.sequence >= f.sequence {
		return append(out, v)
	}
	for _, d := range x.paths[f.path] {
		if d.sequence >= f.sequence {
			out = append(out, d)
		}
	}
	for _, d := range x.groups[group] {
		if d.sequence >= f.sequence && d.mayNamePath(f.path) {
			out = append(out, d)
		}
	}
	return out
}

// target is the one data file that a position delete file is for: the one that it refers to, or, as its bounds tell, the
// only one that it names. Iceberg's own libraries ask for no equal partition then.
func (f *file) target() string {
	if f.references != "" {
		return f.references
	}
	if c, ok := f.column(datafile.DeletePathID); ok && c.lower != nil && string(c.lower) == string(c.upper) {
		return string(c.lower)
	}
	return ""
}

// mayNamePath tells whether a position delete file can have rows for a data file. Bounds may be cut short; they are
// bounds all the same.
func (f *file) mayNamePath(path string) bool {
	c, ok := f.column(datafile.DeletePathID)
	if !ok {
		return true
	}
	return (c.lower == nil || string(c.lower) <= path) && (c.upper == nil || string(c.upper) >= path)
}
