package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFileBytes bounds a configuration file; some broken files cost the parser the square of their length.
const maxFileBytes = 256 << 10

// Prefix starts every environment variable that overrides a key.
const Prefix = "FIRN_"

// Options tune a load; the zero value reads the process's environment.
type Options struct {
	// Environ replaces os.Environ, as NAME=value.
	Environ []string
	// Reserved are further FIRN_ variables, or prefixes of them that end in _, which are not configuration.
	Reserved []string
}

// Sources tells where each value came from.
type Sources struct{ places map[string]place }

// Of names the source of the key's value: file:line, the variable, or "default".
func (s *Sources) Of(path string) string {
	if s != nil {
		if p, ok := s.places[path]; ok {
			return p.String()
		}
	}
	return "default"
}

// Load reads the file and the environment into the struct that into points to. Without a path only the
// environment is read.
func Load(path string, into any) error {
	_, err := LoadWith(path, into, Options{})
	return err
}

// LoadWith is Load with options; it also tells where each value came from.
func LoadWith(path string, into any, opts Options) (*Sources, error) {
	if path == "" {
		return Read("", nil, into, opts)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: name an existing file with -c", ErrInvalid, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, fmt.Errorf("%w: %s is a directory: name the file in it with -c", ErrInvalid, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrInvalid, path, err)
	}
	return Read(filepath.Base(path), data, into, opts)
}

// LoadBytes is Load of a text; name stands for the file in errors.
func LoadBytes(name string, data []byte, into any) error {
	_, err := Read(name, data, into, Options{})
	return err
}

// Read binds data, then the environment, then fills defaults and validates. On an error the struct is partly filled
// and must not be used.
func Read(name string, data []byte, into any, opts Options) (*Sources, error) {
	root := reflect.ValueOf(into)
	if root.Kind() != reflect.Pointer || root.IsNil() || root.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: cannot read into a %T: a pointer to a struct is wanted", into)
	}
	root = root.Elem()
	if len(data) > maxFileBytes {
		return nil, &Error{File: name, Msg: fmt.Sprintf("the file is longer than %d bytes: that is no configuration", maxFileBytes)}
	}
	b := &binder{src: newSource(name, data), root: root.Type(), places: map[string]place{}, anchors: map[string]ast.Node{}}
	doc, fault := parse(b.src, data)
	if fault != nil {
		return nil, fault
	}
	if doc != nil {
		b.bind("", doc, root, nil, 0)
	}
	errs := b.finish()
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	errs = append(errs, applyEnvironment(root, b.places, opts)...)
	if len(errs) == 0 {
		c := &checker{places: b.places, file: name}
		c.check("", root, false)
		errs = c.errs
	}
	return &Sources{places: b.places}, join(errs)
}

// parse gives the document's node, nil for an empty file. The parser meets foreign bytes, so a panic of it is an
// error of the file.
func parse(src *source, data []byte) (node ast.Node, fault *Error) {
	defer func() {
		if r := recover(); r != nil {
			node, fault = nil, &Error{File: src.name, Msg: "this is not YAML that can be read"}
		}
	}()
	if line, column := tooDeep(data); line > 0 {
		return nil, &Error{File: src.name, Line: line, Column: column, Msg: fmt.Sprintf("lists or blocks are nested more than %d deep", maxDepth)}
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		fault = &Error{File: src.name, Msg: "this is not YAML", cause: err}
		var y yaml.Error
		if errors.As(err, &y) {
			fault.Msg = y.GetMessage()
			if tok := y.GetToken(); tok != nil && tok.Position != nil {
				fault.Line, fault.Column = tok.Position.Line, tok.Position.Column
				if fault.Line >= 1 && fault.Line <= len(src.lines) && !secretLike.MatchString(src.lines[fault.Line-1]) {
					fault.Snippet = src.snippet(fault.Line, fault.Column)
				}
			}
		}
		fault.cause = nil // the parser's error quotes lines around the place, and with them secrets
		return nil, fault
	}
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if _, comment := d.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if node != nil {
			return nil, &Error{File: src.name, Msg: "the file holds more than one document (---): keep one"}
		}
		node = d.Body
	}
	return node, nil
}

// tooDeep finds brackets, or lists within lists on one line, nested deeper than any configuration: the parser recurses
// on them. Those inside quotes count too, which no sensible file notices.
func tooDeep(data []byte) (line, column int) {
	depth, markers, line := 0, 0, 1
	for i, c := range data {
		column++
		switch c {
		case '\n':
			line, column, markers = line+1, 0, 0
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case '-', '?':
			if i+1 < len(data) && (data[i+1] == ' ' || data[i+1] == '\t') {
				markers++
			}
		}
		if depth > maxDepth || markers > maxDepth {
			return line, column
		}
	}
	return 0, 0
}
