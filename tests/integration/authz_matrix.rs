//! Role × rpc × door × proof, over real TLS, against a table that was written by hand.

use std::collections::BTreeMap;

use http::Method;
use ops_agent::api::rest;
use ops_proto::Rpc;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::in_process::{Agent, Answer, Caller, ROOMY};

const TABLE: &str = include_str!("authz_matrix.txt");
const ROLES: [&str; 6] = ["viewer", "backup", "auditor", "deployer", "operator", "admin"];

/// Rpc → role → `both`, `cert`, `-`.
fn table() -> BTreeMap<String, BTreeMap<&'static str, &'static str>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let rpc = words.next().unwrap().to_owned();
            let cells: BTreeMap<_, _> = ROLES.into_iter().zip(words).collect();
            assert!(
                cells.len() == 6 && cells.values().all(|cell| ["both", "cert", "-"].contains(cell)),
                "{line}"
            );
            (rpc, cells)
        })
        .collect()
}

#[test]
fn the_table_has_every_rpc_of_the_contract() {
    let descriptors = FileDescriptorSet::decode(ops_proto::DESCRIPTORS).unwrap();
    let files = descriptors.file.iter().filter(|file| file.package() == "ops.v1");
    let mut contract: Vec<String> = files
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .map(|method| method.name().to_owned())
        .collect();
    contract.sort();
    assert_eq!(table().into_keys().collect::<Vec<_>>(), contract);
    assert_eq!(Rpc::ALL.len(), contract.len());
}

/// Whether the caller was let in. What the handler then says about an empty request is not the matter here, and a
/// handler's own refusal (of a target) names another reason than these.
fn let_in(answer: &Answer) -> bool {
    let refused = ["PERMISSION_DENIED", "CERTIFICATE_REQUIRED"].contains(&answer.reason.as_str());
    assert!(refused == (answer.grpc == 7 || answer.http == 403), "{answer:?}");
    assert!(answer.grpc != 16 && answer.http != 401, "{answer:?}");
    !refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_may_what_the_table_says_through_both_doors_and_nothing_else() {
    let subjects: Vec<String> = ROLES.iter().map(|role| format!("user/{role}")).collect();
    let bindings: Vec<(&str, &str, &[&str])> =
        ROLES.iter().zip(&subjects).map(|(role, subject)| (subject.as_str(), *role, &[][..])).collect();
    let agent = Agent::start(&bindings, ROOMY).await;
    let (_, routes) = rest::routes().into_parts();
    let table = table();
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (role, subject) in ROLES.into_iter().zip(&subjects) {
        let proofs: [(&str, Caller); 2] = [
            ("certificate", agent.as_user(subject)),
            ("token", agent.caller(None, Some(agent.token(subject)))),
        ];
        for (proof, caller) in &proofs {
            for rpc in Rpc::ALL {
                let cell = table[&format!("{rpc:?}")][role];
                let expected = cell == "both" || (cell == "cert" && *proof == "certificate");
                // A stream that nobody ends is not read: its head says enough.
                let grpc = caller.grpc_head(rpc.path()).await;
                cells += 1;
                if let_in(&grpc) != expected {
                    wrong.push(format!("{role} {rpc:?} grpc {proof}: expected {expected}, {}", grpc.reason));
                }
                for ((method, path), _) in routes.iter().filter(|(_, known)| *known == rpc) {
                    let rest = caller.rest_head(method, path).await;
                    cells += 1;
                    if let_in(&rest) != expected {
                        wrong.push(format!(
                            "{role} {method} {path} {proof}: expected {expected}, {}",
                            rest.reason
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cells >= 6 * 2 * Rpc::ALL.len());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_into_a_new_database_needs_no_admin() {
    let subjects: Vec<String> = ROLES.iter().map(|role| format!("user/{role}")).collect();
    let bindings: Vec<(&str, &str, &[&str])> =
        ROLES.iter().zip(&subjects).map(|(role, subject)| (subject.as_str(), *role, &[][..])).collect();
    let agent = Agent::start(&bindings, ROOMY).await;
    let asked = ops_proto::v1::RestoreBackupRequest {
        id: "latest".to_owned(),
        to_database: "elsewhere".to_owned(),
        ..Default::default()
    };
    for (role, subject) in ROLES.into_iter().zip(&subjects) {
        let may = ["operator", "admin"].contains(&role);
        for caller in [agent.as_user(subject), agent.caller(None, Some(agent.token(subject)))] {
            let answer = caller.grpc(Rpc::RestoreBackup.path(), &asked.encode_to_vec(), &[]).await;
            assert_eq!(let_in(&answer), may, "{role}: {answer:?}");
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_proof_and_a_stranger_may_nothing() {
    let agent = Agent::start(&[], ROOMY).await;
    let (_, routes) = rest::routes().into_parts();
    let nobody = agent.caller(None, None);
    // Known to the CA, unknown to the policy.
    let stranger = agent.as_user("user/stranger");
    for rpc in Rpc::ALL {
        let answer = nobody.grpc(rpc.path(), &[], &[]).await;
        assert_eq!((answer.grpc, answer.reason.as_str()), (16, "UNAUTHENTICATED"), "{rpc:?}");
        let answer = stranger.grpc_head(rpc.path()).await;
        assert_eq!((answer.grpc, answer.reason.as_str()), (7, "PERMISSION_DENIED"), "{rpc:?}");
    }
    for (method, path) in routes.keys() {
        let answer = nobody.rest_head(method, path).await;
        assert_eq!((answer.http, answer.reason.as_str()), (401, "UNAUTHENTICATED"), "{method} {path}");
        assert!(answer.headers.contains_key("www-authenticate"));
        assert_eq!(stranger.rest_head(method, path).await.http, 403, "{method} {path}");
    }
    for path in ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/ops.v1.Nonesuch/Call"] {
        assert_eq!(nobody.grpc(path, &[], &[]).await.grpc, 16, "{path}");
    }
    assert_eq!(nobody.rest(Method::GET, "/v1/nonesuch", "").await.http, 401);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_is_open_and_says_nothing_more() {
    let agent = Agent::start(&[], ROOMY).await;
    let nobody = agent.caller(None, None);
    for path in ["/healthz", "/readyz"] {
        let answer = nobody.rest(Method::GET, path, "").await;
        assert_eq!(answer.http, 200);
        assert!(answer.body.len() < 10, "{answer:?}");
        assert_eq!(nobody.rest(Method::POST, path, "").await.http, 401);
    }
    let check = "/grpc.health.v1.Health/Check";
    assert_eq!(nobody.grpc(check, &[], &[]).await.grpc, 0);
    let named = tonic_health::pb::HealthCheckRequest { service: "backend".to_owned() }.encode_to_vec();
    assert_eq!(nobody.grpc(check, &named, &[]).await.grpc, 16);
    assert_eq!(nobody.grpc("/grpc.health.v1.Health/Watch", &[], &[]).await.grpc, 16);
    assert_eq!(agent.as_user("user/admin").grpc(check, &named, &[]).await.grpc, 5);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_runs_only_under_its_own_row() {
    let agent = Agent::start(&[("user/viewer", "viewer", &[])], ROOMY).await;
    let viewer = agent.as_user("user/viewer");
    let reload = Rpc::ReloadAgent.path();
    for path in [
        format!("/{reload}"),
        format!("{reload}/"),
        reload.replace("/Reload", "//Reload"),
        reload.replace("/Reload", "/./Reload"),
        reload.replace("/Reload", "%2fReload"),
        reload.replace("Reload", "reload"),
        format!("{reload};a"),
    ] {
        let answer = viewer.grpc(&path, &[], &[]).await;
        assert_eq!(answer.grpc, 12, "{path}: {answer:?}");
    }
    assert_eq!(viewer.grpc(&format!("{reload}?x=1"), &[], &[]).await.grpc, 7);
    let reload = "/v1/agent/reload";
    for path in ["/v1/agent/reload/", "/v1//agent/reload", "/v1/agent/../agent/reload", "/V1/agent/reload"] {
        assert_eq!(viewer.rest(Method::POST, path, "").await.http, 404, "{path}");
    }
    assert_eq!(viewer.rest(Method::GET, reload, "").await.http, 405);
    assert_eq!(viewer.rest(Method::PUT, "/v1/whoami", "").await.http, 405);
    let tricks =
        [("x-http-method-override", "POST"), ("x-role", "admin"), ("x-forwarded-client-cert", "admin")];
    assert_eq!(viewer.http1(Method::GET, reload, &tricks, Default::default()).await.unwrap().http, 405);
    assert_eq!(viewer.http1(Method::POST, reload, &tricks, Default::default()).await.unwrap().http, 403);
    // Cross-protocol: neither door opens to the other's content.
    let json = [("content-type", "application/json")];
    let answer = viewer.http2(Method::POST, Rpc::WhoAmI.path(), &json, "{}".into()).await.unwrap();
    assert_eq!(answer.http, 415);
    let web = [("content-type", "application/grpc-web")];
    assert_eq!(viewer.grpc(Rpc::WhoAmI.path(), &[], &web).await.grpc, 12);
    assert_eq!(viewer.grpc("/v1/whoami", &[], &[]).await.grpc, 12);
    let text = [("content-type", "text/plain")];
    assert_eq!(viewer.http1(Method::POST, "/v1/tokens", &text, "{}".into()).await.unwrap().http, 415);
    agent.stop().await;
}
