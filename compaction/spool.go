package compaction

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how much of an output is held in memory; the rest of a larger one goes to a temporary file.
const spoolMemory = 8 << 20

// spool takes an output before it is stored: an object is put whole, and its reader must be able to start over.
type spool struct {
	dir  string
	mem  bytes.Buffer
	file *os.File // nil while the output fits into memory
	gone bool     // the file has no name any more
	n    int64
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.mem.Len()+len(p) > spoolMemory {
		f, err := os.CreateTemp(s.dir, "firn-compact-*")
		if err != nil {
			return 0, fmt.Errorf("temporary file: %w", err)
		}
		// Without a name it ends with the process; where that is not possible, Close removes it.
		s.file, s.gone = f, os.Remove(f.Name()) == nil
		if _, err := s.file.Write(s.mem.Bytes()); err != nil {
			return 0, fmt.Errorf("temporary file: %w", err)
		}
		s.mem = bytes.Buffer{}
	}
	var n int
	var err error
	if s.file == nil {
		n, err = s.mem.Write(p)
	} else if n, err = s.file.Write(p); err != nil {
		err = fmt.Errorf("temporary file: %w", err)
	}
	s.n += int64(n)
	return n, err
}

// Reader reads what was written, from its start.
func (s *spool) Reader() io.ReadSeeker {
	if s.file == nil {
		return bytes.NewReader(s.mem.Bytes())
	}
	return io.NewSectionReader(s.file, 0, s.n)
}

// Close gives memory and file back.
func (s *spool) Close() error {
	s.mem = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if !s.gone {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return err
}
