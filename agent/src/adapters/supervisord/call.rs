//! One XML-RPC call: one connection, one request, one bounded answer, all within [`LIMIT`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use dxr::{FaultResponse, MethodCall, MethodResponse, Value};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ops_domain::ports::service_manager::ManagerError;
use secrecy::ExposeSecret as _;
use tokio::net::UnixStream;

use super::{Login, Method};

/// Over connecting, asking and reading. supervisord answers in milliseconds; one that is stopped never does. What asks
/// twice must still be done in 5 s, so the second question is only put after a first answer.
const LIMIT: Duration = Duration::from_millis(4_500);

/// Hundreds of programs fit into a tenth of this.
const LARGEST_REPLY: usize = 2 * 1024 * 1024;

/// How a call failed, before it is known what that means.
#[derive(Debug)]
pub(super) enum Failed {
    /// No connection, and the system's word for it.
    Connect(io::Error),
    /// Connected, and then nothing, or an end.
    Silent(String),
    /// 401.
    Login,
    /// Not what supervisord says.
    Strange(String),
    /// A typed refusal.
    Fault {
        /// supervisord's number.
        code: i32,
        /// `NO_FILE: /x`.
        text: String,
    },
}

/// A value of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parameter<'a> {
    Text(&'a str),
    Flag(bool),
}

impl<'a> From<&'a str> for Parameter<'a> {
    fn from(text: &'a str) -> Self {
        Parameter::Text(text)
    }
}

impl From<bool> for Parameter<'_> {
    fn from(flag: bool) -> Self {
        Parameter::Flag(flag)
    }
}

pub(super) struct Caller {
    socket: PathBuf,
    login: Option<Login>,
}

impl Caller {
    pub(super) fn new(socket: PathBuf, login: Option<Login>) -> Self {
        Self { socket, login }
    }

    pub(super) fn place(&self) -> String {
        self.socket.display().to_string()
    }

    pub(super) async fn call(&self, method: Method, parameters: &[Parameter<'_>]) -> Result<Value, Failed> {
        match tokio::time::timeout(LIMIT, self.exchange(method, parameters)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(Failed::Silent(format!("connected, but no answer in {:.1} s", LIMIT.as_secs_f32())))
            }
        }
    }

    async fn exchange(&self, method: Method, parameters: &[Parameter<'_>]) -> Result<Value, Failed> {
        let stream = UnixStream::connect(&self.socket).await.map_err(Failed::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failed::Silent(error.to_string()))?;
        // Its own task, ended with this call: after a 401 supervisord says close and leaves the socket open.
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(self.request(method, parameters)?).await.map_err(|error| {
            if error.is_parse() {
                Failed::Strange(format!("not HTTP: {error}"))
            } else {
                Failed::Silent("it closed the connection without an answer".to_owned())
            }
        })?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(Failed::Login),
            other => {
                return Err(Failed::Strange(format!("HTTP status {} to {}", other.as_u16(), method.name())));
            }
        }
        let body = read(response.into_body()).await?;
        parse(&body)
    }

    fn request(&self, method: Method, parameters: &[Parameter<'_>]) -> Result<Request<Full<Bytes>>, Failed> {
        let values = parameters
            .iter()
            .map(|parameter| match parameter {
                Parameter::Text(text) => Value::String((*text).to_owned()),
                Parameter::Flag(flag) => Value::Boolean(*flag),
            })
            .collect();
        let call = MethodCall { name: method.name().into(), params: values };
        let xml = call.to_xml().map_err(|error| Failed::Strange(error.to_string()))?;
        // Without Content-Length it answers 411.
        let mut request = Request::post("/RPC2")
            .header(HOST, "supervisord")
            .header(CONTENT_TYPE, "text/xml")
            .header(CONTENT_LENGTH, xml.len())
            .header(CONNECTION, "close");
        if let Some(login) = &self.login {
            let pair = format!("{}:{}", login.user, login.password.expose_secret());
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            request = request.header(AUTHORIZATION, format!("Basic {encoded}"));
        }
        request.body(Full::new(Bytes::from(xml))).map_err(|error| Failed::Strange(error.to_string()))
    }

    /// What a failure means where no program is in question.
    pub(super) fn error(&self, failed: Failed) -> ManagerError {
        let place = self.place();
        let unreachable = |why: String, hint: &str| ManagerError::Unreachable {
            place: place.clone(),
            why,
            hint: hint.to_owned(),
        };
        match failed {
            Failed::Connect(error) => match error.kind() {
                io::ErrorKind::NotFound => unreachable(
                    "there is no such socket".to_owned(),
                    "start supervisord, or correct `socket` in [supervisor] of opsd.toml",
                ),
                io::ErrorKind::ConnectionRefused => unreachable(
                    "connection refused: nothing listens on the socket".to_owned(),
                    "start supervisord: it died and left its socket behind",
                ),
                io::ErrorKind::PermissionDenied => unreachable(
                    "permission denied".to_owned(),
                    "give the socket to a group of the agent's user: chmod=0770 and chown=USER:GROUP in [unix_http_server]",
                ),
                _ => unreachable(error.to_string(), "see that supervisord runs"),
            },
            Failed::Silent(why) => unreachable(
                why,
                "see that supervisord is not stopped (kill -CONT) or hanging; it answers within milliseconds",
            ),
            Failed::Login => unreachable(
                "it wants a username and password (401)".to_owned(),
                "set `username` and `password` in [supervisor] of opsd.toml as in [unix_http_server]",
            ),
            Failed::Strange(why) => ManagerError::BadReply { place, why },
            Failed::Fault { code: 6, .. } => ManagerError::ShuttingDown { place },
            Failed::Fault { code, text } => ManagerError::Refused(format!("{text} (fault {code})")),
        }
    }
}

async fn read(mut body: Incoming) -> Result<BytesMut, Failed> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failed::Silent(format!("the answer broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > LARGEST_REPLY {
            return Err(Failed::Strange(format!("longer than {} MiB", LARGEST_REPLY >> 20)));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// A result, or a fault: both come with status 200.
fn parse(body: &[u8]) -> Result<Value, Failed> {
    let text = std::str::from_utf8(body).map_err(|_| Failed::Strange("not UTF-8".to_owned()))?;
    if let Ok(response) = MethodResponse::from_xml(text) {
        return Ok(response.value);
    }
    let response = FaultResponse::from_xml(text).map_err(|_| Failed::Strange("not XML-RPC".to_owned()))?;
    let fault = response.fault;
    let text = fault.string().chars().filter(|letter| !letter.is_control()).take(200).collect();
    Err(Failed::Fault { code: fault.code(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_xml_rpc_is_strange() {
        for body in
            ["", "<", "<html></html>", "<methodResponse/>", "{\"a\":1}", "<methodResponse><params></params>"]
        {
            assert!(matches!(parse(body.as_bytes()), Err(Failed::Strange(_))), "{body}");
        }
        assert!(matches!(parse(&[0xff, 0xfe]), Err(Failed::Strange(_))));
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = r#"<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
            <methodResponse><params><param><value><string>&b;</string></value></param></params></methodResponse>"#;
        assert!(matches!(parse(bomb.as_bytes()), Err(Failed::Strange(_))));
    }

    #[test]
    fn depth_and_attributes_are_bounded() {
        let deep = format!(
            "<methodResponse><params><param>{}1{}</param></params></methodResponse>",
            "<value><array><data>".repeat(50_000),
            "</data></array></value>".repeat(50_000)
        );
        assert!(matches!(parse(deep.as_bytes()), Err(Failed::Strange(_))));
        let attributes: String = (0..80_000).map(|number| format!(" a{number}=\"1\"")).collect();
        let wide = format!("<methodResponse{attributes}></methodResponse>");
        let began = std::time::Instant::now();
        assert!(matches!(parse(wide.as_bytes()), Err(Failed::Strange(_))));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
