package server

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/firnlake/firn/catalog"
)

// cleanLocation checks that loc lies strictly inside the warehouse and returns it as Firn writes it: the
// warehouse's URI and clean components. "file:/x", "file:///x" and a trailing slash are the same place.
func cleanLocation(warehouse, loc string) (string, error) { return cleanWith(hides, warehouse, loc) }

// cleanFile is cleanLocation for a data file: writers escape the separators in a partition's value.
func cleanFile(warehouse, loc string) (string, error) { return cleanWith(climbs, warehouse, loc) }

func cleanWith(bad func(string) bool, warehouse, loc string) (string, error) {
	root, err := splitLocation(warehouse, hides)
	if err != nil {
		return "", err
	}
	parts, err := splitLocation(loc, bad)
	if err != nil {
		return "", err
	}
	if len(parts) <= len(root) {
		return "", fmt.Errorf("%w: location %q is not inside the warehouse %s", catalog.ErrInvalid, loc, warehouse)
	}
	for i, r := range root {
		if parts[i] != r {
			return "", fmt.Errorf("%w: location %q is not inside the warehouse %s", catalog.ErrInvalid, loc, warehouse)
		}
	}
	if parts[len(root)] == reserved {
		return "", fmt.Errorf("%w: location %q is the catalog's own: nothing of a table lies under %s/%s", catalog.ErrInvalid, loc, warehouse, reserved)
	}
	return strings.TrimRight(warehouse, "/") + "/" + strings.Join(parts[len(root):], "/"), nil
}

// splitLocation gives scheme, authority and path components. Escapes are not decoded: they are part of a
// name, as they are for every reader of a table. tricks tells of a component that it is not to be trusted.
func splitLocation(loc string, tricks func(string) bool) ([]string, error) {
	bad := func(why string) error {
		return fmt.Errorf("%w: location %q: %s", catalog.ErrInvalid, loc, why)
	}
	if strings.ContainsFunc(loc, func(r rune) bool { return isControl(r) || r == '\\' || r == '?' || r == '#' }) {
		return nil, bad("it has a control character, a backslash, '?' or '#'")
	}
	if len(loc) > 2048 {
		return nil, fmt.Errorf("%w: location of %d bytes: more than 2048", catalog.ErrInvalid, len(loc))
	}
	scheme, rest, ok := strings.Cut(loc, ":")
	if !ok || scheme == "" {
		return nil, bad("it has no scheme, as in s3://bucket/path or file:///path")
	}
	scheme = strings.ToLower(scheme)
	if scheme == "s3a" || scheme == "s3n" {
		scheme = "s3"
	}
	authority := ""
	if r, ok := strings.CutPrefix(rest, "//"); ok {
		authority, rest, _ = strings.Cut(r, "/")
	} else if rest, ok = strings.CutPrefix(rest, "/"); !ok {
		return nil, bad("it is relative: what it means depends on who reads it")
	}
	if scheme == "file" && authority == "localhost" {
		authority = ""
	}
	parts := []string{scheme, authority}
	for _, p := range strings.Split(strings.TrimRight(rest, "/"), "/") {
		if p == "" && len(parts) == 2 && strings.TrimRight(rest, "/") == "" {
			break // nothing but the authority
		}
		if p == "" || p == "." || p == ".." {
			return nil, bad("it has an empty or a dot component")
		}
		if tricks(p) {
			return nil, bad("it has an escape that stands for a dot component, a separator or a control character")
		}
		parts = append(parts, p)
	}
	return parts, nil
}

const (
	// maxPlaceBytes bounds the location of a table or a view: a key of S3 has 1,024 bytes at most, with what lies below.
	maxPlaceBytes = 768
	// maxComponentBytes is what file systems allow one name.
	maxComponentBytes = 255
)

// checkRoom refuses a clean location of a table or a view in which no storage could keep a file: its metadata would never be written.
func checkRoom(clean string) error {
	if len(clean) > maxPlaceBytes {
		return fmt.Errorf("%w: location of %d bytes: more than %d", catalog.ErrInvalid, len(clean), maxPlaceBytes)
	}
	for part := range strings.SplitSeq(clean, "/") {
		if len(part) > maxComponentBytes {
			return fmt.Errorf("%w: location %q has a component of %d bytes: more than %d", catalog.ErrInvalid, clean, len(part), maxComponentBytes)
		}
	}
	return nil
}

// maxUnescape bounds how often an escape may be escaped.
const maxUnescape = 4

// hides tells whether a component that is not "." or ".." becomes one, or more than one component, for a reader that
// decodes escapes, be it more than once.
func hides(p string) bool {
	return decodesTo(p, func(u string) bool {
		return u == "." || u == ".." || strings.ContainsFunc(u, func(r rune) bool { return separates(r) || isControl(r) })
	})
}

// climbs tells whether a component has a dot component in it for a reader that decodes escapes, be it more than once, or a
// control character. Separators alone lead further down.
func climbs(p string) bool {
	return decodesTo(p, func(u string) bool {
		for part := range strings.FieldsFuncSeq(u, separates) {
			if part == "." || part == ".." {
				return true
			}
		}
		return strings.ContainsFunc(u, isControl)
	})
}

// decodesTo tells whether a component that has escapes becomes something bad when they are decoded, once or more often, or
// has more of them than are looked through.
func decodesTo(p string, bad func(string) bool) bool {
	for range maxUnescape {
		u, err := url.PathUnescape(p)
		if err != nil || u == p {
			return false
		}
		if bad(u) {
			return true
		}
		p = u
	}
	return true
}

func separates(r rune) bool { return r == '/' || r == '\\' }

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// within reports whether loc is outer or inside it; both are clean.
func within(loc, outer string) bool {
	return loc == outer || strings.HasPrefix(loc, outer+"/")
}

// keyOf gives the object key of a clean location.
func keyOf(warehouse, loc string) string {
	return strings.TrimPrefix(strings.TrimPrefix(loc, strings.TrimRight(warehouse, "/")), "/")
}
