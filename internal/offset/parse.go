package offset

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseVector reads what Vector.String prints: "0:123 1:456", with spaces or commas between. Empty gives nil.
func ParseVector(text string) (Vector, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	if len(fields) == 0 {
		return nil, nil
	}
	v := Vector{}
	for _, f := range fields {
		p, at, ok := strings.Cut(f, ":")
		id, err1 := strconv.ParseInt(p, 10, 32)
		next, err2 := strconv.ParseInt(at, 10, 64)
		if !ok || err1 != nil || err2 != nil || id < 0 || next < 0 {
			return nil, fmt.Errorf("%q is not partition:offset, as in \"0:123 1:456\"", f)
		}
		if _, twice := v[int32(id)]; twice {
			return nil, fmt.Errorf("partition %d is named twice", id)
		}
		v[int32(id)] = next
	}
	return v, nil
}
