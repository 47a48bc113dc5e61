//! TCP: the way to every other probe, and two probes of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::sample::{Attempt, Failure, Verdict, shown};
use crate::target::SocketTarget;

/// Resolves and connects; the addresses are tried in order.
pub(crate) async fn connect(
    target: &SocketTarget,
    attempt: &mut Attempt,
) -> Result<TcpStream, (Failure, String)> {
    let addresses = resolve(target, attempt).await?;
    let mut last = (Failure::Connect, "no address to connect to".to_owned());
    for address in addresses {
        if is_link_local(address.ip()) {
            // 169.254.169.254 hands out a cloud machine's credentials; no service lives on such an address.
            last = (Failure::Connect, format!("{address} is a link-local address, never probed"));
            continue;
        }
        let (connected, took) = attempt.phase("connecting", TcpStream::connect(address)).await?;
        attempt.timings.connect = Some(took);
        match connected {
            Ok(stream) => {
                attempt.address = Some(address);
                // A late segment would be measured as the server's slowness.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = (Failure::Connect, said(&error)),
        }
    }
    Err(last)
}

async fn resolve(target: &SocketTarget, attempt: &mut Attempt) -> Result<Vec<SocketAddr>, (Failure, String)> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
    let (found, took) = attempt.phase("resolving the name", lookup).await?;
    attempt.timings.dns = Some(took);
    match found {
        Ok(addresses) => Ok(addresses.take(8).collect()),
        Err(error) => Err((Failure::Dns, format!("no address for {}: {error}", target.host))),
    }
}

/// Passes when something listens.
pub(crate) async fn open(target: &SocketTarget, attempt: &mut Attempt) -> Verdict {
    connect(target, attempt).await?;
    Ok(format!("TCP {target} connected in {}", shown(attempt.timings.connect.unwrap_or_default())))
}

/// Passes when nothing listens. Silence is not proof: a firewall drops, so a timeout stays a timeout.
pub(crate) async fn closed(target: &SocketTarget, attempt: &mut Attempt) -> Verdict {
    let mut refused = Duration::ZERO;
    for address in resolve(target, attempt).await? {
        let (connected, took) = attempt.phase("connecting", TcpStream::connect(address)).await?;
        attempt.timings.connect = Some(took);
        refused += took;
        match connected {
            Ok(_) => {
                attempt.address = Some(address);
                return Err((Failure::Connect, "something listens there".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err((Failure::Connect, said(&error))),
        }
    }
    Ok(format!("{target} is closed (refused in {})", shown(refused)))
}

/// The kind in plain words; the system's own where there is none.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(|address| address.is_link_local())
        }
    }
}
