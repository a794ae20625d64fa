"""confluent-kafka's serializers against a schema registry: its URL, the brokers, and a directory of .proto files.

Each version of an event has its schema and a writer of the values of the n-th event. What a value reads like in Firn's table is
told beside it."""
import copy
import datetime as dt
import decimal
import json
import pathlib
import re
import sys
import tempfile
import uuid

import grpc_tools
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

from lines import serve
from plain import plain

url, brokers, protos = sys.argv[1:]
registry = SchemaRegistryClient({"url": url})
producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
UTC = dt.timezone.utc
BEGIN = dt.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC)

# The versions: 1 is the first; 2 has a column more and wider numbers; 3 has one more again; 4 has another type for "note".
FIRST, WIDER, MORE, OTHER = 1, 2, 3, 4


def address(n):
    return {"street": f"Straße {n}", "zip": n if n % 3 else None}


ADDRESS_AVRO = {"type": "record", "name": "Address", "namespace": "shop", "fields": [
    {"name": "street", "type": "string"}, {"name": "zip", "type": ["null", "int"], "default": None}]}


def avro_schema(version):
    fields = [
        {"name": "id", "type": "int" if version < WIDER else "long"},
        {"name": "ratio", "type": "float" if version < WIDER else "double"},
        {"name": "paid", "type": "boolean"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "SENT"] + (["LOST"] if version >= WIDER else [])}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
        {"name": "fee", "type": ["null", {"type": "fixed", "name": "Fee", "size": 6, "logicalType": "decimal", "precision": 10, "scale": 2}], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "at_ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "wall", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "clock", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "raw", "type": "bytes"},
        {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 4}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "long"}},
        {"name": "home", "type": "shop.Address"},
        {"name": "work", "type": ["null", "shop.Address"], "default": None},
    ]
    if version >= WIDER:
        fields.append({"name": "note", "type": ["null", "string" if version < OTHER else "long"], "default": None})
    if version >= MORE:
        fields.append({"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}, {"name": "n", "type": "int"}]}}, "default": []})
    return {"type": "record", "name": "Order", "namespace": "shop", "fields": fields}


def avro_event(version, n):
    e = {
        "id": n if version < WIDER else n + 2**40, "ratio": n + 0.5 if version < WIDER else n + 0.1, "paid": n % 2 == 0,
        "state": ["NEW", "SENT"][n % 2] if version < WIDER else "LOST",
        "amount": decimal.Decimal(n * 10**9 + 1).scaleb(-4) * (-1) ** n, "fee": None if n % 4 == 0 else decimal.Decimal(-n * 100 - 1).scaleb(-2),
        "at": BEGIN + dt.timedelta(microseconds=n), "at_ms": BEGIN.replace(microsecond=123000) + dt.timedelta(milliseconds=n),
        "wall": dt.datetime(1969, 12, 31, 23, 0, 0, 1) + dt.timedelta(hours=n), "day": dt.date(1969, 12, 30) + dt.timedelta(days=n),
        "clock": dt.time(n % 24, 59, 58, n), "key": uuid.UUID(int=n * 2**64 + n), "raw": bytes([0, n % 256, 255]), "sum": bytes([n % 256] * 4),
        "tags": [f"t{i}" for i in range(n % 4)], "counts": {f"k{i}": i * 2**33 for i in range(n % 3)},
        "home": address(n), "work": None if n % 2 else address(n + 1),
    }
    if version >= WIDER:
        e["note"] = n if version >= OTHER else None if n % 5 == 0 else f"näher {n}"
    if version >= MORE:
        e["lines"] = [{"sku": f"s{i}", "n": i} for i in range(n % 3)]
    return e, e


def avro_serializer(version):
    register("address-avro", "AVRO", ADDRESS_AVRO)
    return AvroSerializer(registry, Schema(json.dumps(avro_schema(version)), "AVRO", [SchemaReference("shop.Address", "address-avro", 1)]))


ADDRESS_JSON = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Address", "type": "object", "required": ["street"],
                "properties": {"street": {"type": "string"}, "zip": {"oneOf": [{"type": "null"}, {"type": "integer"}]}}}


def json_schema(version):
    s = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://example.com/order.json", "title": "Order", "type": "object", "required": ["id", "at"], "properties": {
        "id": {"type": "integer"}, "ratio": {"type": "number"}, "paid": {"type": "boolean"}, "state": {"type": "string", "enum": ["NEW", "SENT"]},
        "at": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"}, "key": {"type": "string", "format": "uuid"},
        "tags": {"type": "array", "items": {"type": "string"}}, "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "home": {"$ref": "http://example.com/address.json"}}}
    if version >= WIDER:
        s["properties"]["note"] = {"type": ["string", "null"]} if version < OTHER else {"type": "integer"}
    if version >= MORE:
        s["properties"]["lines"] = {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}}}}
    return s


def json_event(version, n):
    row, _ = avro_event(version, n)
    row = {k: row[k] for k in json_schema(version)["properties"]} | {"state": ["NEW", "SENT"][n % 2]}
    wire = row | {k: str(row[k]) for k in ("day", "key")} | {"at": row["at"].isoformat()}
    return wire, row


def json_serializer(version):
    register("address-json", "JSON", ADDRESS_JSON)
    return JSONSerializer(Schema(json.dumps(json_schema(version)), "JSON", [SchemaReference("http://example.com/address.json", "address-json", 1)]), registry)


def in_version(line, version):
    of = re.search(r"// versions (\d) to (\d)", line)
    return not of or int(of[1]) <= version <= int(of[2])


def proto_class(version):
    """protoc compiles the version's file; each has a pool of its own, for they are of one name."""
    text = pathlib.Path(protos, "order.proto").read_text()
    known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as dir:
        pathlib.Path(dir, "order.proto").write_text("".join(l for l in text.splitlines(True) if in_version(l, version)))
        out = pathlib.Path(dir, "set")
        if protoc.main(["protoc", f"-I{dir}", f"-I{protos}", f"-I{known}", "--include_imports", f"--descriptor_set_out={out}", "order.proto"]):
            raise RuntimeError("protoc failed")
        pool = descriptor_pool.DescriptorPool()
        for f in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
            pool.Add(f)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Sales.Order"))


def proto_event(version, n):
    cls = classes[version]
    src, _ = avro_event(version, n)
    names = {f.name for f in cls.DESCRIPTOR.fields}
    row = {"id": src["id"], "ratio": src["ratio"], "paid": src["paid"], "state": ["NEW", "SENT"][n % 2], "big": 2**64 - 1 - n,
           "at": src["at"], "raw": src["raw"], "tags": src["tags"], "counts": src["counts"], "maybe": None if n % 2 else n,
           "price": {"units": n * 2**33, "currency": "EUR" if n % 3 else ""}, "refund": None if n % 3 else {"units": -n, "currency": "USD"},
           "items": [{"sku": f"s{i}", "n": i} for i in range(n % 3)], "card": f"c{n}" if n % 2 else None, "iban": None if n % 2 else f"i{n}"}
    for k in ("note", "extra"):
        if k in names:
            row[k] = (n if version >= OTHER else f"näher {n}") if k == "note" else n
    wire = copy.deepcopy(row)
    m = cls()
    m.at.FromDatetime(wire.pop("at").replace(tzinfo=None))
    m.state = m.State.Value(wire.pop("state"))
    for k, v in wire.items():
        if v is None:
            continue
        if k in ("price", "refund"):
            getattr(m, k).SetInParent()
            for k2, v2 in v.items():
                setattr(getattr(m, k), k2, v2)
        elif k == "items":
            for i in v:
                m.items.add(**i)
        elif isinstance(v, list):
            getattr(m, k).extend(v)
        elif isinstance(v, dict):
            getattr(m, k).update(v)
        else:
            setattr(m, k, v)
    return m, row


classes = {}  # by version


def proto_serializer(version):
    classes[version] = proto_class(version)
    return ProtobufSerializer(classes[version], registry, {"use.deprecated.format": False})


FORMATS = {"avro": (avro_serializer, avro_event), "json": (json_serializer, json_event), "protobuf": (proto_serializer, proto_event)}
serializers, held = {}, []


def register(subject, kind, schema):
    registry.register_schema(subject, Schema(json.dumps(schema), kind))


def write(topic, format, version, first, n, hold=False):
    """n events, from the first on, in a version of a format; what their rows read like. With hold they are made and wait for flush."""
    make, event = FORMATS[format]
    s = serializers.get((format, version)) or serializers.setdefault((format, version), make(version))
    rows = []
    for i in range(first, first + n):
        wire, row = event(version, i)
        held.append((topic, s(wire, SerializationContext(topic, MessageField.VALUE))))
        rows.append(plain(row))
    if not hold:
        flush()
    return rows


def flush():
    def told(err, _):
        if err:
            failed.append(str(err))
    failed = []
    for topic, value in held:
        producer.produce(topic, value, partition=0, on_delivery=told)
    if producer.flush(30) or failed:
        raise RuntimeError(f"not produced: {failed[:3]}")
    held.clear()


serve({"write": write, "flush": flush})
