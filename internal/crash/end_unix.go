//go:build unix

package crash

import (
	"os"
	"syscall"
)

// end ends the process as a power cut does: nothing deferred runs, nothing is flushed.
func end() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // there is nobody left to tell
	select {}
}
