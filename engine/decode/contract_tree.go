package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/firnlake/firn/engine"
)

// tree is a JSON document with its keys in order, which encoding/json's maps would lose: the order of a contract's
// properties is the order of the table's columns and the first guess at the order of keys in events.
type tree struct {
	keys   []string
	vals   []*tree
	isObj  bool
	isArr  bool
	scalar any // string, json.Number, bool or nil
}

const maxContractDepth = 64

// parseTree reads a document that nests at most maxDepth deep.
func parseTree(raw []byte, maxDepth int) (*tree, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	t, err := treeValue(dec, "", maxDepth)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		line, col := lineColumn(raw, int64(len(raw)))
		return nil, fmt.Errorf("line %d column %d: the file ends inside the document; is a bracket not closed?", line, col)
	}
	if err != nil {
		var syn *json.SyntaxError
		at := dec.InputOffset()
		if errors.As(err, &syn) {
			at = syn.Offset
		}
		line, col := lineColumn(raw, at)
		return nil, fmt.Errorf("line %d column %d: %w", line, col, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		line, col := lineColumn(raw, dec.InputOffset())
		return nil, fmt.Errorf("line %d column %d: text after the end of the schema", line, col)
	}
	return t, nil
}

func lineColumn(raw []byte, at int64) (line, col int) {
	head := raw[:min(max(at, 0), int64(len(raw)))]
	return 1 + bytes.Count(head, []byte("\n")), len(head) - bytes.LastIndexByte(head, '\n')
}

func treeValue(dec *json.Decoder, pointer string, depth int) (*tree, error) {
	if depth < 0 {
		return nil, fmt.Errorf("%s: nested too deeply", pointer)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		return treeObject(dec, pointer, depth)
	case json.Delim('['):
		t := &tree{isArr: true}
		for dec.More() {
			v, err := treeValue(dec, pointer+"/"+strconv.Itoa(len(t.vals)), depth-1)
			if err != nil {
				return nil, err
			}
			t.vals = append(t.vals, v)
		}
		_, err := dec.Token()
		return t, err
	}
	return &tree{scalar: tok}, nil
}

func treeObject(dec *json.Decoder, pointer string, depth int) (*tree, error) {
	t := &tree{isObj: true}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := tok.(string)
		if !ok {
			return nil, fmt.Errorf("%s: expected a key", pointer)
		}
		at := pointer + "/" + engine.EscapePointer(key)
		if t.get(key) != nil {
			return nil, fmt.Errorf("%s: the key is there twice", at)
		}
		v, err := treeValue(dec, at, depth-1)
		if err != nil {
			return nil, err
		}
		t.keys, t.vals = append(t.keys, key), append(t.vals, v)
	}
	_, err := dec.Token()
	return t, err
}

// get returns the value of a key; nil when t is no object or lacks it.
func (t *tree) get(key string) *tree {
	if t == nil || !t.isObj {
		return nil
	}
	for i, k := range t.keys {
		if k == key {
			return t.vals[i]
		}
	}
	return nil
}

func (t *tree) str() (string, bool) {
	if t == nil {
		return "", false
	}
	s, ok := t.scalar.(string)
	return s, ok
}

func (t *tree) isNull() bool { return !t.isObj && !t.isArr && t.scalar == nil }

// describe names the value's JSON type for messages.
func (t *tree) describe() string {
	switch {
	case t.isObj:
		return "an object"
	case t.isArr:
		return "an array"
	}
	switch v := t.scalar.(type) {
	case string:
		return "a string"
	case json.Number:
		return "the number " + v.String()
	case bool:
		return "a boolean"
	}
	return "null"
}

// nearest returns the candidate with the smallest edit distance to s; empty when none is close.
func nearest(s string, candidates []string) string {
	best, bestDist := "", max(2, len(s)/3)+1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(s), strings.ToLower(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}
