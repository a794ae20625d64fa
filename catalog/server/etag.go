package server

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// etag names an answer that carries a table: its metadata file, which never changes and whose name nobody reuses,
// what of its snapshots is in the answer, and what the answer says besides.
func (h *handler) etag(r *request, d *document, refs bool) string {
	config := h.configTag
	if h.withholds(r) {
		config += " without keys"
	}
	sum := sha256.Sum256([]byte(d.location + "\x00" + config))
	tag := hex.EncodeToString(sum[:12])
	if refs {
		tag += "-refs"
	}
	return `"` + tag + `"`
}

// notModified reports whether the client has the answer of that tag.
func notModified(r *http.Request, tag string) bool {
	if r.Method != http.MethodGet {
		return false
	}
	for _, line := range r.Header.Values("If-None-Match") {
		for _, have := range strings.Split(line, ",") {
			have = strings.TrimSpace(have)
			if have == "*" || strings.TrimPrefix(have, "W/") == tag {
				return true
			}
		}
	}
	return false
}
