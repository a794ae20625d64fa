package units

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1s": time.Second, "250ms": 250 * time.Millisecond, "1h30m": 90 * time.Minute, "7d": 7 * day,
		"1d12h": 36 * time.Hour, "0": 0, "0s": 0, "-5s": -5 * time.Second, " 2m ": 2 * time.Minute, "0d": 0, "1.5h": 90 * time.Minute,
	} {
		if got, err := ParseDuration(in); err != nil || got.D() != want {
			t.Errorf("%q = %v, %v; want %v", in, got.D(), err, want)
		}
	}
	for in, hint := range map[string]string{
		"5": "5s", "1.5": "no unit", "": "such as", "-": "such as", "1x": "such as", "d": "such as", "1d-5s": "such as", "--1s": "such as",
		"106752d": "too long", "106751d23h59m": "too long", "1 s": "such as", "99999999999999999999d": "such as",
	} {
		if got, err := ParseDuration(in); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q = %v, %v; want an error with %q", in, got, err, hint)
		}
	}
	for d, want := range map[Duration]string{
		0: "0s", Duration(time.Hour): "1h", Duration(90 * time.Minute): "1h30m", Duration(7 * day): "7d",
		Duration(25 * time.Hour): "1d1h", Duration(1500 * time.Millisecond): "1.5s", Duration(-15 * time.Minute): "-15m",
		Duration(10 * time.Second): "10s", Duration(time.Minute + 10*time.Second): "1m10s",
	} {
		if got := d.String(); got != want {
			t.Errorf("%d prints %q, want %q", int64(d), got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]Bytes{
		"0": 0, "1500": 1500, "512KiB": 512 << 10, "64MiB": 64 << 20, "1.5GiB": 3 << 29, "2 TiB": 2 << 40, "64mib": 64 << 20,
		"10MB": 10e6, "3B": 3,
	} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", in, got, err, want)
		}
	}
	for in, hint := range map[string]string{
		"": "such as", "64M": "64MiB (1024) or 64MB", "-1": "negative", "0.3B": "whole", "9999999TiB": "too large", "1e9": "such as",
		"MiB": "such as", "1..2": "such as", "1/3": "such as", strings.Repeat("9", 40): "such as", "5 apples": "such as",
	} {
		if got, err := ParseBytes(in); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q = %v, %v; want an error with %q", in, got, err, hint)
		}
	}
}

func TestPrintedValuesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(-1<<62, 1<<62).Draw(t, "duration"))
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%d prints %q and reads back as %d, %v", int64(d), d, int64(back), err)
		}
		b := Bytes(rapid.Int64Range(0, 1<<62).Draw(t, "bytes"))
		if back, err := ParseBytes(b.String()); err != nil || back != b {
			t.Fatalf("%d prints %q and reads back as %d, %v", int64(b), b, int64(back), err)
		}
	})
}

func TestYAML(t *testing.T) {
	type config struct {
		Wait Duration `yaml:"wait"`
		Size Bytes    `yaml:"size"`
		Key  Secret   `yaml:"key"`
	}
	t.Setenv("UNITS_TEST_KEY", "canary-1")
	var c config
	if err := yaml.Unmarshal([]byte("wait: 15m\nsize: 1048576\nkey: env:UNITS_TEST_KEY\n"), &c); err != nil {
		t.Fatal(err)
	}
	if c.Wait.D() != 15*time.Minute || c.Size != 1<<20 || c.Key.Reveal() != "canary-1" {
		t.Fatalf("read %v %v", c.Wait, c.Size)
	}
	out, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "wait: 15m\nsize: 1MiB\nkey: env:UNITS_TEST_KEY\n"; string(out) != want {
		t.Fatalf("printed\n%s\nwant\n%s", out, want)
	}
	if err := yaml.Unmarshal([]byte("wait: [1s]\n"), &c); err == nil {
		t.Error("a list was taken as a duration")
	}
}

func TestSecretResolves(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + p
	}
	t.Setenv("UNITS_TEST_SET", "from env")
	t.Setenv("UNITS_TEST_EMPTY", "")
	for in, want := range map[string]string{
		"plain": "plain", "env:UNITS_TEST_SET": "from env", write("crlf", "from file\r\n"): "from file", write("lines", "a\nb\n"): "a\nb", "": "",
	} {
		if s, err := ResolveSecret(in); err != nil || s.Reveal() != want {
			t.Errorf("%q = %q, %v; want %q", in, s.Reveal(), err, want)
		}
	}
	for in, hint := range map[string]string{
		"env:UNITS_TEST_UNSET": "UNITS_TEST_UNSET is not set", "env:UNITS_TEST_EMPTY": "is empty", "env:": "names no variable",
		"file:": "names no path", "file:" + dir: "is a directory", "file:" + dir + "/none": "no such file",
		write("empty", "\n"): "is empty", write("huge", strings.Repeat("x", maxSecretFile+1)): "no secret", "file:/dev/zero": "no secret",
	} {
		_, err := ResolveSecret(in)
		if !errors.Is(err, ErrSecretMissing) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: %v; want an error with %q", in, err, hint)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const canary = "canary-7f3a"
	s := NewSecret(canary)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "in", struct{ S Secret }{s})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "in", []Secret{s})
	j, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(j) + string(y)
	digits := fmt.Sprintf("%d", []byte(canary[:4]))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		all += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, struct{ S Secret }{s}) + fmt.Sprintf(verb, &s)
	}
	if strings.Contains(all, canary) || strings.Contains(all, fmt.Sprintf("%x", canary)) || strings.Contains(all, strings.Trim(digits, "[]")) {
		t.Fatalf("the secret shows in\n%s", all)
	}
	if !strings.Contains(all, redacted) {
		t.Fatal("nothing says that a value was hidden")
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"1s", "7d", "64MiB", "1.5GiB", "-1", "9e9999999", "1d1d", "d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil {
			if back, err := ParseDuration(d.String()); err != nil || back != d {
				t.Fatalf("duration %q → %q → %v, %v", s, d, back, err)
			}
		}
		if b, err := ParseBytes(s); err == nil {
			if back, err := ParseBytes(b.String()); err != nil || back != b {
				t.Fatalf("size %q → %q → %v, %v", s, b, back, err)
			}
		}
	})
}

func TestCheckListen(t *testing.T) {
	for addr, want := range map[string]struct{ local, ok bool }{
		"127.0.0.1:0": {true, true}, "localhost:8080": {true, true}, "[::1]:65535": {true, true}, ":8080": {false, true}, "0.0.0.0:1": {false, true},
		"10.0.0.1:9092": {false, true}, "127.0.0.1": {}, "127.0.0.1:65536": {}, "127.0.0.1:": {}, "127.0.0.1:http": {}, "::1:80": {}, "": {},
	} {
		if local, err := CheckListen(addr); local != want.local || (err == nil) != want.ok {
			t.Errorf("%q: local %t, %v", addr, local, err)
		}
	}
}
