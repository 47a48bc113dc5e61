//! Certificates, bundles, access tokens and the audit chain: pure code for both sides.
