package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestListsAndRefuses(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), nil, &out, &errs); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	for _, b := range benches {
		if !strings.Contains(out.String(), b.name+" ") {
			t.Errorf("%s is not listed:\n%s", b.name, out.String())
		}
	}
	out.Reset()
	if code := run(context.Background(), []string{"decoed"}, &out, &errs); code != 2 || out.Len() > 0 || !strings.Contains(errs.String(), `"decoed"`) {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func TestAFailedBenchmarkExitsWith1(t *testing.T) {
	for _, b := range benches {
		var out, errs bytes.Buffer
		if code := run(context.Background(), []string{b.name, "-runs", "1"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), b.name) {
			t.Errorf("%s: exit %d: %s", b.name, code, errs.String())
		}
		if code := run(context.Background(), []string{b.name, "-h"}, &out, &errs); code != 0 {
			t.Errorf("%s -h: exit %d", b.name, code)
		}
	}
}
