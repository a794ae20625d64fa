package decode

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/firnlake/firn/internal/registry"
)

// protoValue is what is special to a value of Protobuf's.
type protoValue struct {
	fd      protoreflect.FieldDescriptor // nil at the top
	op      protoOp
	element bool // of a list or a map: nothing is absent there
}

// LoadProtobuf reads what a topic's events are from the text of a .proto file. refs are the files that it imports; those
// of google/protobuf are known. message is the full name of the event; empty takes the file's first. Errors wrap
// ErrContract and name the field and what would work.
func LoadProtobuf(text []byte, refs []registry.Reference, name, message string) (*Contract, error) {
	fd, err := compileProto(string(text), refs)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrContract, name, err)
	}
	in := fd.Messages()
	if message == "" && in.Len() > 0 {
		return protoContract(in.Get(0), name)
	}
	var known []string
	if md := findMessage(in, message, &known); md != nil {
		return protoContract(md, name)
	}
	return nil, noMessage(name, message, known)
}

// LoadDescriptorSet is LoadProtobuf for a FileDescriptorSet (protoc --include_imports --descriptor_set_out).
func LoadDescriptorSet(raw []byte, name, message string) (*Contract, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil || len(set.File) == 0 {
		return nil, fmt.Errorf("%w: %s is no FileDescriptorSet (protoc --include_imports --descriptor_set_out); a file of text is to end in .proto", ErrContract, name)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not whole (protoc --include_imports): %w", ErrContract, name, err)
	}
	var known []string
	var md protoreflect.MessageDescriptor
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		md = findMessage(fd.Messages(), message, &known)
		return md == nil
	})
	switch {
	case message == "":
		return nil, fmt.Errorf("%w: %s holds %d messages: say which one with message", ErrContract, name, len(known))
	case md == nil:
		return nil, noMessage(name, message, known)
	}
	return protoContract(md, name)
}

func protoContract(md protoreflect.MessageDescriptor, name string) (*Contract, error) {
	r := protoReader{inside: map[protoreflect.FullName]bool{}}
	root := &valueType{kind: kindStruct, pointer: string(md.FullName()), proto: &protoValue{op: protoNested}}
	if err := r.message(md, root); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrContract, name, err)
	}
	if len(root.fields) == 0 {
		return nil, fmt.Errorf("%w: %s: %s has no fields; name another message", ErrContract, name, md.FullName())
	}
	return newContract(name, root)
}

func noMessage(name, message string, known []string) error {
	hint := ""
	if n := nearest(message, known); n != "" {
		hint = fmt.Sprintf("; did you mean %q?", n)
	}
	return fmt.Errorf("%w: %s: there is no message %q%s", ErrContract, name, cut(message, maxPlaceName), hint)
}

// findMessage looks for a message by its full name, within messages too.
func findMessage(in protoreflect.MessageDescriptors, name string, known *[]string) protoreflect.MessageDescriptor {
	for i := range in.Len() {
		md := in.Get(i)
		if string(md.FullName()) == name {
			return md
		}
		*known = append(*known, string(md.FullName()))
		if inner := findMessage(md.Messages(), name, known); inner != nil {
			return inner
		}
	}
	return nil
}

// protoFile is what the compiler calls the schema itself.
const protoFile = "firn/schema.proto"

// compileProto compiles a schema as a registry has it: its text, or what encodedProto reads.
func compileProto(text string, refs []registry.Reference) (protoreflect.FileDescriptor, error) {
	files := make(map[string]string, len(refs)+1)
	for _, r := range refs {
		files[r.Name] = r.Text
	}
	files[protoFile] = text
	found := func(name string) (protocompile.SearchResult, error) {
		text, ok := files[name]
		if !ok {
			return protocompile.SearchResult{}, protoregistry.NotFound
		}
		if fd := encodedProto(text); fd != nil {
			fd.Name = &name
			return protocompile.SearchResult{Proto: fd}, nil
		}
		return protocompile.SearchResult{Source: strings.NewReader(text)}, nil
	}
	c := protocompile.Compiler{MaxParallelism: 1, Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(found))}
	out, err := c.Compile(context.Background(), protoFile)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), protoFile+":", "line "))
	}
	return out[0], nil
}

// encodedProto reads a file's descriptor in Base64, which is how confluent-kafka for Python and .NET register a schema. Confluent's
// registry makes text of it, Apicurio gives it back as it came. nil for text: without a space or a semicolon that declares nothing.
func encodedProto(text string) *descriptorpb.FileDescriptorProto {
	raw, err := base64.StdEncoding.DecodeString(text)
	fd := new(descriptorpb.FileDescriptorProto)
	if err != nil || len(raw) == 0 || proto.Unmarshal(raw, fd) != nil {
		return nil
	}
	return fd
}

// byIndexes follows the message indexes of the Confluent wire format; nil when they lead nowhere.
func byIndexes(fd protoreflect.FileDescriptor, indexes []int32) protoreflect.MessageDescriptor {
	in := fd.Messages()
	var md protoreflect.MessageDescriptor
	for _, i := range indexes {
		if int(i) >= in.Len() {
			return nil
		}
		md = in.Get(int(i))
		in = md.Messages()
	}
	return md
}

// protoReader turns message descriptors into the types of columns.
type protoReader struct {
	inside map[protoreflect.FullName]bool // messages around the present one
	types  int
}

func (r *protoReader) message(md protoreflect.MessageDescriptor, v *valueType) error {
	if r.inside[md.FullName()] {
		return fmt.Errorf("%s: %s contains itself, and a table's columns cannot; name a schema file without the field, it is then read over", v.pointer, md.FullName())
	}
	r.inside[md.FullName()] = true
	defer delete(r.inside, md.FullName())
	lower := map[string]protoreflect.Name{}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		name := string(fd.Name())
		if other, twice := lower[strings.ToLower(name)]; twice {
			return fmt.Errorf("%s: it differs from %q in upper and lower case only, which SQL engines do not tell apart; rename one", fd.FullName(), other)
		}
		lower[strings.ToLower(name)] = fd.Name()
		ft, err := r.field(fd)
		if err != nil {
			return err
		}
		v.fields = append(v.fields, field{name: name, required: true, typ: ft})
	}
	return nil
}

// field gives the column of a field: a list, a map, or one value.
func (r *protoReader) field(fd protoreflect.FieldDescriptor) (*valueType, error) {
	at := string(fd.FullName())
	switch {
	case fd.IsMap():
		elem, err := r.value(fd.MapValue(), at)
		if err != nil {
			return nil, err
		}
		elem.proto.element = true
		return &valueType{kind: kindMap, pointer: at, elem: elem, proto: &protoValue{fd: fd, op: protoMap}}, nil
	case fd.IsList():
		elem, err := r.value(fd, at)
		if err != nil {
			return nil, err
		}
		elem.proto.element = true
		return &valueType{kind: kindList, pointer: at, elem: elem, proto: &protoValue{fd: fd, op: protoList}}, nil
	}
	v, err := r.value(fd, at)
	if err == nil {
		v.nullable = fd.HasPresence() && fd.Cardinality() != protoreflect.Required
	}
	return v, err
}

// value gives the column of a field's single value.
func (r *protoReader) value(fd protoreflect.FieldDescriptor, at string) (*valueType, error) {
	if r.types++; r.types > maxContractTypes {
		return nil, fmt.Errorf("%s: the schema has more than %d fields; take some out", at, maxContractTypes)
	}
	v := &valueType{pointer: at, proto: &protoValue{fd: fd}}
	switch fd.Kind() {
	case protoreflect.GroupKind:
		return nil, fmt.Errorf("%s: groups have no column; name a schema file without the field, it is then read over", at)
	case protoreflect.MessageKind:
		return v, r.nested(fd.Message(), v)
	}
	v.kind, v.proto.op = protoScalarOf(fd.Kind())
	if v.kind == kindDecimal {
		v.precision = uint64Digits
	}
	return v, nil
}

// uint64Digits is what 64 bits without a sign need, which no integer type of Iceberg's holds.
const uint64Digits = 20

// nested gives the column of a message: those of google.protobuf that stand for a plain value, else a struct.
func (r *protoReader) nested(md protoreflect.MessageDescriptor, v *valueType) error {
	if isWrapper(md) {
		inner, err := r.value(md.Fields().Get(0), v.pointer)
		if err != nil {
			return err
		}
		v.kind, v.precision, v.proto.op = inner.kind, inner.precision, protoWrapper
		return nil
	}
	switch md.FullName() {
	case "google.protobuf.Timestamp":
		v.kind, v.epochUnit, v.proto.op = kindEpoch, 1, protoTimestamp
	case "google.protobuf.Duration":
		v.kind, v.proto.op, v.doc = kindLong, protoDuration, "microseconds"
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue":
		v.kind, v.proto.op, v.doc = kindString, protoJSONText, "JSON"
	default:
		if md.Fields().Len() == 0 { // a struct without columns cannot be stored; that it was there can
			v.kind, v.proto.op = kindBool, protoPresent
			return nil
		}
		v.kind, v.proto.op = kindStruct, protoNested
		return r.message(md, v)
	}
	return nil
}

// isWrapper tells the messages of google.protobuf that hold one value, so that it may be absent.
func isWrapper(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value", "google.protobuf.UInt64Value",
		"google.protobuf.Int32Value", "google.protobuf.UInt32Value", "google.protobuf.BoolValue", "google.protobuf.StringValue", "google.protobuf.BytesValue":
		return true
	}
	return false
}
