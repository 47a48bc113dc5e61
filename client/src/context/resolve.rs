//! From flags, environment and file to one target.

use std::path::Path;

use ops_trust::bundle::{self, Bundle};
use ops_trust::ca::{CaCertificate, MAX_CA_PEM_BYTES};
use ops_trust::key::PrivateKeyPem;
use ops_trust::leaf::Host;
use ops_trust::peer::{Peer, Side};
use ops_trust::private_file;
use ops_trust::tls::Identity;

use super::store::{config_path, printable};
use super::{Choice, Context, DEFAULT_PORT, Environment, Error, Origin, Store, Target, Token};

const MAX_PEM_BYTES: u64 = 16 * 1024;

/// Finds the target. Reads files, changes nothing, connects to nothing.
pub fn resolve(choice: &Choice, environment: &Environment) -> Result<Target, Error> {
    let token = Token::from_environment(environment)?;
    let host = match &choice.host {
        Some(host) => Some(address("--host", host)?),
        None => match environment.text("OPSCTL_HOST")? {
            Some(host) => Some(address("OPSCTL_HOST", host)?),
            None => None,
        },
    };
    let ca = environment.path("OPSCTL_CA").map(|path| read_ca(&path)).transpose()?;
    let mut target = match base(choice, environment)? {
        Some(target) => target,
        None => {
            let Some((host, name)) = host else { return Err(Error::NoContext) };
            let origin =
                if choice.host.is_some() { Origin::Flag } else { Origin::Environment("OPSCTL_HOST") };
            return Ok(Target {
                context: None,
                origin,
                agent: None,
                ca: ca.ok_or_else(|| Error::NoCa { host: host.clone() })?,
                addresses: vec![host],
                server_name: name,
                identity: None,
                peer: None,
                token,
                audit_root: None,
            });
        }
    };
    if let Some((host, name)) = host {
        // Another agent of the same CA: whatever it is called, its certificate has to carry the name that was typed.
        (target.addresses, target.server_name) = (vec![host], name);
        (target.agent, target.audit_root) = (None, None);
    }
    if let Some(ca) = ca {
        target.ca = ca;
    }
    if let Some(token) = token {
        // The environment's credential replaces the file's, unless the token is bound to that very certificate.
        if !token.is_bound() {
            (target.identity, target.peer) = (None, None);
        }
        target.token = Some(token);
    }
    Ok(target)
}

/// The context or bundle that everything else is laid over.
fn base(choice: &Choice, environment: &Environment) -> Result<Option<Target>, Error> {
    let variable = environment.text("OPSCTL_CONTEXT")?;
    let bundle = environment.text("OPSCTL_BUNDLE")?;
    match (&choice.context, variable, bundle) {
        (Some(name), _, _) => stored(choice, environment, name, Origin::Flag).map(Some),
        (None, Some(_), Some(_)) => Err(Error::Both { one: "OPSCTL_CONTEXT", other: "OPSCTL_BUNDLE" }),
        (None, Some(name), None) => {
            stored(choice, environment, name, Origin::Environment("OPSCTL_CONTEXT")).map(Some)
        }
        (None, None, Some(bundle)) => from_bundle(bundle).map(Some),
        (None, None, None) => {
            let bare_host = choice.host.is_some() || environment.text("OPSCTL_HOST")?.is_some();
            let store = match config_path(choice, environment) {
                Ok(path) => Store::open_file(&path)?,
                Err(_) if bare_host => return Ok(None),
                Err(error) => return Err(error),
            };
            match store.current() {
                Some(name) => {
                    let context = store.get(name)?;
                    load(&store, name, context, Origin::Current).map(Some)
                }
                None if bare_host => Ok(None),
                None => Err(Error::NoContext),
            }
        }
    }
}

fn stored(choice: &Choice, environment: &Environment, name: &str, origin: Origin) -> Result<Target, Error> {
    let store = Store::open(choice, environment)?;
    let context = store.get(name)?;
    load(&store, name, context, origin)
}

fn load(store: &Store, name: &str, context: &Context, origin: Origin) -> Result<Target, Error> {
    let folder = store.folder(name);
    let ca = read_ca(&folder.join("ca.pem"))?;
    let (identity, peer) = match &context.subject {
        None => (None, None),
        Some(_) => {
            let path = folder.join("cert.pem");
            let certificate = text(&path, private_file::read(&path, MAX_PEM_BYTES)?)?;
            let path = folder.join("key.pem");
            let key = text(&path, private_file::read_private(&path, MAX_PEM_BYTES)?)?;
            let (identity, peer) = credentials(&certificate, &PrivateKeyPem::new(key), &ca)
                .map_err(|problem| Error::Credential { path: folder.clone(), problem })?;
            (Some(identity), Some(peer))
        }
    };
    Ok(Target {
        context: Some(name.to_owned()),
        origin,
        agent: Some(context.agent.clone()),
        addresses: context.addresses.clone(),
        server_name: context.server_name.clone(),
        ca,
        identity,
        peer,
        token: None,
        audit_root: Some(context.audit_root),
    })
}

/// `OPSCTL_BUNDLE`: the bundle's text, or the path of a file. A path has one line; a bundle has more.
fn from_bundle(value: &str) -> Result<Target, Error> {
    let refused = |source| Error::Bundle { origin: "OPSCTL_BUNDLE".into(), source };
    let file;
    let value = if value.contains('\n') {
        value
    } else {
        let path = Path::new(value);
        file = text(path, private_file::read(path, bundle::MAX_BYTES as u64)?)?;
        &file
    };
    let bundle = Bundle::parse(value).map_err(refused)?;
    let ca = bundle.ca().map_err(refused)?;
    let (identity, peer) = match &bundle.identity {
        None => (None, None),
        Some(identity) => {
            let key = identity.key.as_ref().ok_or(Error::NoKey)?;
            let (identity, peer) = credentials(&identity.cert, key, &ca)
                .map_err(|problem| Error::Variable { name: "OPSCTL_BUNDLE", problem })?;
            (Some(identity), Some(peer))
        }
    };
    Ok(Target {
        context: None,
        origin: Origin::Environment("OPSCTL_BUNDLE"),
        agent: Some(bundle.agent.id),
        addresses: bundle.agent.addresses,
        server_name: bundle.agent.server_name,
        ca,
        identity,
        peer,
        token: None,
        audit_root: Some(bundle.agent.audit_root),
    })
}

fn credentials(
    certificate: &str,
    key: &PrivateKeyPem,
    ca: &CaCertificate,
) -> Result<(Identity, Peer), String> {
    let identity = Identity::from_pem(certificate, key).map_err(|e| e.to_string())?;
    // Dates are not looked at here: an ended certificate is told apart later, with the way to a new one.
    let der = identity.certificate().map_err(|e| e.to_string())?;
    let peer = Peer::from_der(der, ca.domain(), Side::Client).map_err(|e| e.to_string())?;
    Ok((identity, peer))
}

fn read_ca(path: &Path) -> Result<CaCertificate, Error> {
    let pem = text(path, private_file::read(path, MAX_CA_PEM_BYTES as u64)?)?;
    CaCertificate::from_pem(&pem)
        .map_err(|e| Error::Credential { path: path.to_owned(), problem: e.to_string() })
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes)
        .map_err(|_| Error::Credential { path: path.to_owned(), problem: "not UTF-8".into() })
}

/// `HOST[:PORT]` as an address and the name that its certificate has to carry.
fn address(name: &'static str, text: &str) -> Result<(String, String), Error> {
    let bad = || Error::Variable { name, problem: format!("`{}` is not HOST[:PORT]", printable(text)) };
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let full = match text {
        _ if bare_v6 => format!("[{text}]:{DEFAULT_PORT}"),
        _ if bundle::check_address(text).is_ok() => text.to_owned(),
        _ => format!("{text}:{DEFAULT_PORT}"),
    };
    bundle::check_address(&full).map_err(|_| bad())?;
    let host = full.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host: Host = host.parse().map_err(|_| bad())?;
    let host = host.to_string();
    Ok((full, host))
}
