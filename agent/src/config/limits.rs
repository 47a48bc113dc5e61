//! `[limits]`: every limit that bytes from the network meet. The defaults are what is shipped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, Error};

macro_rules! limits {
    (
        numbers { $($(#[$doc:meta])+ $number:ident: $type:ty = $default:expr;)+ }
        durations { $($(#[$duration_doc:meta])+ $duration:ident = $duration_default:expr;)+ }
    ) => {
        /// `[limits]`.
        #[derive(Clone, Debug, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])+ pub $number: $type,)+
            $($(#[$duration_doc])+ #[serde(with = "super::duration")] pub $duration: Duration,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($number: $default,)+ $($duration: $duration_default,)+ }
            }
        }

        impl Limits {
            fn zero(&self) -> Option<&'static str> {
                $(if self.$number == 0 { return Some(stringify!($number)); })+
                $(if self.$duration.is_zero() { return Some(stringify!($duration)); })+
                None
            }
        }
    };
}

limits! {
    numbers {
        /// Connections in all.
        connections: usize = 512;
        /// Connections from callers that showed no certificate.
        connections_without_certificate: usize = 256;
        /// Connections from one address.
        connections_per_address: usize = 64;
        /// Connections of one certificate's subject.
        connections_per_identity: usize = 32;
        /// Handshakes at the same time.
        handshakes: usize = 128;
        /// HTTP/2 streams of one connection at the same time.
        concurrent_streams: u32 = 100;
        /// Streams that a client makes the agent reset before its connection is closed.
        local_error_resets: usize = 256;
        /// Streams that a client opens and resets before they are accepted.
        pending_accept_resets: usize = 20;
        /// Header list, in bytes.
        header_bytes: u32 = 16 * 1024;
        /// Headers of one request.
        headers: usize = 64;
        /// HTTP/2 frame, in bytes.
        frame_bytes: u32 = 16 * 1024;
        /// HTTP/2 window of a stream, in bytes.
        stream_window_bytes: u32 = 256 * 1024;
        /// HTTP/2 window of a connection, in bytes.
        connection_window_bytes: u32 = 1024 * 1024;
        /// What may wait to be sent on one stream, in bytes.
        send_buffer_bytes: usize = 256 * 1024;
        /// A gRPC message that comes in, in bytes.
        message_in_bytes: usize = 1024 * 1024;
        /// A gRPC message that goes out, in bytes.
        message_out_bytes: usize = 4 * 1024 * 1024;
        /// A REST body, in bytes.
        body_bytes: usize = 1024 * 1024;
        /// The slowest body that is waited for, in bytes a second.
        body_bytes_per_second: u64 = 1024;
        /// Calls of one identity that run at the same time.
        calls_per_identity: usize = 16;
        /// Calls that run at the same time.
        calls: usize = 128;
        /// Streams of one identity at the same time.
        streams_per_identity: usize = 64;
        /// Reads of one identity in a second.
        reads_per_second: u32 = 100;
        /// Changes of one identity in a minute.
        changes_per_minute: u32 = 60;
        /// Failed authentications of one address in a minute.
        auth_failures_per_minute: u32 = 10;
    }
    durations {
        /// TLS handshake.
        handshake = Duration::from_secs(5);
        /// From the handshake to the first request.
        first_request = Duration::from_secs(10);
        /// The head of an HTTP/1 request.
        header_read = Duration::from_secs(10);
        /// The body of a request.
        body_read = Duration::from_secs(30);
        /// A connection without a request.
        idle = Duration::from_secs(300);
        /// Between HTTP/2 pings.
        keepalive = Duration::from_secs(10);
        /// For the answer to a ping.
        keepalive_timeout = Duration::from_secs(10);
        /// A connection's age; it is then asked to end.
        connection_age = Duration::from_secs(3_600);
        /// What it is given to end.
        connection_grace = Duration::from_secs(30);
        /// A call that names no deadline.
        deadline = Duration::from_secs(30);
        /// The longest deadline of a call.
        deadline_max = Duration::from_secs(600);
        /// A stream in all.
        stream = Duration::from_secs(3_600);
        /// From the signal to the end.
        drain = Duration::from_secs(15);
    }
}

impl Limits {
    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        match self.zero() {
            Some(name) => {
                Err(config.error_at(&["limits", name], format!("{name} is 0, which would let nobody in")))
            }
            None if !(16_384..=16_777_215).contains(&self.frame_bytes) => Err(config.error_at(
                &["limits", "frame_bytes"],
                "frame_bytes must be 16384 to 16777215 (RFC 9113, 6.5.2)",
            )),
            None => Ok(()),
        }
    }
}
