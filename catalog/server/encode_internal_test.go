package server

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/firnlake/firn/catalog/internal/wire"
)

// TestEncodedTableIsWhatMarshalGives, whatever its strings hold.
func TestEncodedTableIsWhatMarshalGives(t *testing.T) {
	odd := `s3://lake/"metadata":0/x`
	for name, body := range map[string]any{
		"a table":           wire.LoadTable{MetadataLocation: &odd, Metadata: json.RawMessage(`{"a":[1,"\"metadata\":0"]}`), Config: map[string]string{`"metadata":0`: odd}},
		"without a place":   wire.LoadTable{Metadata: json.RawMessage(`{}`)},
		"without metadata":  wire.LoadTable{},
		"something else":    map[string]int{"metadata": 0},
		"with white space ": wire.LoadTable{Metadata: json.RawMessage("{ \"a\" :\n1}")},
	} {
		got, err := encodeBody(body)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(got, &a); err != nil {
			t.Errorf("%s: %v in %s", name, err, got)
		}
		if err := json.Unmarshal(want, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
