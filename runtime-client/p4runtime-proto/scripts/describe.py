#!/usr/bin/env python3
"""Lists what the descriptors of PyPI's `p4runtime` package say, one fact per line, for tests/descriptors.rs.

    python3 -m venv venv && venv/bin/pip install p4runtime
    venv/bin/python describe.py > ../tests/descriptors.txt

Lines, in sorted order within a file:
    file PATH PACKAGE
    message NAME
    field MESSAGE NUMBER NAME LABEL TYPE [oneof=NAME | optional] [packed] [deprecated] [json=NAME]
    enum NAME
    value ENUM NUMBER NAME
    reserved MESSAGE FIRST LAST        (numbers, both ends included)
    rpc SERVICE METHOD REQUEST RESPONSE unary|client|server|both
"""

import importlib
import os
import sys

# The package's modules were generated before protobuf 3.19; only protobuf's pure Python side still loads such.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

from google.protobuf import descriptor_pb2  # noqa: E402

# The files whose text this crate has of its own.
MODULES = [
    "google.rpc.code_pb2",
    "google.rpc.status_pb2",
    "p4.config.v1.p4info_pb2",
    "p4.config.v1.p4types_pb2",
    "p4.v1.p4data_pb2",
    "p4.v1.p4runtime_pb2",
]

Field = descriptor_pb2.FieldDescriptorProto
LABELS = {Field.LABEL_OPTIONAL: "singular", Field.LABEL_REPEATED: "repeated", Field.LABEL_REQUIRED: "required"}


def type_of(field):
    if field.type_name:
        return field.type_name.lstrip(".")
    return Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def camel(name):
    """The JSON name protobuf gives a field that states none."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def field_line(owner, message, field):
    words = ["field", owner, str(field.number), field.name, LABELS[field.label], type_of(field)]
    if field.proto3_optional:
        words.append("optional")
    elif field.HasField("oneof_index"):
        words.append("oneof=" + message.oneof_decl[field.oneof_index].name)
    if field.options.HasField("packed"):
        words.append("packed=" + str(field.options.packed).lower())
    if field.options.deprecated:
        words.append("deprecated")
    if field.json_name and field.json_name != camel(field.name):
        words.append("json=" + field.json_name)
    return " ".join(words)


def enum_lines(prefix, enum):
    name = f"{prefix}.{enum.name}"
    yield f"enum {name}"
    for value in enum.value:
        yield f"value {name} {value.number} {value.name}"


def message_lines(prefix, message):
    name = f"{prefix}.{message.name}"
    yield f"message {name}" + (" map" if message.options.map_entry else "")
    for field in message.field:
        yield field_line(name, message, field)
    for taken in message.reserved_range:
        yield f"reserved {name} {taken.start} {taken.end - 1}"
    for enum in message.enum_type:
        yield from enum_lines(name, enum)
    for nested in message.nested_type:
        yield from message_lines(name, nested)


def service_lines(package, service):
    kinds = {(False, False): "unary", (True, False): "client", (False, True): "server", (True, True): "both"}
    for rpc in service.method:
        kind = kinds[rpc.client_streaming, rpc.server_streaming]
        request, response = rpc.input_type.lstrip("."), rpc.output_type.lstrip(".")
        yield f"rpc {package}.{service.name} {rpc.name} {request} {response} {kind}"


def file_lines(file):
    yield f"file {file.name} {file.package} {file.syntax}"
    lines = []
    for message in file.message_type:
        lines += message_lines(file.package, message)
    for enum in file.enum_type:
        lines += enum_lines(file.package, enum)
    for service in file.service:
        lines += service_lines(file.package, service)
    yield from sorted(lines)


def main():
    for module in MODULES:
        file = descriptor_pb2.FileDescriptorProto()
        importlib.import_module(module).DESCRIPTOR.CopyToProto(file)
        print("\n".join(file_lines(file)))


if __name__ == "__main__":
    sys.exit(main())
