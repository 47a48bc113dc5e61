//! `mongodb://…`: parsed by the driver, shown without what is secret in it.

use std::fmt;
use std::time::Duration;

use mongodb::options::{ClientOptions, ConnectionString, ServerAddress};

/// No longer is any URI that makes sense.
const URI_MAX: usize = 4096;
/// How long the driver looks for a server that can answer.
const SELECTION_LIMIT: Duration = Duration::from_secs(3);

/// Where the database is, and by which credential.
#[derive(Clone)]
pub struct Address {
    options: ClientOptions,
    masked: String,
}

/// What is wrong with a URI, in words that do not repeat it.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Too long, or not of this scheme.
    #[error("the database's URI must begin with mongodb:// and be at most {URI_MAX} bytes long")]
    Scheme,
    /// `mongodb+srv://`.
    #[error(
        "mongodb+srv:// needs SRV records, which opsd does not resolve: list the hosts as mongodb://a,b,c/"
    )]
    Srv,
    /// The driver does not take it.
    #[error("the database's URI is not usable: check user and password (percent-encoded), hosts and options")]
    Invalid,
}

impl Address {
    /// Parses a URI. Nothing is resolved or opened.
    ///
    /// # Errors
    /// When it is not usable.
    pub fn parse(uri: &str) -> Result<Self, AddressError> {
        let uri = uri.trim();
        if uri.starts_with("mongodb+srv://") {
            return Err(AddressError::Srv);
        }
        if uri.len() > URI_MAX || !uri.starts_with("mongodb://") {
            return Err(AddressError::Scheme);
        }
        // The driver's own words may quote the URI, so they are not passed on.
        let parsed = ConnectionString::parse(uri).map_err(|_| AddressError::Invalid)?;
        let hosts = parsed.host_info.clone();
        let mut options = ClientOptions::default();
        let mongodb::options::HostInfo::HostIdentifiers(hosts) = hosts else {
            return Err(AddressError::Srv);
        };
        options.hosts = hosts;
        options.credential = parsed.credential;
        options.tls = parsed.tls;
        options.repl_set_name = parsed.replica_set;
        options.direct_connection = parsed.direct_connection;
        options.load_balanced = parsed.load_balanced;
        options.read_concern = parsed.read_concern;
        options.write_concern = parsed.write_concern;
        options.selection_criteria =
            parsed.read_preference.map(mongodb::options::SelectionCriteria::ReadPreference);
        options.app_name = Some("opsd".to_owned());
        options.server_selection_timeout = Some(SELECTION_LIMIT);
        options.connect_timeout = Some(SELECTION_LIMIT);
        options.max_pool_size = Some(8);
        let masked = mask(uri);
        Ok(Self { options, masked })
    }

    /// `mongodb://127.0.0.1:27017`: hosts only.
    #[must_use]
    pub fn masked(&self) -> &str {
        &self.masked
    }

    pub(super) fn options(&self) -> ClientOptions {
        self.options.clone()
    }

    pub(super) fn hosts(&self) -> Vec<(String, u16)> {
        self.options
            .hosts
            .iter()
            .filter_map(|host| match host {
                ServerAddress::Tcp { host, port } => Some((host.clone(), port.unwrap_or(27017))),
                _ => None,
            })
            .collect()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.masked).finish()
    }
}

/// Scheme and hosts; a credential becomes `***`, path and options are left out, for options can be secrets too.
fn mask(uri: &str) -> String {
    let rest = uri.strip_prefix("mongodb://").unwrap_or(uri);
    let before_options = rest.split('?').next().unwrap_or_default();
    // A password that should have been percent-encoded may hold `/` or `@`: the last `@` ends it.
    let (credential, hosts) = match before_options.rsplit_once('@') {
        Some((_, hosts)) => ("***@", hosts),
        None => ("", before_options),
    };
    let hosts = hosts.split('/').next().unwrap_or_default();
    format!("mongodb://{credential}{hosts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_secret() {
        for (uri, shown) in [
            ("mongodb://127.0.0.1:27017/test", "mongodb://127.0.0.1:27017"),
            ("mongodb://opsd:s3cret@db:27017/?authSource=admin", "mongodb://***@db:27017"),
            ("mongodb://a:p%40ss@h1:1,h2:2/x?replicaSet=r", "mongodb://***@h1:1,h2:2"),
        ] {
            let address = Address::parse(uri).unwrap();
            assert_eq!(address.masked(), shown);
            let debug = format!("{address:?}");
            assert!(!debug.contains("s3cret") && !debug.contains("p%40ss"), "{debug}");
        }
        assert_eq!(mask("mongodb://u:p@ss/w@host/db"), "mongodb://***@host");
    }

    #[test]
    fn what_is_not_usable_is_told_without_repeating_it() {
        for bad in [
            "",
            "http://x",
            "mongodb+srv://u:hunter2@x/",
            "mongodb://u:hunter2@",
            "mongodb://u:hunter2@h:notaport/",
            "mongodb://u:hun/ter2@h/",
            "mongodb://h/?authMechanism=hunter2",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hun"), "{bad}");
        }
        assert!(Address::parse(&format!("mongodb://{}", "h".repeat(5000))).is_err());
    }
}
