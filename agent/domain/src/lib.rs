//! The rules of opsd: services, operations, access, logs, backups; no wire, no I/O, no wall clock.
