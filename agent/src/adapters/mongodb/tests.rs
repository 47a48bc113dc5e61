//! Against a FerretDB, where the path to one is given, and against sockets that misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use ops_domain::ports::database::Unreachable;
use ops_domain::ports::dump::{Batch, Dump as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn at(address: &str) -> MongoDb {
    MongoDb::new(Address::parse(&format!("mongodb://opsd:hunter2@{address}/")).unwrap(), "auction".into())
}

fn cause(error: &DatabaseError) -> Option<Unreachable> {
    match error {
        DatabaseError::Unreachable { cause, .. } => Some(*cause),
        _ => None,
    }
}

#[tokio::test]
async fn nobody_listening_is_told_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let began = Instant::now();
    let error = at(&free.to_string()).ping().await.unwrap_err();
    assert_eq!(cause(&error), Some(Unreachable::Refused), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[tokio::test]
async fn a_name_nobody_knows_is_told() {
    let error = at("nobody.invalid:27017").ping().await.unwrap_err();
    assert_eq!(cause(&error), Some(Unreachable::Dns), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let began = Instant::now();
    let error = at(&address.to_string()).ping().await.unwrap_err();
    assert_eq!(cause(&error), Some(Unreachable::Timeout), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(6));
    silent.abort();
}

#[tokio::test]
async fn a_connection_that_died_with_the_last_process_does_not_fail_a_ping() {
    static PINGS: AtomicU32 = AtomicU32::new(0);
    let address = scripted(|command, _| match command {
        "ping" if PINGS.fetch_add(1, Ordering::SeqCst) == 0 => Document::new(),
        "ping" | "buildInfo" | "endSessions" => doc! { "ok": 1.0 },
        _ => hello(),
    })
    .await;
    let uri = format!("mongodb://{address}/");
    MongoDb::new(Address::parse(&uri).unwrap(), "auction".into()).ping().await.unwrap();
    assert_eq!(PINGS.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_wrong_password_is_not_an_unreachable_server() {
    let address = scripted(|command, _| match command {
        "saslStart" => doc! { "ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed." },
        _ => hello(),
    })
    .await;
    let error = at(&address.to_string()).ping().await.unwrap_err();
    assert!(matches!(error, DatabaseError::Authentication { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(ops_domain::Error::from(error).reason, ops_domain::Reason::DatabaseAuthentication);
}

#[tokio::test]
async fn a_missing_right_is_told_with_its_code() {
    let address = scripted(|command, _| match command {
        "hello" | "isMaster" | "ismaster" | "buildInfo" => hello(),
        _ => {
            doc! { "ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on auction" }
        }
    })
    .await;
    let uri = format!("mongodb://{address}/");
    let database = MongoDb::new(Address::parse(&uri).unwrap(), "auction".into());
    let error = database.collections("auction").await.unwrap_err();
    assert_eq!(error.code(), Some(13), "{error:?}");
    let error = ops_domain::Error::from(error);
    assert_eq!(error.evidence[0].text, "13 Unauthorized");
}

#[tokio::test]
async fn an_insert_that_is_not_whole_fails() {
    let address = scripted(|command, _| match command {
        "insert" => doc! { "ok": 1.0, "n": 1 },
        _ => hello(),
    })
    .await;
    let database = MongoDb::new(Address::parse(&format!("mongodb://{address}/")).unwrap(), "auction".into());
    let mut bytes = bson::serialize_to_vec(&doc! { "_id": 1 }).unwrap();
    bytes.extend(bson::serialize_to_vec(&doc! { "_id": 2 }).unwrap());
    let batch = Batch { bytes: bytes.into(), documents: 2 };
    let error = database.insert("auction", "bids", batch).await.unwrap_err();
    assert!(error.to_string().contains("of 2 were taken"), "{error}");
}

#[tokio::test]
async fn an_idle_client_is_closed_and_opened_again() {
    let address = scripted(|_, _| hello()).await;
    let uri = format!("mongodb://{address}/");
    let idle = Duration::from_millis(150);
    let database = MongoDb::with_idle(Address::parse(&uri).unwrap(), "auction".into(), idle);
    assert!(!database.is_open().await);
    database.ping().await.unwrap();
    assert!(database.is_open().await);
    let deadline = Instant::now() + Duration::from_secs(5);
    while database.is_open().await {
        assert!(Instant::now() < deadline, "still open");
        tokio::task::yield_now().await;
    }
    database.ping().await.unwrap();
}

fn hello() -> Document {
    doc! { "ok": 1.0, "isWritablePrimary": true, "helloOk": true, "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "minWireVersion": 0, "maxWireVersion": 21,
    "version": "7.0.28", "storageEngines": ["wiredTiger"], "saslSupportedMechs": ["SCRAM-SHA-256"] }
}

/// A server that answers each command as it is told to, over OP_MSG and the OP_QUERY of a first hello.
async fn scripted(answer: fn(&str, &Document) -> Document) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0_u8; 16];
                while stream.read_exact(&mut head).await.is_ok() {
                    let word = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
                    let mut body = vec![0_u8; usize::try_from(word(0)).unwrap() - 16];
                    if stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let query = word(12) == 2004;
                    // OP_QUERY: flags, name, skip, limit. OP_MSG: flags, kind of section.
                    let start =
                        if query { 4 + body[4..].iter().position(|byte| *byte == 0).unwrap() + 9 } else { 5 };
                    let length = i32::from_le_bytes(body[start..start + 4].try_into().unwrap());
                    let end = start + usize::try_from(length).unwrap();
                    let command: Document = bson::deserialize_from_slice(&body[start..end]).unwrap();
                    let name = command.keys().next().unwrap().clone();
                    let answer = answer(&name, &command);
                    if answer.is_empty() {
                        return;
                    }
                    let document = bson::serialize_to_vec(&answer).unwrap();
                    let mut reply = Vec::new();
                    if query {
                        reply.extend([0_u8; 16]);
                        reply.extend(1_i32.to_le_bytes());
                    } else {
                        reply.extend([0_u8; 5]);
                    }
                    reply.extend(document);
                    let mut message = Vec::new();
                    message.extend(i32::try_from(reply.len() + 16).unwrap().to_le_bytes());
                    message.extend(1_i32.to_le_bytes());
                    message.extend(word(4).to_le_bytes());
                    message.extend(if query { 1_i32 } else { 2013 }.to_le_bytes());
                    message.extend(reply);
                    if stream.write_all(&message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
