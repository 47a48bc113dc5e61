//! The texts that `opsd init` writes and prints.

use std::fmt::Write as _;
use std::path::Path;

use ops_trust::policy::Binding;
use ops_trust::subject::Subject;

use super::detect::Detected;
use super::{Facts, InitArgs, InitReport, Paths};

/// `policy.toml` with the first admin.
pub(super) fn policy(admin: &Subject, role: &Binding) -> String {
    format!(
        "# Who may do what. Roles: {}.\n\
         # `services = [\"backend\"]` scopes them. After a change: opsctl agent reload, or SIGHUP to opsd.\n\n{}",
        ops_trust::policy::ROLES.join(", "),
        role.to_toml(admin)
    )
}

/// `opsd.toml`. Its paths begin at its own folder.
pub(super) fn config(args: &InitArgs, facts: &Facts, paths: &Paths, detected: Option<&Detected>) -> String {
    let state = toml::Value::String(paths.state.display().to_string());
    let mut text = format!(
        "# Made by opsd init. Check a change with: opsd check-config. Defaults: opsd show-config.\n\n\
         [agent]\nid = \"{id}\"\npolicy = \"policy.toml\"\n\n\
         [listen]\naddress = \"{listen}\"\n\n\
         [tls]\nca = \"ca.pem\"\ncert = \"agent.pem\"\nkey = \"agent.key\"\n\n\
         [token]\nkey = \"token.key\"\n\n\
         [state]\ndir = {state}\n",
        id = facts.agent.name(),
        listen = args.listen,
    );
    if let Some(detected) = detected {
        text.push_str(&detected.sections());
    }
    text
}

/// What is printed at the end.
pub(super) fn next_steps(args: &InitArgs, facts: &Facts, paths: &Paths, report: &InitReport) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{} in {}", facts.agent, paths.etc.display());
    let _ = writeln!(text, "audit root  {}", report.audit_root);
    let _ = writeln!(text, "            its public key; it stands in every bundle, keep a copy elsewhere");
    if let Some(detected) = &report.detected {
        text.push_str(&detected.summary());
    }
    let root = paths.root.as_deref().map_or_else(String::new, |root| format!(" --root {}", quoted(root)));
    let _ = writeln!(text, "\nnext:");
    let mut steps = Vec::new();
    if args.csr {
        steps.push(format!(
            "where the CA is: opsctl pki issue {} --csr agent.csr {} --audit-root={} > agent.pem",
            facts.agent,
            addresses(facts),
            report.audit_root
        ));
        steps.push(format!("bring agent.pem, and ca.pem from the CA's folder, to {}", paths.etc.display()));
        steps.push(format!("where the CA is: opsctl pki issue {} > admin.bundle.toml", facts.admin.name()));
    }
    if let Some(detected) = &report.detected {
        steps.extend(detected.rights());
    }
    if args.root.is_none() {
        steps.push(format!(
            "chown -R opsd: {} {} {}      (the agent's user, when that is not root)",
            paths.state.display(),
            paths.key.display(),
            paths.token_key.display()
        ));
    }
    steps.push(format!("opsd run{root}"));
    if args.csr {
        steps.push("opsctl context import admin.bundle.toml && rm admin.bundle.toml".to_owned());
    } else {
        let bundle = quoted(&paths.bundle);
        steps.push(format!("opsctl context import {bundle} && rm {bundle}"));
    }
    steps.push("opsctl status".to_owned());
    for step in steps {
        let _ = writeln!(text, "  {step}");
    }
    if !args.csr && args.root.is_none() {
        let _ = writeln!(
            text,
            "more people: ssh {} sudo opsctl pki issue NAME --role operator | opsctl context import -",
            facts.server_name
        );
    }
    text
}

fn addresses(facts: &Facts) -> String {
    facts.addresses.iter().map(|a| format!("--address {a}")).collect::<Vec<_>>().join(" ")
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
