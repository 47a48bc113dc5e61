//! A plan as a person reads it before saying yes.

use std::fmt::Write as _;

use ops_proto::v1::{ConfirmLevel, Plan};

use crate::error::{Result, command_line};
use crate::output::{duration, timestamp, visible};
use crate::session::Session;

/// The answer to `--plan`: data, on stdout.
pub(super) fn print(session: &Session, plan: &Plan) -> Result<()> {
    if session.output.is_document() {
        return session.output.document("plan", plan);
    }
    let needs = match plan.confirm() {
        ConfirmLevel::Type => format!(", needs --confirm {}", plan.confirm_text),
        ConfirmLevel::Ask => ", needs --yes".to_owned(),
        ConfirmLevel::None | ConfirmLevel::Unspecified => String::new(),
    };
    let line = format!("plan of {} {}{needs}; nothing was done\n\n", plan.operation, plan.targets.join(" "));
    session.output.bytes(visible(line.trim_end()).as_bytes())?;
    session.output.bytes(format!("\n\n{}", words(session, plan)).as_bytes())?;
    let typed = session.argv().iter().filter(|word| word.as_str() != "--plan").cloned();
    let mut line: Vec<String> = typed.chain(["--plan-digest".to_owned(), plan.digest.clone()]).collect();
    if session.global.confirm.is_none() {
        match plan.confirm() {
            ConfirmLevel::Type => line.extend(["--confirm".to_owned(), plan.confirm_text.clone()]),
            ConfirmLevel::Ask if !session.global.yes => line.push("--yes".to_owned()),
            ConfirmLevel::Ask | ConfirmLevel::None | ConfirmLevel::Unspecified => {}
        }
    }
    session.output.note(&format!("next: {}", command_line(&line, None)));
    Ok(())
}

/// Facts, steps and what happens if it fails, each behind its name; with an empty line at the end.
pub(super) fn words(session: &Session, plan: &Plan) -> String {
    let names = plan.facts.iter().map(|fact| fact.name.chars().count());
    let width = names.max().unwrap_or(0).max("if it fails".len()) + 2;
    let mut text = String::new();
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "{}", format!("{:<width$}{}", visible(name), visible(what)).trim_end());
    };
    for fact in &plan.facts {
        if !fact.text.is_empty() || fact.lines.is_empty() {
            line(&fact.name, &fact.text);
        }
        for (index, quoted) in fact.lines.iter().enumerate() {
            line(if index == 0 && fact.text.is_empty() { &fact.name } else { "" }, quoted);
        }
    }
    let longest = plan.steps.iter().map(|step| step.phase.chars().count()).max().unwrap_or(0);
    for (index, step) in plan.steps.iter().enumerate() {
        let name = if index == 0 { "steps" } else { "" };
        let estimate = match step.estimate_ms {
            0 => String::new(),
            ms => format!("  ~{}", duration(ms.div_ceil(1000))),
        };
        line(name, &format!("{} {:<longest$}  {}{estimate}", index + 1, step.phase, step.text));
    }
    if !plan.if_it_fails.is_empty() {
        line("if it fails", &plan.if_it_fails);
    }
    if let Some(at) = plan.expires_at.as_ref().and_then(timestamp) {
        line("good until", &session.output.clock(at));
    }
    text.push('\n');
    text
}
