package client

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
)

// addresses are those of one catalog: processes that share a database, of which none leads. One of them is asked until
// it fails; then it is the next one's turn, and the one that failed is asked again when all the others have.
type addresses struct {
	roots []string // without a trailing slash; at least one
	turn  atomic.Int64
}

func newAddresses(roots []string) *addresses { return &addresses{roots: roots} }

// String is for messages.
func (a *addresses) String() string { return strings.Join(a.roots, " or ") }

// current is the address whose turn it is.
func (a *addresses) current() int { return int(a.turn.Load()) }

// leave gives the turn to the one behind i, unless another request has done so already. It tells whether it did. A request
// that its caller has given up says nothing of the address; one whose time has run out does: the address may hang.
func (a *addresses) leave(ctx context.Context, i int) bool {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return false
	}
	return len(a.roots) > 1 && a.turn.CompareAndSwap(int64(i), int64((i+1)%len(a.roots)))
}

// each asks one address after the other, each once, until one is done: when it is not, the next one is asked.
func (a *addresses) each(ask func(i int, root string) (done bool)) {
	first := a.current()
	for n := range a.roots {
		i := (first + n) % len(a.roots)
		if ask(i, a.roots[i]) {
			return
		}
	}
}
