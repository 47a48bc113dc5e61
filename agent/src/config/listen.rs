//! `[listen]`: the one TLS port.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[listen]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `0.0.0.0:7443`; port 0: any free one, printed at the start.
    pub address: SocketAddr,
    /// Names that requests may give as their host; empty: any. A browser that was led here by a foreign name is refused.
    #[serde(default)]
    pub hosts: Vec<String>,
}
