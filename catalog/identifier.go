package catalog

import (
	"fmt"
	"strings"
)

func parseIdentifier(s string) (Identifier, error) {
	var id Identifier
	for rest := s; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			i := 1
			var b strings.Builder
			for ; ; i++ {
				if i >= len(rest) {
					return nil, fmt.Errorf("table name %q: a quoted part is not closed", s)
				}
				if rest[i] != '"' {
					b.WriteByte(rest[i])
					continue
				}
				if i+1 < len(rest) && rest[i+1] == '"' {
					b.WriteByte('"')
					i++
					continue
				}
				break
			}
			part, rest = b.String(), rest[i+1:]
		} else {
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				i = len(rest)
			}
			part, rest = rest[:i], rest[i:]
		}
		if part == "" {
			return nil, fmt.Errorf("table name %q: a part is empty", s)
		}
		id = append(id, part)
		if rest == "" {
			return id, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("table name %q: expected a dot before %q", s, rest)
		}
		rest = rest[1:]
	}
}
