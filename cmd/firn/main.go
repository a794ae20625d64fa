// Command firn is the whole of Firn: the system in one process (firn up), each role alone, and the client verbs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/crash"
)

func main() {
	if err := crash.ArmFromEnv(); err != nil {
		fmt.Fprintln(os.Stderr, "firn:", err)
		os.Exit(app.ExitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !(interrupted && errors.Is(err, context.Canceled)) {
		fmt.Fprintln(os.Stderr, "firn:", err)
	}
	os.Exit(app.ExitCode(err))
}
