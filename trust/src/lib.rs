//! Certificates, bundles, access tokens and the audit chain: pure code for both sides.
//!
//! Nothing here opens a socket or asks a clock: `now` comes in as an argument. Files are written in one module only,
//! [`private_file`].
//!
//! | module | what it is |
//! | --- | --- |
//! | [`subject`] | who a certificate or a token speaks for: `user/alice`, `service/ci-deploy`, `agent/auction-1` |
//! | [`ca`], [`leaf`] | the small CA in a folder, and the one profile of certificates it signs |
//! | [`peer`], [`tls`] | what either side demands of the other's certificate; TLS configurations; what went wrong |
//! | [`bundle`] | one file that enrols a person or a job |
//! | [`policy`] | bindings as `opsd init` and `opsctl pki issue` add them to `policy.toml` |
//! | [`token`] | access tokens: sign, verify |
//! | [`audit`] | the audit trail: a hash chain with forward-secure signed checkpoints |

pub mod audit;
pub mod bundle;
pub mod ca;
pub mod key;
pub mod leaf;
pub mod peer;
pub mod policy;
pub mod tls;
pub mod token;

pub mod private_file;
pub mod subject;
