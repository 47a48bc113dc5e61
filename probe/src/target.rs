//! Whom to ask, parsed once.

use std::fmt;

use http::Uri;
use http::uri::Authority;

/// A text that is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {what}: {why}")]
pub struct BadTarget {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// GET, and a 2xx answer.
    Http(HttpTarget),
    /// A connection.
    Tcp(SocketTarget),
    /// No connection: refused.
    Closed(SocketTarget),
    /// `hello` and `ping`, without credentials.
    Mongodb(SocketTarget),
}

/// An `http` or `https` URL, without credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    pub(crate) url: String,
    pub(crate) tls: bool,
    pub(crate) socket: SocketTarget,
    pub(crate) authority: String,
    pub(crate) path: String,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketTarget {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

impl HttpTarget {
    /// Parses `http://HOST[:PORT]/PATH` or https.
    ///
    /// # Errors
    /// Another scheme, no host, or credentials in it: those would be shown with every answer.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let bad = |why| BadTarget { what: "URL to probe", text: shortened(text), why };
        let uri: Uri = text.parse().map_err(|_| bad("it does not parse"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("only http and https")),
        };
        let authority: &Authority = uri.authority().ok_or_else(|| bad("no host"))?;
        if authority.as_str().contains('@') {
            let text = "URL with credentials".to_owned();
            return Err(BadTarget {
                what: "URL to probe",
                text,
                why: "put no user or password into a probe's URL",
            });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(bad("no host, or port 0"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self {
            url: text.to_owned(),
            tls,
            socket: SocketTarget { host, port },
            authority: authority.as_str().to_owned(),
            path,
        })
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl SocketTarget {
    /// Parses `HOST:PORT`, `[::1]:PORT`.
    ///
    /// # Errors
    /// No host, or no port from 1 to 65535.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let bad = |why| BadTarget { what: "HOST:PORT", text: shortened(text), why };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("no port"))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| bad("an open bracket"))?,
            None if host.contains(':') => return Err(bad("an IPv6 address stands in brackets")),
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| bad("a port is 1 to 65535"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || port == 0 || host.len() > 253 || !host.bytes().all(plain) {
            return Err(bad("a host is a name or an address, a port is 1 to 65535"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for SocketTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How a failure begins: `GET http://127.0.0.1:8001/api/health`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Http(target) => write!(f, "GET {}", target.url),
            Target::Tcp(target) => write!(f, "TCP {target}"),
            Target::Closed(target) => write!(f, "closed {target}"),
            Target::Mongodb(target) => write!(f, "MongoDB {target}"),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_once() {
        let target = HttpTarget::parse("https://Example.net/api/health?x=1").unwrap();
        assert_eq!((target.socket.port, target.path.as_str()), (443, "/api/health?x=1"));
        let target = HttpTarget::parse("http://[::1]:8001").unwrap();
        assert_eq!(
            (target.socket.host.as_str(), target.socket.port, target.path.as_str()),
            ("::1", 8001, "/")
        );
        for bad in [
            "ftp://a/",
            "file:///etc/passwd",
            "unix:/x",
            "/only",
            "http://",
            "http://a:0/",
            "",
            "http://a b/",
        ] {
            assert!(HttpTarget::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let error = HttpTarget::parse("http://ana:hunter2@host/").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn sockets_are_parsed_once() {
        assert_eq!(SocketTarget::parse("db:27017").unwrap().to_string(), "db:27017");
        assert_eq!(SocketTarget::parse("[::1]:1").unwrap().to_string(), "[::1]:1");
        for bad in ["", "db", ":1", "db:0", "db:65536", "::1:80", "[::1:80", "a b:1", "a/b:1"] {
            assert!(SocketTarget::parse(bad).is_err(), "{bad}");
        }
    }
}
