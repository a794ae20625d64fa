package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/firnlake/firn/internal/app"
)

// call runs the command line and returns what it printed and the exit code.
func call(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	root := newRoot()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetErr(&b)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return b.String(), app.ExitCode(err), err
}

func TestUsageErrorsSayTheRightForm(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"stauts"}, "did you mean status"},
		{[]string{"up", "--prot", "3"}, "firn up --help"},
		{[]string{"snapshots"}, "TABLE is missing: the form is firn snapshots TABLE"},
		{[]string{"sql", "select", "1"}, `"1" is an argument too many`},
		{[]string{"deadletters", "lst"}, "did you mean list?: see firn deadletters --help"},
		{[]string{"deadletters", "show", "a.b"}, "PARTITION:OFFSET[:LINE] is missing"},
		{[]string{"history", "a.b", "--limit", "-1"}, "0 or more"},
		{[]string{"rewind", "a.b", "--to-snapshot", "abc"}, `--to-snapshot "abc": take a whole number`},
		{[]string{"rewind", "a.b", "--to-time", "2999-01-01T00:00:00Z"}, "lies ahead"},
		{[]string{"probe", "--duration", "1 minute"}, "1h30m"},
		{[]string{"why", "user_events"}, "namespace.table"},
		{[]string{"audit", "a.b", "c.d"}, "firn audit TABLE"},
		{[]string{"offsets", "resolve"}, "firn offsets resolve TABLE"},
		{[]string{"sql", "select 1", "--level", "warm"}, "hot or committed"},
		{[]string{"sql", "select 1", "--as-of", "yesterday"}, "-10m"},
		{[]string{"sql", "select 1", "-o", "xml"}, "xml"},
		{[]string{"sql", "select 1", "--token", "secret"}, "env:NAME"},
		{[]string{"up", "--http-port", "70000", "--data", t.TempDir()}, "70000"},
		{[]string{"generate", "--format", "avro"}, "json"},
		{[]string{"catalog", "restore", "--table", "user_events"}, "namespace.table=LOCATION"},
	} {
		_, code, err := call(t, c.args...)
		if code != app.ExitUsage || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("firn %v: exit %d, %v, want something about %q", c.args, code, err, c.want)
		}
	}
}

func TestVerbsThatNeedNothing(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"version", "firn "}, {"--help", "firn up --demo"}, {"config schema", "Firn configuration"}, {"config show", "warehouse:"}, {"completion bash", "firn"},
	} {
		out, code, err := call(t, strings.Fields(c.arg)...)
		if code != app.ExitOK || !strings.Contains(out, c.want) {
			t.Errorf("firn %s: exit %d, %v, %q is not in what it printed", c.arg, code, err, c.want)
		}
	}
}

// TestNamesOfOthersDoNotDriveTheTerminal: what others wrote into names is printed as text.
func TestNamesOfOthersDoNotDriveTheTerminal(t *testing.T) {
	var b bytes.Buffer
	row(&b, "a\x1b[2J", "b\tc\nd")
	if got, want := b.String(), "a·[2J\tb·c·d\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestNobodyAnswers(t *testing.T) {
	data := t.TempDir()
	for _, args := range [][]string{{"status", "--http", "127.0.0.1:1"}, {"tables", "--catalog", "http://127.0.0.1:1"}, {"sql", "select 1", "--uri", "127.0.0.1:1"}} {
		_, code, err := call(t, append(args, "--data", data)...)
		if code != app.ExitFailed || err == nil || !strings.Contains(err.Error(), "firn up") {
			t.Errorf("firn %v: exit %d, %v", args, code, err)
		}
	}
}
