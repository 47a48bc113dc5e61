//! The other ways in: REST with a token, gRPC health with a certificate.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::demo::run::{Fault, Show};

pub(super) fn rest(show: &mut Show<'_>) -> Result<String, Fault> {
    let description = show.sandbox.description();
    let (Some(agent), Some(ca)) = (&description.agent, &description.ca) else {
        return Err("there is no agent".to_owned());
    };
    // From a file that only we read: arguments are everybody's to see.
    let header = description.dir.join("token.header");
    println!(
        "\n$ echo \"Authorization: Bearer $(opsctl --context viewer access token create -q)\" > {}",
        header.display()
    );
    let token = show.quietly("viewer", &["access", "token", "create", "-q"])?;
    write_private(&header, &format!("Authorization: Bearer {}\n", token.trim()))
        .map_err(|error| format!("{}: {error}", header.display()))?;
    let url = |path: &str| format!("https://{}{path}", agent.address);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]).arg(ca);
    curl.args(["-H", &format!("@{}", header.display()), &url("/api/health"), &url("/v1/services")]);
    let seen = show.program(&mut curl)?;
    seen.exits(0)?.says(&["\"healthy\"", "\"backend\""])?;

    let mut without = Command::new("curl");
    without.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]).arg(ca);
    show.program(without.arg(url("/v1/services")))?.fails()?.says(&["401"])?;
    Ok("curl gets the same answer with a viewer's token, and none without".to_owned())
}

pub(super) fn health(show: &mut Show<'_>) -> Result<String, Fault> {
    let description = show.sandbox.description();
    let (Some(agent), Some(ca), Some(viewer)) =
        (&description.agent, &description.ca, description.identities.get("viewer"))
    else {
        return Err("there is no agent".to_owned());
    };
    let ask = |service: Option<&str>| match &description.tools.grpc_health_probe {
        Some(probe) => {
            let mut ask = Command::new(probe);
            ask.args(["-addr", &agent.address, "-tls", "-tls-ca-cert"]).arg(ca);
            if let Some(service) = service {
                ask.arg("-tls-client-cert").arg(&viewer.cert).arg("-tls-client-key").arg(&viewer.key);
                ask.args(["-service", service]);
            }
            ask
        }
        None => {
            let mut ask = Command::new(description.opsd.with_file_name("sample-platform"));
            ask.args(["health-probe", "--address", &agent.address, "--ca"]).arg(ca);
            if let Some(service) = service {
                ask.arg("--cert").arg(&viewer.cert).arg("--key").arg(&viewer.key);
                ask.args(["--service", service]);
            }
            ask
        }
    };
    show.program(&mut ask(None))?.exits(0)?.says(&["SERVING"])?;
    show.program(&mut ask(Some("backend")))?.exits(0)?.says(&["SERVING"])?;
    Ok("any health client asks for the agent, and with a certificate for a service".to_owned())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
