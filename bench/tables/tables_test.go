package tables

import (
	"io"
	"strings"
	"testing"
)

func TestMainRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-rate", "9"}, {"-tables", "0"}, {"-duration", "1ms"}, {"-runs", "1"}, {"-firn", "/nowhere/firn"}} {
		if err := Main(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v", args)
		}
	}
	if err := Main(t.Context(), []string{"-firn", "/bin/false"}, io.Discard); err == nil || !strings.Contains(err.Error(), "firn up") {
		t.Errorf("%v", err)
	}
}
