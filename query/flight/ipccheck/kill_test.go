package ipccheck

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
)

// The tests of this file read damaged messages in a child process, for what they look for ends a process.

const childEnv = "FIRN_IPCCHECK_CHILD"

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// source hands messages to arrow-go.
type source struct{ ms []message }

func (s *source) Recv() (*flight.FlightData, error) {
	if len(s.ms) == 0 {
		return nil, errEnd
	}
	m := s.ms[0]
	s.ms = s.ms[1:]
	return &flight.FlightData{DataHeader: m.header, DataBody: m.body, FlightDescriptor: &flight.FlightDescriptor{}}, nil
}

var errEnd = fmt.Errorf("no more messages")

// readAll lets arrow-go decode the messages and touches every value. It returns what arrow-go recovered from, "" for
// none.
func readAll(ms []message) (panicked string) {
	defer func() {
		if p := recover(); p != nil {
			panicked = fmt.Sprint(p)
		}
	}()
	r, err := flight.NewRecordReader(&source{ms})
	if err == nil {
		defer r.Release()
		for r.Next() {
			rec := r.RecordBatch()
			if _, err := rec.MarshalJSON(); err != nil && strings.Contains(err.Error(), "panic") {
				return err.Error()
			}
			for _, c := range rec.Columns() {
				for i := range c.Len() {
					_ = c.ValueStr(i)
				}
			}
		}
		err = r.Err()
	}
	if err != nil && strings.Contains(err.Error(), "unknown error while reading") {
		return err.Error()
	}
	return ""
}

// mutate changes a few bytes or one 32-bit word of a message.
func mutate(b []byte, rnd *rand.Rand) []byte {
	b = bytes.Clone(b)
	if len(b) == 0 {
		return b
	}
	interesting := []byte{0, 1, 2, 4, 8, 0x7F, 0x80, 0xFF}
	for range 1 + rnd.IntN(3) {
		at := rnd.IntN(len(b))
		switch rnd.IntN(4) {
		case 0:
			b[at] = byte(rnd.Uint32())
		case 1:
			b[at] ^= 1 << rnd.IntN(8)
		case 2:
			b[at] = interesting[rnd.IntN(len(interesting))]
		default:
			at &^= 3
			for i := range min(4, len(b)-at) {
				b[at+i] = interesting[rnd.IntN(len(interesting))]
			}
		}
	}
	return b
}

const mutantsPerSeed = 4000 // docs/flight.md has the figures of a million

// child is the body of the process. "killer" reads the huge count without the check; "mutants N" reads every mutant
// that passes.
func child(job string) int {
	var seed uint64
	switch {
	case job == "killer":
		readAll([]message{{header: killer(exitOnFatal{})}})
		fmt.Println("survived")
		return 0
	case strings.HasPrefix(job, "mutants "):
		if _, err := fmt.Sscanf(job, "mutants %d", &seed); err != nil {
			return 2
		}
	default:
		return 2
	}
	rnd := newRand(seed)
	sound := messages(exitOnFatal{}, everyType(), seed, 6)
	passed := 0
	for i := range mutantsPerSeed {
		ms := []message{sound[0], sound[1]}
		switch rnd.IntN(3) {
		case 0:
			ms[0].header = mutate(ms[0].header, rnd)
		case 1:
			ms[1].header = mutate(ms[1].header, rnd)
		default:
			ms[1].body = mutate(ms[1].body, rnd)
		}
		if checkAll(ms, DefaultLimits()) != nil {
			continue
		}
		passed++
		if p := readAll(ms); p != "" {
			fmt.Printf("mutant %d of seed %d passed the check and panicked: %s\n", i, seed, p)
			return 3
		}
	}
	fmt.Printf("passed %d\n", passed)
	return 0
}

type exitOnFatal struct{}

func (exitOnFatal) Fatal(a ...any) {
	fmt.Println(a...)
	os.Exit(2)
}

// run starts this test binary again with the job, in an address space of 8 GiB so that an allocation of hundreds of
// GiB fails at once on every machine.
func run(t *testing.T, job string) (string, error) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Fatal("needs a shell with ulimit")
	}
	c := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -v 8388608 2>/dev/null; exec "$0"`, os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+job, "GOMAXPROCS=1", "GOMEMLIMIT=off")
	out, err := c.CombinedOutput()
	return string(out), err
}

// Without the check the process dies: the reason for this package, and the proof that the next test can fail.
func TestArrowDiesOfAHugeCount(t *testing.T) {
	out, err := run(t, "killer")
	if err == nil || !strings.Contains(out, "fatal error") {
		t.Errorf("err = %v, out = %.300s\narrow-go checks the count by now: this package may be simplified", err, out)
	}
}

func TestNoMutantThatPassesHarms(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		out, err := run(t, fmt.Sprint("mutants ", seed))
		if err != nil {
			t.Fatalf("seed %d: %v\n%.2000s", seed, err, out)
		}
		var passed int
		if _, err := fmt.Sscanf(out, "passed %d", &passed); err != nil || passed < mutantsPerSeed/20 || passed > mutantsPerSeed*19/20 {
			t.Errorf("seed %d: %d of %d mutants passed: the mutants prove little", seed, passed, mutantsPerSeed)
		}
		t.Logf("seed %d: %d of %d mutants passed the check, none harmed arrow-go", seed, passed, mutantsPerSeed)
	}
}

// FuzzMessageHeader: the check itself never panics, and what it passes neither panics nor ends arrow-go.
func FuzzMessageHeader(f *testing.F) {
	for seed := range uint64(3) {
		ms := messages(f, everyType(), seed, 3)
		f.Add(ms[0].header, ms[1].header, ms[1].body)
		small := messages(f, messagesSchema(), seed, 2)
		f.Add(small[0].header, small[1].header, small[1].body)
	}
	f.Add(killer(f), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, schema, batch, body []byte) {
		ms := []message{{header: schema}, {batch, body}}
		s := NewStream(DefaultLimits())
		if s.Check(schema, nil) != nil {
			return
		}
		if s.Check(batch, body) != nil {
			ms = ms[:1]
		}
		if p := readAll(ms); p != "" {
			t.Fatalf("passed the check and panicked: %s", p)
		}
	})
}
