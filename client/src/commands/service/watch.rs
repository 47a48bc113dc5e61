//! Changes as they come: a table first, then a line a change.

use super::{
    Exit, Result, Service, ServiceServiceClient, Session, WatchServicesRequest, WatchServicesResponse,
    service_table,
};
use crate::output::{timestamp, visible};

pub(super) async fn run(names: Vec<String>, session: &Session) -> Result<Exit> {
    let mut client = ServiceServiceClient::new(session.connect().await?);
    let mut stream = client.watch_services(WatchServicesRequest { names }).await?.into_inner();
    let mut first = true;
    loop {
        let answer = tokio::select! {
            answer = stream.message() => answer?,
            () = session.interrupted() => return Ok(Exit::Interrupted),
        };
        let Some(answer) = answer else { return Ok(Exit::Done) };
        show(&answer, first, session)?;
        first = false;
    }
}

fn show(answer: &WatchServicesResponse, first: bool, session: &Session) -> Result<()> {
    let output = &session.output;
    if output.is_document() {
        return output.item(&ops_proto::json::document("service_change", answer));
    }
    if first {
        output.table(&service_table(&answer.services, session.now()))?;
        output.note("-- changes follow, Ctrl-C ends");
        return Ok(());
    }
    let at = answer.at.as_ref().and_then(timestamp).map(|at| output.clock(at)).unwrap_or_default();
    for service in &answer.services {
        output.line(&visible(&format!("{at}  {}", words(service))))?;
    }
    Ok(())
}

fn words(service: &Service) -> String {
    let state = service.state().as_str_name().trim_start_matches("SERVICE_STATE_").to_owned();
    let pid = if service.pid == 0 { String::new() } else { format!(", pid {}", service.pid) };
    let ready = if service.readiness_text.is_empty() {
        String::new()
    } else {
        format!(", {}", service.readiness_text)
    };
    format!("{}  {state}{pid}{ready}", service.name)
}
