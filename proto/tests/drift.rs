//! The committed code is what the protos say. `OPS_PROTO_REGENERATE=1 cargo test -p ops-proto --test drift` writes
//! it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn protos() -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(root().join("ops/v1"))
        .unwrap()
        .map(|entry| format!("ops/v1/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

/// Every file that is generated, by its name under `src/generated`.
fn generate() -> BTreeMap<String, Vec<u8>> {
    let descriptors = protox::compile(protos(), [root()]).expect("the protos compile");
    let out = tempfile::tempdir().unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds_with_config(descriptors.clone(), config)
        .expect("code is generated");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(out.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "ops.v1.rs" {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    files.insert("rpc.rs".into(), rpcs(&descriptors).into_bytes());
    files.insert("descriptors.bin".into(), descriptors.encode_to_vec());
    files
}

/// `enum Rpc`: one variant a method, so that a table over all of them is one `match` without a wildcard.
fn rpcs(descriptors: &prost_types::FileDescriptorSet) -> String {
    let mut methods = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                methods.push((
                    method.name().to_owned(),
                    format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    method.server_streaming(),
                ));
            }
        }
    }
    methods.sort();
    let mut text = String::from("// Generated from the protos; see tests/drift.rs.\n\n");
    text.push_str("/// Every rpc of `ops.v1`; a method's name is unique in the package.\n");
    text.push_str("#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\npub enum Rpc {\n");
    for (name, path, _) in &methods {
        writeln!(text, "    /// `{path}`").unwrap();
        writeln!(text, "    {name},").unwrap();
    }
    text.push_str("}\n\nimpl Rpc {\n    /// All of them, by name.\n    pub const ALL: &'static [Rpc] = &[\n");
    for (name, ..) in &methods {
        writeln!(text, "        Rpc::{name},").unwrap();
    }
    text.push_str("    ];\n\n    /// The path of its HTTP/2 request.\n    #[must_use]\n    pub const fn path(self) -> &'static str {\n        match self {\n");
    for (name, path, _) in &methods {
        writeln!(text, "            Rpc::{name} => \"{path}\",").unwrap();
    }
    text.push_str("        }\n    }\n\n    /// Whether it answers with a stream.\n    #[must_use]\n    pub const fn is_streaming(self) -> bool {\n        match self {\n");
    for (name, _, streaming) in &methods {
        writeln!(text, "            Rpc::{name} => {streaming},").unwrap();
    }
    text.push_str("        }\n    }\n\n    /// The rpc of a request's path.\n    #[must_use]\n    pub fn from_path(path: &str) -> Option<Rpc> {\n        Some(match path {\n");
    for (name, path, _) in &methods {
        writeln!(text, "            \"{path}\" => Rpc::{name},").unwrap();
    }
    text.push_str("            _ => return None,\n        })\n    }\n}\n");
    text
}

#[test]
fn the_committed_code_is_what_the_protos_say() {
    let generated = root().join("src/generated");
    let regenerate = std::env::var_os("OPS_PROTO_REGENERATE").is_some();
    let mut stale = Vec::new();
    for (name, bytes) in generate() {
        let path: &Path = &generated.join(&name);
        if std::fs::read(path).ok().as_deref() != Some(&bytes) {
            if regenerate {
                std::fs::write(path, &bytes).unwrap();
            } else {
                stale.push(name);
            }
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {stale:?}; run OPS_PROTO_REGENERATE=1 cargo test -p ops-proto --test drift"
    );
}
