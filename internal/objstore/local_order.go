package objstore

import (
	"io/fs"
	"slices"
	"strings"
)

// sortEntries puts directory entries in the order of the keys below them.
func sortEntries(entries []fs.DirEntry) {
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(name(a), name(b)) })
}
