//! Who may name whom: the rules of ARCHITECTURE.md that no compiler holds.

use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// Lines of code beneath `folder` that name one of these.
fn naming(folder: &str, names: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in sources(&workspace().join(folder)) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if names.iter().any(|name| code.contains(name)) {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    wrong
}

#[test]
fn the_api_never_names_adapters() {
    let wrong = naming("agent/src/api", &["adapters::", "super::adapters"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn adapters_never_name_the_api_or_the_contract() {
    let wrong = naming("agent/src/adapters", &["crate::api", "ops_proto", "tonic::", "axum::", "crate::app"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_composition_root_knows_both_sides() {
    for (path, text) in sources(&workspace().join("agent/src")) {
        let inside = path.strip_prefix(workspace().join("agent/src")).unwrap().to_owned();
        if inside.starts_with("app") || inside == Path::new("app.rs") || inside == Path::new("main.rs") {
            continue;
        }
        let both = text.contains("crate::adapters") && text.contains("crate::api");
        assert!(!both, "{} knows both sides", path.display());
    }
}

#[test]
fn dependencies_go_one_way() {
    let manifest = |name: &str| -> toml::Table {
        fs::read_to_string(workspace().join(name).join("Cargo.toml")).unwrap().parse().unwrap()
    };
    for (package, never) in [
        (
            "agent/domain",
            &[
                "tonic",
                "prost",
                "axum",
                "hyper",
                "mongodb",
                "rusqlite",
                "clap",
                "nix",
                "rustls",
                "ops-proto",
                "ops-trust",
                "ops-agent",
            ][..],
        ),
        ("client", &["ops-agent", "ops-domain"]),
        ("proto", &["ops-agent", "ops-domain", "ops-trust", "axum", "tokio"]),
        ("trust", &["ops-agent", "ops-domain", "ops-proto", "tokio", "tonic"]),
        ("probe", &["ops-agent", "ops-domain", "ops-proto"]),
    ] {
        let manifest = manifest(package);
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let wrong: Vec<&&str> = never.iter().filter(|name| dependencies.contains_key(**name)).collect();
        assert!(wrong.is_empty(), "{package} depends on {wrong:?}");
    }
}

#[test]
fn every_crate_forbids_unsafe_code_and_keeps_the_house_rules() {
    let manifest = |path: &Path| -> toml::Table { fs::read_to_string(path).unwrap().parse().unwrap() };
    let workspace_manifest = manifest(&workspace().join("Cargo.toml"));
    assert_eq!(workspace_manifest["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for member in workspace_manifest["workspace"]["members"].as_array().unwrap() {
        let path = workspace().join(member.as_str().unwrap()).join("Cargo.toml");
        assert_eq!(manifest(&path)["lints"]["workspace"].as_bool(), Some(true), "{}", path.display());
    }
}
