use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [("ca.pem", 0o644), ("agent.pem", 0o644), ("agent.key", 0o600)] {
        std::fs::write(folder.path().join(name), "x").unwrap();
        set(&folder.path().join(name), mode);
    }
    std::fs::create_dir(folder.path().join("state")).unwrap();
    set(&folder.path().join("state"), 0o700);
    folder
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const GOOD: &str = "[agent]\nid = \"auction-1\"\n[listen]\naddress = \"127.0.0.1:0\"\n[tls]\nca = \"ca.pem\"\n\
    cert = \"agent.pem\"\nkey = \"agent.key\"\n[state]\ndir = \"state\"\n";

fn parse(folder: &tempfile::TempDir, text: &str) -> Result<Config, Error> {
    Config::parse(&folder.path().join("opsd.toml"), text.to_owned())
}

#[test]
fn paths_begin_at_the_files_folder() {
    let folder = folder();
    let config = parse(&folder, GOOD).unwrap();
    assert_eq!(config.tls.key, folder.path().join("agent.key"));
    assert_eq!(config.agent.policy, folder.path().join("policy.toml"));
    assert_eq!(config.audit.dir, folder.path().join("state/audit"));
    assert_eq!(config.limits.connections, 512);
}

#[test]
fn what_is_shown_can_be_read_again() {
    let folder = folder();
    let shown = parse(&folder, GOOD).unwrap().show();
    assert!(shown.contains("handshake = \"5s\""), "{shown}");
    assert_eq!(parse(&folder, &shown).unwrap().show(), shown);
}

#[test]
fn every_mistake_has_its_line() {
    let folder = folder();
    for (text, line, says) in [
        (GOOD.replace("id =", "di ="), 2, "unknown field `di`"),
        (GOOD.replace("\"127.0.0.1:0\"", "\"nowhere\""), 4, "invalid socket address"),
        (GOOD.replace("cert = \"agent.pem\"\n", ""), 5, "missing field `cert`"),
        (GOOD.replace("auction-1", "au ction"), 2, "is not a subject name"),
        (format!("{GOOD}[limits]\nhandshake = \"soon\"\n"), 12, "is not a duration"),
        (format!("{GOOD}[limits]\nconnections = 0\n"), 12, "connections is 0"),
        (format!("{GOOD}[shell]\n"), 11, "unknown field `shell`"),
        (format!("{GOOD}]"), 11, ""),
    ] {
        let error = parse(&folder, &text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn unsafe_files_are_refused_with_what_to_run() {
    let folder = folder();
    set(&folder.path().join("agent.key"), 0o644);
    let error = parse(&folder, GOOD).unwrap_err();
    assert_eq!(error.line, 8);
    assert!(error.message.contains("has mode 0644") && error.message.contains("chmod 0600"), "{error}");
    set(&folder.path().join("agent.key"), 0o600);
    set(&folder.path().join("state"), 0o755);
    assert!(parse(&folder, GOOD).unwrap_err().message.contains("chmod 0700"));
    set(&folder.path().join("state"), 0o700);
    set(&folder.path().join("agent.pem"), 0o666);
    assert!(parse(&folder, GOOD).unwrap_err().message.contains("chmod go-w"));
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    assert!(parse(&folder, GOOD).unwrap_err().message.contains("is missing"));
}
