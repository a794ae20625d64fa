package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// usagePath is where the catalog of this benchmark tells what it has used.
const usagePath = "/bench/usage"

type usage struct {
	CPUSeconds float64
	MaxRSS     int64
}

// profileCPU starts a CPU profile into the named file; "": none. The caller stops it.
func profileCPU(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// serve is a catalog over a warehouse on disk until its input ends. It prints its address.
func serve(ctx context.Context, warehouse, store, profile string, stdin io.Reader, stdout io.Writer) (err error) {
	stop, err := profileCPU(profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	wh, err := objstore.Open(ctx, "file://"+filepath.ToSlash(warehouse), objstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wh.Close()) }()
	cat, err := server.New(ctx, server.Config{Store: store}, wh, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close(ctx)) }()
	mux := http.NewServeMux()
	mux.Handle("/v1/", cat.Handler())
	mux.HandleFunc("GET "+usagePath, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(usage{report.CPUTime().Seconds(), report.MaxRSS()})
	})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	if _, err := fmt.Fprintln(stdout, l.Addr()); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, stdin) // whoever started it is gone, or wants it to end
	if err := srv.Close(); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
