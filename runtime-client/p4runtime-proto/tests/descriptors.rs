//! The project's own .proto text against the standard's: `descriptors.txt` lists what PyPI's `p4runtime` package says,
//! and was written by `scripts/describe.py`.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

const LISTED: &str = include_str!("descriptors.txt");

/// Where the interpreter that has `p4runtime` is, if it is not `python3`.
const PYTHON: &str = "CAROM_P4RUNTIME_PYTHON";

#[test]
fn every_message_field_enum_and_rpc_is_the_standards() {
    let ours = describe(&own());
    let listed: BTreeSet<&str> = LISTED.lines().collect();
    let ours: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
    let missing: Vec<_> = listed.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&listed).collect();
    assert!(missing.is_empty() && extra.is_empty(), "the standard's, not ours: {missing:#?}\nours only: {extra:#?}");
    // A list that lost its content would agree with nothing of ours, but say so plainly.
    let count = |word: &str| listed.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((count("file "), count("rpc ")), (6, 6));
    assert!(count("field ") > 300 && count("message ") > 100 && count("value ") > 80, "the list is cut");
}

#[test]
fn the_list_is_what_the_package_says() {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/describe.py");
    let has_package = Command::new(&python)
        .args(["-c", "import importlib.util, google.rpc, sys; sys.exit(not importlib.util.find_spec('p4.v1'))"])
        .output()
        .is_ok_and(|probe| probe.status.success());
    if !has_package {
        // Straight to the descriptor: what goes through `println!` is hidden while a test passes.
        let line =
            format!("SKIPPED: descriptors.txt: {python} has no package p4runtime; {PYTHON}=python names one that has");
        let _ = writeln!(std::io::stderr(), "{line}");
        return;
    }
    let run = Command::new(&python).arg(script).output().expect("the interpreter just ran");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let fresh = String::from_utf8(run.stdout).expect("a list of ASCII names");
    assert!(fresh == LISTED, "descriptors.txt is stale: run scripts/describe.py > tests/descriptors.txt");
}

/// A difference in any one fact is seen.
#[test]
fn a_wrong_number_type_label_or_oneof_shows() {
    let good: BTreeSet<String> = describe(&own()).into_iter().collect();
    let changes: [fn(&mut FieldDescriptorProto); 6] = [
        |field| field.number = Some(77),
        |field| field.name = Some("renamed".into()),
        |field| field.r#type = Some(Type::Sint64 as i32),
        |field| field.label = Some(Label::Repeated as i32),
        |field| field.oneof_index = None,
        |field| field.proto3_optional = Some(true),
    ];
    for change in changes {
        let mut set = own();
        let file = set.file.iter_mut().find(|file| file.name() == "p4/v1/p4runtime.proto").expect("compiled");
        let action = file.message_type.iter_mut().find(|m| m.name() == "TableAction").expect("compiled");
        change(action.field.iter_mut().find(|f| f.name() == "action_profile_group_id").expect("compiled"));
        assert_ne!(good, describe(&set).into_iter().collect());
    }
}

fn own() -> FileDescriptorSet {
    FileDescriptorSet::decode(p4runtime_proto::FILE_DESCRIPTOR_SET).expect("written by the build")
}

/// The same lines as describe.py writes.
fn describe(set: &FileDescriptorSet) -> Vec<String> {
    let mut lines = Vec::new();
    // google.protobuf.Any comes with the compiler.
    for file in set.file.iter().filter(|file| file.package() != "google.protobuf") {
        describe_file(file, &mut lines);
    }
    lines
}

fn describe_file(file: &FileDescriptorProto, lines: &mut Vec<String>) {
    lines.push(format!("file {} {} {}", file.name(), file.package(), file.syntax()));
    for message in &file.message_type {
        describe_message(file.package(), message, lines);
    }
    for of_enum in &file.enum_type {
        describe_enum(file.package(), of_enum, lines);
    }
    for service in &file.service {
        describe_service(file.package(), service, lines);
    }
}

fn describe_message(prefix: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{prefix}.{}", message.name());
    let map = message.options.as_ref().is_some_and(|options| options.map_entry());
    lines.push(format!("message {name}{}", if map { " map" } else { "" }));
    lines.extend(message.field.iter().map(|field| describe_field(&name, message, field)));
    for taken in &message.reserved_range {
        lines.push(format!("reserved {name} {} {}", taken.start(), taken.end() - 1));
    }
    for of_enum in &message.enum_type {
        describe_enum(&name, of_enum, lines);
    }
    for nested in &message.nested_type {
        describe_message(&name, nested, lines);
    }
}

fn describe_field(owner: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Optional => "singular",
        Label::Repeated => "repeated",
        Label::Required => "required",
    };
    let of_type = match field.type_name().trim_start_matches('.') {
        "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        name => name.to_owned(),
    };
    let mut line = format!("field {owner} {} {} {label} {of_type}", field.number(), field.name());
    if field.proto3_optional() {
        line += " optional";
    } else if let Some(index) = field.oneof_index {
        line += " oneof=";
        line += message.oneof_decl[index as usize].name();
    }
    if let Some(options) = &field.options {
        if let Some(packed) = options.packed {
            line += &format!(" packed={packed}");
        }
        if options.deprecated() {
            line += " deprecated";
        }
    }
    if !field.json_name().is_empty() && field.json_name() != camel(field.name()) {
        line += &format!(" json={}", field.json_name());
    }
    line
}

fn describe_enum(prefix: &str, of_enum: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{prefix}.{}", of_enum.name());
    lines.push(format!("enum {name}"));
    lines.extend(of_enum.value.iter().map(|value| format!("value {name} {} {}", value.number(), value.name())));
}

fn describe_service(package: &str, service: &ServiceDescriptorProto, lines: &mut Vec<String>) {
    for rpc in &service.method {
        let kind = match (rpc.client_streaming(), rpc.server_streaming()) {
            (false, false) => "unary",
            (true, false) => "client",
            (false, true) => "server",
            (true, true) => "both",
        };
        let [request, response] = [rpc.input_type(), rpc.output_type()].map(|name| name.trim_start_matches('.'));
        lines.push(format!("rpc {package}.{} {} {request} {response} {kind}", service.name(), rpc.name()));
    }
}

/// The JSON name protobuf gives a field that states none.
fn camel(name: &str) -> String {
    let mut upper = false;
    name.chars()
        .filter_map(|c| {
            if c == '_' {
                upper = true;
                None
            } else if std::mem::take(&mut upper) {
                Some(c.to_ascii_uppercase())
            } else {
                Some(c)
            }
        })
        .collect()
}
