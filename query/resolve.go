package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/firnlake/firn/catalog"
)

// maxListedTables bounds the names that are looked through for one that was not given in full.
const maxListedTables = 10_000

// namesTTL is how long the list of tables answers for names; one that is not found is looked for in a new list.
const namesTTL = 30 * time.Second

// names is the tables of the catalog as they were listed last.
type names struct {
	mu  sync.Mutex
	ids []catalog.Identifier
	at  time.Time
}

var errAmbiguous = errors.New("several tables have that name")

// table finds the table that a name means. found is false when there is none.
func (s *Service) table(ctx context.Context, parts []string) (id catalog.Identifier, found bool, err error) {
	s.names.mu.Lock()
	ids, at := s.names.ids, s.names.at
	s.names.mu.Unlock()
	if age := s.now().Sub(at); age >= 0 && age < namesTTL {
		if id, found, err = resolve(ids, parts); found {
			return id, true, err
		}
	}
	ids, err = s.listTables(ctx)
	if errors.Is(err, ErrLimit) && len(parts) > 1 { // too many to look through, so only this one is looked at
		_, err := s.catalog.LoadTable(ctx, parts, catalog.LoadRefs)
		if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
			return nil, false, nil
		}
		return parts, err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	s.names.mu.Lock()
	s.names.ids, s.names.at = ids, s.now()
	s.names.mu.Unlock()
	return resolve(ids, parts)
}

// forget makes the next name be looked for in a new list.
func (n *names) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at = time.Time{}
}

// listTables walks all namespaces.
func (s *Service) listTables(ctx context.Context) ([]catalog.Identifier, error) {
	var out []catalog.Identifier
	pending := []catalog.Identifier{nil}
	for len(pending) > 0 {
		parent := pending[0]
		pending = pending[1:]
		children, err := s.catalog.ListNamespaces(ctx, parent)
		if len(parent) > 0 && errors.Is(err, catalog.ErrNoSuchNamespace) {
			continue // dropped since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("list namespaces: %w", err)
		}
		for _, ns := range children {
			tables, err := s.catalog.ListTables(ctx, ns)
			if errors.Is(err, catalog.ErrNoSuchNamespace) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list tables of %s: %w", ns, err)
			}
			out = append(out, tables...)
			if len(out) > maxListedTables {
				return nil, fmt.Errorf("%w: the catalog has more than %d tables: give names in full", ErrLimit, maxListedTables)
			}
			pending = append(pending, ns)
		}
	}
	slices.SortFunc(out, func(a, b catalog.Identifier) int { return slices.Compare(a, b) })
	return out, nil
}

// resolve finds the name in full, else ignoring case as SQL does, else with dots in its parts, because clients show a
// nested namespace as one schema "a.b", else a table whose last parts it is, when only one has them.
func resolve(ids []catalog.Identifier, parts []string) (id catalog.Identifier, found bool, err error) {
	dotted := strings.Join(parts, ".")
	for _, match := range []func(catalog.Identifier) bool{
		func(t catalog.Identifier) bool { return slices.Equal(t, parts) },
		func(t catalog.Identifier) bool { return equalFold(t, parts) },
		func(t catalog.Identifier) bool { return t.String() == dotted },
		func(t catalog.Identifier) bool { return strings.EqualFold(t.String(), dotted) },
		func(t catalog.Identifier) bool {
			return len(t) > len(parts) && slices.Equal(t[len(t)-len(parts):], parts)
		},
		func(t catalog.Identifier) bool { return len(t) > len(parts) && equalFold(t[len(t)-len(parts):], parts) },
	} {
		var hits []catalog.Identifier
		for _, t := range ids {
			if match(t) {
				hits = append(hits, t)
			}
		}
		if len(hits) == 1 {
			return hits[0], true, nil
		}
		if len(hits) > 1 {
			return nil, false, fmt.Errorf("%w: %w: %s can be %s or %s: give the name in full", ErrInvalidSQL, errAmbiguous, dotted, hits[0], hits[1])
		}
	}
	return nil, false, nil
}

func equalFold(a, b []string) bool { return slices.EqualFunc(a, b, strings.EqualFold) }

// unknown is the error for a name that no table has.
func (s *Service) unknown(parts []string) error {
	s.names.mu.Lock()
	known := make([]string, len(s.names.ids))
	for i, id := range s.names.ids {
		known[i] = id.String()
	}
	s.names.mu.Unlock()
	name := strings.Join(parts, ".")
	return fmt.Errorf("%w: %w: %s%s", ErrInvalidSQL, catalog.ErrNoSuchTable, name, didYouMean(name, known))
}

// didYouMean ends a message with the nearest name, or with all of them when none is near and they are few.
func didYouMean(s string, known []string) string {
	best, least := "", 1+max(2, len(s)/3)
	for _, k := range known {
		d := editDistance(strings.ToLower(s), strings.ToLower(k))
		if last := k[strings.LastIndexByte(k, '.')+1:]; last != k {
			d = min(d, editDistance(strings.ToLower(s), strings.ToLower(last)))
		}
		if d < least {
			best, least = k, d
		}
	}
	switch {
	case best != "":
		return "; did you mean " + best + "?"
	case len(known) == 0:
		return "; there are no tables yet"
	case len(known) <= 12:
		return "; there are " + strings.Join(known, ", ")
	}
	return ""
}

// editDistance counts insertions, deletions and changes. Long names are not compared.
func editDistance(a, b string) int {
	const longest = 128
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
