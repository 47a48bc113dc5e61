//! Whatever is wrong between here and the agent is named, with the right exit code: 3 for the way and the agent, 4 for
//! our own credential.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::stand_in::{Said, World, opsctl};

#[test]
fn a_closed_port() {
    let agent = World::default().start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let said = Said::of(agent.opsctl(&["--host", &free, "status"]).output().unwrap());
    assert_eq!(said.stdout, "");
    assert_eq!(
        said.stderr.replace(&free, "[agent]"),
        "error: no answer from [agent]: connection refused (127.0.0.1)\n       AGENT_UNREACHABLE\n\
         next: opsctl context show    (is it the right agent?)\n"
    );
    assert_eq!(said.code, 3);
}

#[test]
fn a_name_that_does_not_exist() {
    let agent = World::default().start();
    let said = Said::of(agent.opsctl(&["--host", "no-such-host.invalid", "status"]).output().unwrap());
    assert!(
        said.stderr.starts_with("error: no answer from no-such-host.invalid:7443: its name "),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 3);
}

#[test]
fn what_answers_is_no_agent() {
    let agent = World::default().start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 64]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let said = Said::of(agent.opsctl(&["--host", &address, "status"]).output().unwrap());
    server.join().unwrap();
    assert!(said.stderr.contains("does not speak TLS\n       AGENT_UNTRUSTED"), "{}", said.stderr);
    assert_eq!(said.code, 3);
}

#[test]
fn an_agent_of_another_ca_is_refused_by_us() {
    let said = World { foreign_agent: true, ..World::default() }.start().run(&["status"]);
    assert!(
        said.stderr.starts_with(
            "error: [agent] is not the agent it should be: the certificate was not signed by our CA\n       \
             AGENT_UNTRUSTED\n"
        ),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 3);
}

#[test]
fn an_agent_with_another_name_is_refused_by_us() {
    let said = World { server_name: "elsewhere.example".into(), ..World::default() }.start().run(&["status"]);
    assert!(said.stderr.contains("not for elsewhere.example; it is for 127.0.0.1"), "{}", said.stderr);
    assert_eq!(said.code, 3);
}

#[test]
fn our_certificate_has_ended() {
    let said = World { age_days: 200, ..World::default() }.start().run(&["status"]);
    assert!(said.stderr.contains("\n       CREDENTIAL_EXPIRED"), "{}", said.stderr);
    assert!(
        said.stderr.contains("next: ssh 127.0.0.1 sudo opsctl pki renew ana | opsctl context import -\n"),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 4);
}

#[test]
fn the_agent_is_older_than_the_call() {
    let said = World { without_health: true, ..World::default() }.start().run(&["status"]);
    assert!(
        said.stderr
            .starts_with("error: the agent at [agent] does not know this call; is it older than opsctl"),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 2);
}

#[test]
fn the_answer_takes_too_long() {
    // The handler's thread sleeps; opsctl must not.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let agent = World::answering(move || {
        let _ = wait.lock().unwrap().recv();
        Ok(Default::default())
    })
    .start();
    let said = agent.run(&["status", "--timeout", "200ms"]);
    drop(release);
    assert!(
        said.stderr.starts_with("error: no answer from [agent] in 0.2 s\n       DEADLINE_EXCEEDED\n"),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 9);
}

#[test]
fn a_token_is_sent_as_a_header_and_shown_nowhere() {
    let agent = World::default().start();
    let token = "aaaa.bbbb.cccc";
    let mut command = agent.opsctl(&["status"]);
    let said = Said::of(command.env("OPSCTL_TOKEN", token).output().unwrap());
    assert_eq!(*agent.authorizations.lock().unwrap(), [format!("Bearer {token}")]);
    assert!(!format!("{said:?}").contains(token));
}

#[test]
fn without_a_context_it_says_how_to_get_one() {
    let home = tempfile::tempdir().unwrap();
    let said = Said::of(opsctl(&["status"]).env("HOME", home.path()).output().unwrap());
    assert!(said.stderr.starts_with("error: no context: "), "{}", said.stderr);
    assert!(said.stderr.contains("CONTEXT_MISSING\nnext: opsctl context import FILE"), "{}", said.stderr);
    assert_eq!(said.code, 2);
}

#[test]
fn the_agent_refuses_our_certificate() {
    // The caller's certificate is by another CA; the agent's own is trusted.
    let agent = World { foreign_caller: true, ..World::default() }.start();
    let mut command = agent.opsctl(&["status"]);
    let said =
        Said::of(command.env("OPSCTL_CA", agent.folder.path().join("agents-ca.pem")).output().unwrap());
    assert!(said.stderr.contains(" refuses your certificate: "), "{}", said.stderr);
    assert!(said.stderr.contains("\n       CREDENTIAL_INVALID"), "{}", said.stderr);
    assert_eq!(said.code, 4);
}
