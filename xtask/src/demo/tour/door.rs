//! The other ways in: REST with a token, gRPC health with a certificate.

use std::process::Command;

use crate::demo::run::{Fault, Show};

pub(super) fn rest(show: &mut Show<'_>) -> Result<String, Fault> {
    let description = show.sandbox.description();
    let (Some(agent), Some(ca)) = (&description.agent, &description.ca) else {
        return Err("there is no agent".to_owned());
    };
    println!("\n$ token=$(opsctl --context viewer access token create -q)");
    let token = show.quietly("viewer", &["access", "token", "create", "-q"])?.trim().to_owned();
    let url = |path: &str| format!("https://{}{path}", agent.address);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]).arg(ca);
    curl.args(["-H", &format!("Authorization: Bearer {token}"), &url("/api/health"), &url("/v1/services")]);
    let seen = show.program(&mut curl, Some(&token))?;
    seen.exits(0)?.says(&["\"healthy\"", "\"backend\""])?;

    let mut without = Command::new("curl");
    without.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]).arg(ca);
    show.program(without.arg(url("/v1/services")), None)?.fails()?.says(&["401"])?;
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
    show.program(&mut ask(None), None)?.exits(0)?.says(&["SERVING"])?;
    show.program(&mut ask(Some("backend")), None)?.exits(0)?.says(&["SERVING"])?;
    Ok("any health client asks for the agent, and with a certificate for a service".to_owned())
}
