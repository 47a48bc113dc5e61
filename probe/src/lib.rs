//! HTTP, TCP and TLS probes with phase timings, used by opsd and by opsctl.
