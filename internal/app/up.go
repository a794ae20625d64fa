package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Up makes cfg the configuration of firn up: what is not set is embedded under the data directory. It tells whether
// the in-process broker is needed.
func Up(cfg *Config) (embedded bool, err error) {
	if err := Local(cfg); err != nil {
		return false, err
	}
	setDefault(&cfg.Warehouse, "file://"+filepath.ToSlash(filepath.Join(cfg.Data, "warehouse")))
	embedded = len(cfg.Kafka.Brokers) == 0
	if embedded {
		setDefault(&cfg.Broker.Dir, filepath.Join(cfg.Data, "broker"))
		cfg.Broker = cfg.Broker.WithDefaults()
	}
	if len(cfg.Pipelines) == 0 {
		cfg.Pipelines = []Pipeline{demoPipeline()}
	}
	return embedded, nil
}

// Local makes the data directory and gives what lies in it its place.
func Local(cfg *Config) error {
	abs, err := filepath.Abs(cfg.Data)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", cfg.Data, err)
	}
	cfg.Data = abs
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return fmt.Errorf("data directory: %w: name another with --data", err)
	}
	setDefault(&cfg.Catalog.Store, "sqlite://"+filepath.ToSlash(filepath.Join(abs, "catalog.db")))
	setDefault(&cfg.Catalog.Auth.SigningKeyFile, filepath.Join(abs, "catalog-tokens.key"))
	setDefault(&cfg.Query.SQL.CacheDir, filepath.Join(abs, "cache"))
	return nil
}

// Running is what a process leaves in its data directory, so that the client verbs find it without being told.
type Running struct {
	PID       int       `json:"pid"`
	Addresses Addresses `json:"addresses"`
	Warehouse string    `json:"warehouse"`
}

const runningFile = "running.json"

// Announce writes the process's addresses into the data directory until Stop.
func (p *Process) Announce() error {
	path := filepath.Join(p.cfg.Data, runningFile)
	raw, err := json.Marshal(Running{PID: os.Getpid(), Addresses: p.Addresses(), Warehouse: p.cfg.Warehouse})
	if err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, raw, 0o644); err != nil {
		return fmt.Errorf("announce the addresses: %w", err)
	}
	return os.Rename(tmp, path)
}

// withdraw removes the announcement.
func (p *Process) withdraw() error {
	err := os.Remove(filepath.Join(p.cfg.Data, runningFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// FindRunning reads the announcement of a live process in the data directory; ok is false when there is none.
func FindRunning(data string) (r Running, ok bool) {
	raw, err := os.ReadFile(filepath.Join(data, runningFile))
	if err != nil || json.Unmarshal(raw, &r) != nil || r.PID <= 0 {
		return Running{}, false
	}
	proc, err := os.FindProcess(r.PID)
	if err != nil || proc.Signal(syscall.Signal(0)) != nil {
		return Running{}, false
	}
	return r, true
}

// isDefaultData tells that the client verbs look there without being told.
func isDefaultData(dir string) bool {
	abs, err := filepath.Abs("firn-data")
	return err == nil && abs == dir
}
