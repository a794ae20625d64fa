package app

import (
	"context"
	"errors"
)

// Run starts a process, calls up when it stands, and stops it when ctx ends or a part dies. The end of ctx is how a
// process is meant to end, and no error.
func Run(ctx context.Context, cfg *Config, opt Options, up func(context.Context, *Process) error) error {
	p, err := Start(ctx, cfg, opt)
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil // stopped while it still waited for something
		}
		return err
	}
	err = errors.Join(p.Announce(), up(ctx, p))
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-p.Died():
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, p.withdraw(), p.Stop(stopCtx))
}
