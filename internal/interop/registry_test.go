//go:build interop

package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Versions of the events of testdata/registry_acts.py.
const (
	first = iota + 1
	wider // has a column more, and wider numbers
	more  // has one more again
	other // has another type in a column
)

// TestRegistry is confluent-kafka's serializers for Avro, JSON Schema and Protobuf at Apicurio Registry, with references in
// each: what Firn makes of their events is what they were given, through new schemas, a registry that is away, and a schema that
// does not fit.
func TestRegistry(t *testing.T) {
	kafka, registry := serve(t, "kafka"), serve(t, "registry")
	python, err := script("registry.sh", "clients")
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://%s/apis/ccompat/v7", registry.addr())
	client := startDriver(t, "confluent-kafka", python, "registry_acts.py", url, kafka.addr(), "testdata/protos")
	policies := map[string]string{"avro": "stop", "json": "new_column", "protobuf": "dead_letter"}
	var names []string
	var pipelines strings.Builder
	for format, policy := range policies {
		names = append(names, "orders_"+format)
		message := ""
		if format == "protobuf" {
			message = "message: shop.Sales.Order, "
		}
		fmt.Fprintf(&pipelines, "  - {name: orders_%[1]s, topic: orders_%[1]s, table: shop.orders_%[1]s, format: %[1]s, %[4]scommit_interval: 200ms, on_incompatible_schema: %[2]s, registry: {url: %[3]q, wait: 1s}}\n", format, policy, url, message)
	}
	kafka.topics(names...)
	l := newSite(t, kafka, pipelines.String(), nil)
	const n = 30
	want := map[string][]columns{}
	write := func(format string, version int, hold bool) {
		t.Helper()
		name := "orders_" + format
		var rows []columns
		if err := client.ask("write", args("topic", name, "format", format, "version", version, "first", len(want[format]), "n", n, "hold", hold), &rows); err != nil {
			t.Fatal(err)
		}
		want[format] = append(want[format], rows...)
	}
	read := func(what string) {
		t.Helper()
		for format, rows := range want {
			table := "shop.orders_" + format
			same(t, table+", "+what, l.holds("orders_"+format, table, len(rows)).Rows, rows)
			if dead := l.content(table + "_dead").Rows; len(dead) > 0 {
				t.Errorf("%s, %s: %d dead letters, the first: %v", table, what, len(dead), dead[0])
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for format := range policies {
		write(format, first, false)
	}
	l.ingest()
	read("the first schema")
	for format := range policies {
		write(format, wider, false)
		write(format, first, false) // a producer that was not deployed anew
	}
	read("a wider schema")

	for format := range policies {
		write(format, more, true)
	}
	registry.stop()
	if err := client.ask("flush", nil, nil); err != nil {
		t.Fatal(err)
	}
	for format := range policies {
		until(t, "trouble with the registry", 30*time.Second, func() (bool, string) {
			v := l.pipelineSays("orders_" + format)
			return v.State == "degraded" && strings.Contains(v.Cause, "registry"), fmt.Sprintf("%+v", v)
		})
	}
	time.Sleep(5 * time.Second) // several times as long as a pipeline waits before it starts over
	registry.start()
	read("a registry that was away")

	for format := range policies {
		write(format, other, false)
	}
	l.refused(want, n)
}

// refused: the last n events of each format are of a schema that does not fit, and each pipeline does with it what it was told to.
func (l *lake) refused(want map[string][]columns, n int) {
	l.t.Helper()
	until(l.t, "a stop", 30*time.Second, func() (bool, string) {
		v := l.pipelineSays("orders_avro")
		return v.State == "stopped" && strings.Contains(v.Cause, "note"), fmt.Sprintf("%+v", v)
	})
	before := func(format string) []columns { return want[format][:len(want[format])-n] }
	same(l.t, "avro, stopped", l.content("shop.orders_avro").Rows, before("avro"))

	dead := l.holds("orders_protobuf", "shop.orders_protobuf_dead", n).Rows
	for _, d := range dead {
		if d["reason"] != "incompatible_schema" || !strings.Contains(fmt.Sprint(d["message"]), "note") {
			l.t.Fatalf("a dead letter of another reason: %v", d)
		}
	}
	same(l.t, "protobuf, dead letters", l.content("shop.orders_protobuf").Rows, before("protobuf"))

	rows := want["json"]
	for i := range rows {
		rows[i]["note_v2"] = nil
		if i >= len(rows)-n {
			rows[i]["note"], rows[i]["note_v2"] = nil, rows[i]["note"]
		}
	}
	same(l.t, "json, a new column", l.holds("orders_json", "shop.orders_json", len(rows)).Rows, rows)
}
