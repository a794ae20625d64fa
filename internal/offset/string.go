package offset

import (
	"strconv"
	"strings"
)

// String returns the vector for people: "0:123 1:456", in partition order.
func (v Vector) String() string {
	var b strings.Builder
	for i, p := range v.Partitions() {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(int(p)))
		b.WriteByte(':')
		b.WriteString(strconv.FormatInt(v[p], 10))
	}
	return b.String()
}
