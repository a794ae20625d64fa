package query

import (
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// UseAllocator makes the service take its own Arrow memory from mem.
func (s *Service) UseAllocator(mem memory.Allocator) { s.mem = mem }

// UseClock sets what the service takes for now.
func (s *Service) UseClock(now func() time.Time) { s.now = now }
