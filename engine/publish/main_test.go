package publish

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "40") // the flag has its say: it is parsed later
	goleak.VerifyTestMain(m)
}
