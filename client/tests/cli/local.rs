//! The documents of commands that ask no agent: `docs/json.md` holds them by hand, and this holds the page to what is
//! printed.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::stand_in::{Said, opsctl};

/// Kind, commands, fields: name, type, meaning.
type Document = (&'static str, &'static str, &'static [(&'static str, &'static str, &'static str)]);

const DOCUMENTS: &[Document] = &[
    (
        "contexts",
        "context list",
        &[
            ("config", "string", "The configuration file."),
            (
                "contexts",
                "list",
                "`name`, `current`, `agent`, `subject` (null: brings a token), `addresses`, `server_name`.",
            ),
        ],
    ),
    (
        "context",
        "context show",
        &[
            ("name", "string or null", "Null for a bundle or a bare host."),
            ("from", "string", "`command line`, `current context`, or the environment variable."),
            ("agent", "string or null", "agent/NAME; null with --host."),
            ("addresses", "list of string", "host:port, tried in this order."),
            ("server_name", "string", "The name that the agent's certificate has to carry."),
            ("trust_domain", "string", "The name space of its CA."),
            ("subject", "string or null", "Whom the certificate names."),
            ("certificate_ends_at", "time or null", ""),
            ("token", "boolean", "A token comes from the environment."),
            ("audit_root", "string or null", "The first key of the agent's audit trail."),
            ("ca", "string or null", "The context's file, for curl and grpcurl."),
            ("cert", "string or null", "The context's file."),
            ("key", "string or null", "The context's file, mode 0600."),
        ],
    ),
    (
        "context_import",
        "context import",
        &[
            ("context", "string", "Its name."),
            ("renewed", "boolean", "The same agent and subject were there; the credentials are new."),
            ("current", "boolean", "It is the current context now."),
            ("folder", "string", "Holds ca.pem, cert.pem and key.pem."),
        ],
    ),
    ("context_use", "context use", &[("context", "string", "The current context now.")]),
    ("context_remove", "context remove", &[("context", "string", "Forgotten; its key is deleted.")]),
    (
        "pki_init",
        "pki init",
        &[
            ("folder", "string", "The CA's folder."),
            ("trust_domain", "string", ""),
            ("ends_at", "time", "The CA's last second."),
        ],
    ),
    (
        "pki_certificate",
        "pki issue agent/NAME, pki renew agent/NAME",
        &[
            ("subject", "string", "agent/NAME."),
            ("serial", "string", "32 hex digits."),
            ("ends_at", "time", "Its last second."),
            ("written_to", "string or null", "The file that was replaced: an agent renewed where its CA is."),
            ("certificate", "string or null", "PEM; null when it was written to a file."),
        ],
    ),
    (
        "pki_bundle",
        "pki issue NAME, pki renew NAME",
        &[
            ("subject", "string", "user/NAME or service/NAME."),
            ("serial", "string", "32 hex digits."),
            ("ends_at", "time", "The certificate's last second."),
            ("written_to", "null", ""),
            ("bundle", "string", "The bundle's text. It holds the private key unless a request was signed."),
        ],
    ),
    (
        "pki",
        "pki show",
        &[
            ("folder", "string", "The CA's folder."),
            ("trust_domain", "string", ""),
            ("ends_at", "time", "The CA's last second."),
            ("agents", "list", "`id`, `addresses`, `server_name`, `audit_root`."),
            (
                "certificates",
                "list",
                "Newest first: `serial`, `subject`, `issued_at`, `not_after`, `sha256`, `hosts` (agents).",
            ),
        ],
    ),
];

/// The part of `docs/json.md` about them.
pub(crate) fn page() -> String {
    let mut text = String::new();
    for (kind, commands, fields) in DOCUMENTS {
        let commands: Vec<_> = commands.split(", ").map(|command| format!("`opsctl {command}`")).collect();
        let _ = write!(
            text,
            "## {kind}\n\n{}\n\n| field | type | meaning |\n| --- | --- | --- |\n",
            commands.join(", ")
        );
        for (name, of, meaning) in *fields {
            let _ = writeln!(text, "| `{name}` | {of} | {meaning} |");
        }
        text.push('\n');
    }
    text
}

/// The document of a command that worked, held to the page.
fn held(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = opsctl(arguments);
    command.args(["-o", "json"]).current_dir(folder).env("OPSCTL_CONFIG", folder.join("laptop/config.toml"));
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.code, 0, "{arguments:?}: {}", said.stderr);
    let document = said.document();
    let kind = document["kind"].as_str().unwrap().to_owned();
    let (.., fields) = DOCUMENTS.iter().find(|(known, ..)| *known == kind).unwrap();
    let mut expected: Vec<&str> = fields.iter().map(|(name, ..)| *name).chain(["kind", "version"]).collect();
    let mut printed: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    expected.sort_unstable();
    printed.sort_unstable();
    assert_eq!(printed, expected, "{kind}");
    document
}

#[test]
fn files_only_commands_print_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    held(folder, &["pki", "init", "--ca", "ca"]);
    let agent = "agent/one".parse().unwrap();
    let (request, _) = ops_trust::leaf::new_csr(&agent, &["one.example".parse().unwrap()]).unwrap();
    std::fs::write(folder.join("agent.csr"), request).unwrap();
    let root = ops_trust::key::SigningKey::generate().unwrap().public();
    let root = format!("--audit-root={root}");
    let issue = [
        "pki",
        "issue",
        "agent/one",
        "--ca",
        "ca",
        "--csr",
        "agent.csr",
        "--address",
        "one.example:7443",
        &root,
    ];
    assert!(held(folder, &issue)["certificate"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let bundle = held(folder, &["pki", "issue", "ana", "--role", "viewer", "--ca", "ca"]);
    ops_trust::private_file::create(&folder.join("ana.toml"), bundle["bundle"].as_str().unwrap().as_bytes())
        .unwrap();
    assert_eq!(held(folder, &["pki", "show", "--ca", "ca"])["certificates"][0]["subject"], "user/ana");
    held(folder, &["context", "import", "ana.toml"]);
    held(folder, &["context", "use", "one"]);
    assert_eq!(held(folder, &["context", "list"])["contexts"][0]["name"], "one");
    assert_eq!(held(folder, &["context", "show"])["subject"], "user/ana");
    held(folder, &["context", "remove", "one"]);
}
