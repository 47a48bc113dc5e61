//! `docs/json.md`: every document of `-o json`, its fields and what they mean, from the protos and their comments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// Kind, message, and the commands that print it.
const DOCUMENTS: &[(&str, &str, &str)] = &[
    ("agent", "GetAgentResponse", "agent info"),
    ("agent_reload", "ReloadAgentResponse", "agent reload"),
    ("audit_list", "ListAuditResponse", "audit list"),
    ("log_line", "LogLine", "log tail"),
    ("log_source_list", "ListSourcesResponse", "log sources"),
    ("start, rotated, truncated, gap, end", "LogNotice", "log tail"),
    ("backup", "Backup", "backup show"),
    ("backup_list", "ListBackupsResponse", "backup list"),
    ("database_ping", "PingDatabaseResponse", "db ping"),
    ("database_stats", "GetDatabaseStatsResponse", "db stats"),
    ("document_counts", "CountDocumentsResponse", "db count"),
    ("operation", "Operation", "operation get, operation wait, operation cancel, every change"),
    ("operation_list", "ListOperationsResponse", "operation list"),
    ("plan", "Plan", "every change with --plan"),
    ("probe_list", "ListProbesResponse", "probe list"),
    ("probe_run", "RunProbeResponse", "probe run"),
    ("role_list", "ListRolesResponse", "access roles"),
    ("service", "GetServiceResponse", "service get"),
    ("service_change", "WatchServicesResponse", "service watch"),
    ("service_list", "ListServicesResponse", "service list"),
    ("status", "GetStatusResponse", "status"),
    ("token", "CreateTokenResponse", "access token create"),
    ("whoami", "WhoAmIResponse", "access whoami"),
];

const HEAD: &str = "\
# JSON documents

`-o json` exists on every command and prints one document on stdout, also when the command fails; `-o jsonl` prints it
on one line, `-o yaml` as YAML. REST answers with the same documents. Streams print one document a line.

- Every document begins with `kind` and `version` (`v1`). Within `v1` fields are added, never changed or removed.
- Keys are snake_case, times RFC 3339 in UTC, durations in `_ms`, sizes in `_bytes`, several targets always a list.
- A field marked *optional* is left out when it is not known; empty lists and zeroes are printed.
- Values of enums are lower-case words; reasons keep their capitals.

## error

Whatever the command: it failed before it had anything else to show.

| field | type | meaning |
| --- | --- | --- |
| `exit_code` | integer | What opsctl ends with |
| `error` | [Problem](#problem) | Reason, sentence, evidence, next commands |

";

fn pool() -> DescriptorPool {
    DescriptorPool::decode(ops_proto::DESCRIPTORS).unwrap()
}

fn comment(message: &MessageDescriptor, field: &FieldDescriptor) -> String {
    let file = message.parent_file();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == field.path()));
    let text = location.and_then(|location| location.leading_comments.as_deref()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn type_name(field: &FieldDescriptor, queue: &mut BTreeSet<String>) -> String {
    let one = match field.kind() {
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => "time".to_owned(),
        Kind::Message(message) => {
            queue.insert(message.full_name().to_owned());
            format!("[{}](#{})", message.name(), message.name().to_ascii_lowercase())
        }
        Kind::Enum(of) => {
            let prefix = format!("{}_", snake(of.name()));
            let mut values: Vec<String> = of
                .values()
                .skip(1)
                .map(|value| value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_owned())
                .collect();
            if of.name() == "ErrorReason" {
                return "a reason, see `opsctl explain`".to_owned();
            }
            values.iter_mut().for_each(|value| *value = format!("`{}`", value.to_ascii_lowercase()));
            values.join(", ")
        }
        Kind::Bool => "boolean".to_owned(),
        Kind::Double | Kind::Float => "number".to_owned(),
        Kind::String | Kind::Bytes => "string".to_owned(),
        _ => "integer".to_owned(),
    };
    match field.cardinality() {
        Cardinality::Repeated => format!("list of {one}"),
        _ if field.supports_presence() => format!("{one}, *optional*"),
        _ => one,
    }
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

fn fields(text: &mut String, message: &MessageDescriptor, queue: &mut BTreeSet<String>) {
    text.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
    for field in message.fields() {
        let (kind, meaning) = (type_name(&field, queue), comment(message, &field));
        let _ = writeln!(text, "| `{}` | {kind} | {meaning} |", field.name());
    }
    text.push('\n');
}

#[test]
fn the_page_of_documents_is_what_the_contract_says() {
    let pool = pool();
    let mut text = HEAD.to_owned();
    let mut queue = BTreeSet::from(["ops.v1.Problem".to_owned()]);
    for (kind, message, commands) in DOCUMENTS {
        let message = pool.get_message_by_name(&format!("ops.v1.{message}")).unwrap();
        let commands: Vec<_> = commands.split(", ").map(|command| format!("`opsctl {command}`")).collect();
        let _ = write!(text, "## {kind}\n\n{}\n\n", commands.join(", "));
        fields(&mut text, &message, &mut queue);
    }
    text.push_str(&crate::local::page());
    text.push_str("## Parts\n\n");
    let mut done = BTreeSet::new();
    while let Some(name) = queue.iter().find(|name| !done.contains(*name)).cloned() {
        let message = pool.get_message_by_name(&name).unwrap();
        let _ = write!(text, "### {}\n\n", message.name());
        fields(&mut text, &message, &mut queue);
        done.insert(name);
    }
    crate::docs::hold(&BTreeMap::from([("json.md".to_owned(), text)]));
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_command_prints_a_document_that_the_page_lacks() {
    let mut files = Vec::new();
    sources(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut unknown = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for rest in text.split(".document(\"").skip(1) {
            let kind = rest.split('"').next().unwrap_or_default().to_owned();
            if !DOCUMENTS.iter().any(|(known, ..)| *known == kind) {
                unknown.insert(kind);
            }
        }
    }
    assert!(unknown.is_empty(), "not in DOCUMENTS of tests/cli/schema.rs: {unknown:?}");
}
