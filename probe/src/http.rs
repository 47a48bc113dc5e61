//! HTTP/1.1: one GET over one connection.

use bytes::BytesMut;
use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::BODY_LIMIT;
use crate::expectation::Expectation;
use crate::sample::{Attempt, Failure, Verdict, shown};
use crate::stream::connect;
use crate::target::HttpTarget;
use crate::tls::{Roots, handshake};

const USER: &str = concat!("ops-probe/", env!("CARGO_PKG_VERSION"));

pub(crate) async fn ask(
    target: &HttpTarget,
    expect: &[Expectation],
    roots: &Roots,
    attempt: &mut Attempt,
) -> Verdict {
    let stream = connect(&target.socket, attempt).await?;
    if target.tls {
        let session = handshake(stream, target, roots, attempt).await?;
        exchange(session, target, expect, attempt).await
    } else {
        exchange(stream, target, expect, attempt).await
    }
}

async fn exchange<S>(stream: S, target: &HttpTarget, expect: &[Expectation], attempt: &mut Attempt) -> Verdict
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(target.path.as_str())
        .header(HOST, target.authority.as_str())
        .header(USER_AGENT, USER)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| (Failure::Protocol, error.to_string()))?;
    let handshake = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BODY_LIMIT)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = handshake.map_err(protocol)?;
    let _driver = Driver(tokio::spawn(async move {
        // Its error reaches the request or the body as well.
        let _ = connection.await;
    }));
    let (response, took) = attempt.phase("waiting for the answer", sender.send_request(request)).await?;
    attempt.timings.first_byte = Some(took);
    let response = response.map_err(protocol)?;
    attempt.status = Some(response.status().as_u16());
    judge(response, target, expect, attempt).await
}

async fn judge(
    response: Response<Incoming>,
    target: &HttpTarget,
    expect: &[Expectation],
    attempt: &Attempt,
) -> Verdict {
    let status = response.status();
    let encoded = response.headers().contains_key(CONTENT_ENCODING);
    let location =
        response.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
    let (body, took) = attempt.phase("reading the body", read(response.into_body())).await?;
    let body = body.map_err(protocol)?;
    let all = attempt.timings.first_byte.unwrap_or_default() + took;
    let answered = format!("{} in {}", status.as_u16(), shown(all));
    let differences = if expect.is_empty() {
        Vec::new()
    } else {
        match &body {
            Body::TooLong if status.is_success() => {
                return Err((Failure::Body, format!("{answered}, body longer than 64 KiB")));
            }
            Body::Whole(_) if status.is_success() && encoded => {
                return Err((Failure::Body, format!("{answered}, body is compressed though nobody asked")));
            }
            Body::TooLong => Vec::new(),
            Body::Whole(bytes) => match serde_json::from_slice::<Value>(bytes) {
                Ok(value) => expect.iter().filter_map(|expected| expected.difference(&value)).collect(),
                Err(_) if status.is_success() => {
                    return Err((Failure::Body, format!("{answered}, body is not JSON")));
                }
                Err(_) => Vec::new(),
            },
        }
    };
    if !status.is_success() {
        let mut text = answered;
        if let Some(location) = location {
            text = format!("{text}, points to {location} (redirects are not followed)");
        }
        if !differences.is_empty() {
            text = format!("{text}, {}", differences.join("; "));
        }
        return Err((Failure::Status, text));
    }
    if !differences.is_empty() {
        return Err((Failure::Body, format!("{answered}, {}", differences.join("; "))));
    }
    Ok(format!("GET {} {answered}", target.path))
}

enum Body {
    Whole(Bytes),
    TooLong,
}

async fn read(mut body: Incoming) -> Result<Body, hyper::Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_LIMIT {
            return Ok(Body::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Body::Whole(bytes.freeze()))
}

fn protocol(error: hyper::Error) -> (Failure, String) {
    let text = if error.is_parse() {
        format!("what answers there does not speak HTTP/1.1: {error}")
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection was closed before the answer was whole".to_owned()
    } else {
        error.to_string()
    };
    (Failure::Protocol, text)
}

/// The connection lives no longer than the question.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
