//! What every command is given: flags, output, the target, and a connection when it asks for one.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use ops_proto::v1::{ChangeOptions, ErrorReason};

use crate::cli::Global;
use crate::connection::{self, Connection};
use crate::context::{self, Choice, Environment, Lifetime, Target};
use crate::error::{Error, Result};
use crate::output::{Output, ago};

/// One run of opsctl.
#[derive(Debug)]
pub struct Session {
    /// The global flags.
    pub global: Global,
    /// Where everything is written.
    pub output: Output,
    argv: Vec<String>,
    named: bool,
    target: OnceCell<Target>,
    connection: tokio::sync::OnceCell<Connection>,
    interruptible: Cell<bool>,
}

impl Session {
    /// `argv` is the command line as it was typed; `named`: `--context` stands on it.
    #[must_use]
    pub fn new(global: Global, argv: Vec<String>, named: bool) -> Self {
        let output = Output::new(global.output, global.quiet, global.utc, global.color);
        Self {
            global,
            output,
            argv,
            named,
            target: OnceCell::new(),
            connection: tokio::sync::OnceCell::new(),
            interruptible: Cell::new(false),
        }
    }

    /// Now. The only place where opsctl reads the wall clock for what it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// What the command line says about the target.
    #[must_use]
    pub fn choice(&self) -> Choice {
        Choice { config: None, context: self.global.context.clone(), host: self.global.host.clone() }
    }

    /// The agent that is meant, from flags, environment and configuration.
    ///
    /// # Errors
    /// `CONTEXT_MISSING` with the way to get one; `CONTEXT_INVALID`.
    pub fn target(&self) -> Result<&Target> {
        if let Some(target) = self.target.get() {
            return Ok(target);
        }
        let target = context::resolve(&self.choice(), &Environment::capture())?;
        Ok(self.target.get_or_init(|| target))
    }

    /// A connection to it; made once, shared afterwards.
    ///
    /// # Errors
    /// As [`Session::target`] and [`connection::connect`].
    pub async fn connect(&self) -> Result<Connection> {
        let target = self.target()?;
        let connection = self
            .connection
            .get_or_try_init(|| async {
                if let Lifetime::Ending { not_after } = target.lifetime(self.now()) {
                    self.output.note(&format!(
                        "note: your certificate ends {}; renew it: {}",
                        ago(not_after, self.now()),
                        crate::error::command_line(&renewal(target), None)
                    ));
                }
                // A change is answered once it has its locks.
                let waiting = self.global.lock_timeout.unwrap_or_default() + connection::CALL_TIMEOUT;
                let timeout = self.global.timeout.unwrap_or_default().max(waiting);
                connection::connect(target, timeout).await
            })
            .await?;
        Ok(connection.clone())
    }

    /// Runs a reading command's calls within `--timeout`.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`, or what `calls` answers.
    pub async fn within<T>(&self, calls: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.global.timeout.unwrap_or(connection::CALL_TIMEOUT);
        match tokio::time::timeout(limit, calls).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::connection(
                ErrorReason::DeadlineExceeded,
                format!("no answer from {{agent}} in {}", words(limit)),
            )),
        }
    }

    /// The options of a change, from the flags.
    #[must_use]
    pub fn change_options(&self) -> ChangeOptions {
        let ms = |limit: Option<Duration>| {
            limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        };
        let global = &self.global;
        ChangeOptions {
            plan: global.plan,
            plan_id: String::new(),
            plan_digest: global.plan_digest.clone().unwrap_or_default(),
            confirm: global.confirm.clone().unwrap_or_default(),
            confirmed: global.yes || global.confirm.is_some(),
            reason: global.reason.clone().unwrap_or_default(),
            idempotency_key: global.idempotency_key.clone().unwrap_or_default(),
            timeout_ms: ms(global.timeout),
            lock_timeout_ms: ms(global.lock_timeout),
        }
    }

    /// The command line as it was typed, `opsctl` first: what a refusal tells to run, with an answer added.
    #[must_use]
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// The context to keep in commands that are shown: the one that a flag named.
    #[must_use]
    pub fn shown_context(&self) -> Option<&str> {
        self.global.context.as_deref().filter(|_| self.named)
    }

    /// `prod  auction-1.example.net:7443  `: how a target line begins; without a context only the address.
    #[must_use]
    pub fn target_prefix(&self) -> String {
        let Some(target) = self.target.get() else { return String::new() };
        let address = target.addresses.first().map_or("", String::as_str);
        match &target.context {
            Some(context) => format!("{context}  {address}  "),
            None => format!("{address}  "),
        }
    }

    /// Waits for Ctrl-C. A command that calls this ends in its own way; any other just ends. A second Ctrl-C always
    /// ends opsctl.
    pub async fn interrupted(&self) {
        self.interruptible.set(true);
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A command waits for Ctrl-C itself.
    pub(crate) fn handles_interrupt(&self) -> bool {
        self.interruptible.get()
    }

    /// Puts the agent's address and the context into a failure of the connection, and the way to a new certificate
    /// into one of the credential.
    pub(crate) fn complete(&self, error: Error) -> Error {
        let Some(target) = self.target.get() else { return error };
        let address = target.addresses.first().map_or("", String::as_str);
        let context = target.context.as_deref().unwrap_or_default();
        let ended = match target.lifetime(self.now()) {
            Lifetime::Ended { not_after } => Some(not_after),
            _ => None,
        };
        let lost = error.is_connection() && error.reason() == ErrorReason::AgentUnreachable;
        let mut error = match ended {
            // A refused certificate may come back as a mere cut.
            Some(not_after) if lost && error.problem().message.starts_with("the connection") => Error::new(
                ErrorReason::CredentialExpired,
                format!("your certificate ended {}", ago(not_after, self.now())),
            )
            .effect(if context.is_empty() { String::new() } else { format!("context {context}") }),
            _ => error.at(address, context),
        };
        if error.problem().next.is_empty() {
            if error.reason() == ErrorReason::CredentialExpired && target.identity.is_some() {
                let renewal = renewal(target);
                let argv: Vec<&str> = renewal.iter().map(String::as_str).collect();
                error = error.next(&argv);
            } else if error.exit() == crate::exit::Exit::Unreachable {
                error = error.next_with(&["opsctl", "context", "show"], "is it the right agent?");
            }
        }
        error
    }
}

/// `ssh HOST sudo opsctl pki renew NAME | opsctl context import -`.
fn renewal(target: &Target) -> Vec<String> {
    let name =
        target.peer.as_ref().map_or_else(|| "NAME".to_owned(), |peer| short(&peer.subject.to_string()));
    ["ssh", target.host(), "sudo", "opsctl", "pki", "renew", &name, "|", "opsctl", "context", "import", "-"]
        .map(str::to_owned)
        .to_vec()
}

/// `ana` for `user/ana`; other subjects keep their kind.
#[must_use]
pub fn short(subject: &str) -> String {
    subject.strip_prefix("user/").unwrap_or(subject).to_owned()
}

fn words(limit: Duration) -> String {
    format!("{:.1} s", limit.as_secs_f64())
}
