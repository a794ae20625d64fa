package scan

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrTask reports a task that is none that Firn gave, or not for this table.
var ErrTask = errors.New("no such plan task")

const (
	// taskVersion is the form of a task.
	taskVersion = 1
	// sealBytes is how much of a checksum seals a task.
	sealBytes = 12
	// maxTaskBytes bounds a task as it travels, and what it may unpack to.
	maxTaskBytes = 8 << 20
)

// Task says what to plan and where in the snapshot's manifests, so that it can be answered without memory of the plan.
type Task struct {
	Version  int             `json:"v"`
	Table    string          `json:"t"` // uuid
	Snapshot int64           `json:"s"`
	Since    *int64          `json:"a,omitempty"` // the files that were appended since that snapshot
	Schema   int             `json:"c"`
	Filter   json.RawMessage `json:"f,omitempty"`
	Stats    []int           `json:"m,omitempty"`
	MinRows  int64           `json:"r,omitempty"`
	Range    Range           `json:"p"`
	// Whole marks the id of a plan, which stands for all of it; Answered one whose filter is too long to travel in a
	// path: the plan was answered when it was made, and cannot be asked for again.
	Whole    bool `json:"w,omitempty"`
	Answered bool `json:"d,omitempty"`
}

// Range is a part of a snapshot's data manifests: from entry Skip of manifest First to before manifest End.
type Range struct {
	First int `json:"i"`
	Skip  int `json:"k,omitempty"`
	End   int `json:"e"`
}

// Seal writes a task as a string that may stand in a path.
func (t Task) Seal() (string, error) {
	t.Version = taskVersion
	doc, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("plan task: %w", err)
	}
	var b bytes.Buffer
	sum := sha256.Sum256(doc)
	b.Write(sum[:sealBytes])
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(doc)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("plan task: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b.Bytes()), nil
}

// Open reads a task of a table. Everything that is none, or was changed on its way, is ErrTask.
func Open(sealed, table string) (t Task, err error) {
	bad := func(why string) (Task, error) { return Task{}, fmt.Errorf("%w: %s", ErrTask, why) }
	if len(sealed) > maxTaskBytes {
		return bad("it is longer than any that this catalog gives")
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(raw) <= sealBytes {
		return bad("it is none that this catalog gave")
	}
	packed := bytes.NewReader(raw[sealBytes:])
	doc, err := io.ReadAll(io.LimitReader(flate.NewReader(packed), maxTaskBytes+1))
	if sum := sha256.Sum256(doc); err != nil || len(doc) > maxTaskBytes || packed.Len() > 0 || !bytes.Equal(sum[:sealBytes], raw[:sealBytes]) {
		return bad("it was changed on its way, or is none that this catalog gave")
	}
	if err := json.Unmarshal(doc, &t); err != nil || t.Version != taskVersion {
		return bad("another version of the catalog gave it: plan again")
	}
	if t.Table != table {
		return bad("it is for another table")
	}
	if r := t.Range; r.First < 0 || r.Skip < 0 || r.End < r.First {
		return bad("its range is none")
	}
	return t, nil
}
