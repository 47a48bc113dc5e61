//! Looking at operations: one, many, or one as it goes on.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};

use crate::access::{Permission, Principal, Scope, authorize};
use crate::error::{Error, Reason, Result};
use crate::ids::OperationId;
use crate::operation::engine::Engine;
use crate::operation::{Event, Operation, Operations, Watched};

/// Events that a watcher reads at once.
const PAGE: u32 = 256;

impl Operations {
    /// The newest first, at most `limit` (0: 50, at most 1,000).
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`.
    pub async fn list(&self, limit: u32, running: bool) -> Result<Vec<Operation>> {
        let limit = if limit == 0 { 50 } else { limit.min(1000) };
        let mut operations = self.engine.ports.journal.list(limit, running).await?;
        for operation in &mut operations {
            if let Some(live) = self.engine.live(&operation.id) {
                *operation = live.operation();
            }
        }
        operations.retain(|operation| !running || !operation.state.ended());
        Ok(operations)
    }

    /// One, by its id or any unique part of it.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND` with ids that are near, `INVALID_ARGUMENT` when several match.
    pub async fn get(&self, part: &str) -> Result<Operation> {
        let id = self.engine.resolve(part).await?;
        self.engine.find(&id).await?.ok_or_else(|| not_found(part))
    }

    /// As [`Operations::list`], what this caller may see.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`.
    pub async fn list_for(&self, principal: &Principal, limit: u32, running: bool) -> Result<Vec<Operation>> {
        let mut operations = self.list(limit, running).await?;
        operations.retain(|operation| operation.is_visible_to(principal));
        Ok(operations.into_iter().map(|operation| operation.shown_to(principal)).collect())
    }

    /// As [`Operations::get`], as this caller may see it.
    ///
    /// # Errors
    /// As [`Operations::get`], and `PERMISSION_DENIED` for what is outside the caller's services.
    pub async fn get_for(&self, principal: &Principal, part: &str) -> Result<Operation> {
        let operation = self.get(part).await?;
        if !operation.is_visible_to(principal) {
            authorize(principal, Permission::OperationRead, Scope::All)?;
        }
        Ok(operation.shown_to(principal))
    }

    /// Every event after `after_seq`, then those that come; the whole operation at its end, then nothing.
    ///
    /// # Errors
    /// As [`Operations::get`].
    pub async fn watch(&self, part: &str, after_seq: u64) -> Result<BoxStream<'static, Result<Watched>>> {
        let id = self.engine.resolve(part).await?;
        let watcher = Watcher { operations: self.clone(), id, after_seq, page: VecDeque::new(), over: false };
        Ok(futures_util::stream::unfold(watcher, |mut watcher| async move {
            let next = watcher.next().await?;
            watcher.over |= next.is_err();
            Some((next, watcher))
        })
        .boxed())
    }

    /// As [`Operations::get`], once it has ended or the time is over, whichever comes first.
    ///
    /// # Errors
    /// As [`Operations::get`].
    pub async fn wait(&self, part: &str, time: Duration) -> Result<Operation> {
        let id = self.engine.resolve(part).await?;
        if let Some(live) = self.engine.live(&id) {
            tokio::select! {
                () = live.over().cancelled() => return Ok(live.operation()),
                () = self.engine.ports.clock.sleep(time) => {}
            }
        }
        self.engine.find(&id).await?.ok_or_else(|| not_found(part))
    }
}

struct Watcher {
    operations: Operations,
    id: OperationId,
    after_seq: u64,
    page: VecDeque<Event>,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Watched>> {
        let engine = &self.operations.engine;
        loop {
            if let Some(event) = self.page.pop_front() {
                self.after_seq = event.seq;
                return Some(Ok(Watched::Event(event)));
            }
            if self.over {
                return None;
            }
            // Subscribed before the journal is read, so that nothing falls between the two.
            let live = engine.live(&self.id);
            let mut durable = live.as_ref().map(|live| live.durable());
            if let Some(durable) = &mut durable {
                durable.borrow_and_update();
            }
            match engine.ports.journal.events(&self.id, self.after_seq, PAGE).await {
                Ok(events) => self.page.extend(events),
                Err(error) => return Some(Err(error)),
            }
            if !self.page.is_empty() {
                continue;
            }
            match (live, durable) {
                (Some(live), Some(mut durable)) if !live.over().is_cancelled() => {
                    // `over` fires before the last change, so either wakes it.
                    let _ = durable.changed().await;
                }
                _ => {
                    self.over = true;
                    return match engine.find(&self.id).await {
                        Ok(Some(operation)) => Some(Ok(Watched::Operation(Box::new(operation)))),
                        Ok(None) => Some(Err(not_found(self.id.as_str()))),
                        Err(error) => Some(Err(error)),
                    };
                }
            }
        }
    }
}

impl Engine {
    /// In its newest form.
    pub(super) async fn find(&self, id: &OperationId) -> Result<Option<Operation>> {
        if let Some(live) = self.live(id) {
            return Ok(Some(live.operation()));
        }
        Ok(self.ports.journal.load(id).await?.map(|recorded| recorded.operation))
    }

    async fn resolve(&self, part: &str) -> Result<OperationId> {
        let part = OperationId::parse(part)
            .map_err(|error| error.next(&["opsctl", "operation", "list"]))?
            .as_str()
            .to_ascii_lowercase();
        let found = self.ports.journal.matching(&part).await?;
        match found.as_slice() {
            [id] => Ok(id.clone()),
            several if several.iter().any(|id| id.as_str() == part) => OperationId::parse(&part),
            [] => {
                let mut near: Vec<_> = self.ports.journal.list(200, false).await?;
                near.retain(|operation| distance(operation.id.as_str(), &part) <= 3);
                near.truncate(3);
                let near: Vec<_> = near.iter().map(|operation| operation.id.as_str()).collect();
                let error = not_found(&part);
                Err(if near.is_empty() { error } else { error.fact("near", near.join(", ")) }.next(&[
                    "opsctl",
                    "operation",
                    "list",
                ]))
            }
            several => {
                let ids: Vec<_> = several.iter().map(OperationId::as_str).collect();
                let message = format!("\"{part}\" stands in the ids of {} operations", ids.len());
                Err(Error::new(Reason::InvalidArgument, message).about(&part).fact("matches", ids.join(", ")))
            }
        }
    }
}

fn not_found(part: &str) -> Error {
    Error::new(Reason::OperationNotFound, format!("there is no operation {part}")).about(part)
}

/// How many letters must be changed, added or taken away (Levenshtein), `op-` added to a bare part.
fn distance(id: &str, part: &str) -> usize {
    let part = if part.starts_with("op-") { part.to_owned() } else { format!("op-{part}") };
    let part: Vec<char> = part.chars().collect();
    let mut row: Vec<usize> = (0..=part.len()).collect();
    for (index, letter) in id.chars().enumerate() {
        let mut corner = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (other, cell) in part.iter().zip(row.iter_mut().skip(1)) {
            let changed = corner + usize::from(*other != letter);
            corner = *cell;
            left = changed.min(corner + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_are_counted_in_letters() {
        assert_eq!(distance("op-7k2m9q", "op-7k2m9q"), 0);
        assert_eq!(distance("op-7k2m9q", "7k2m9p"), 1);
        assert_eq!(distance("op-7k2m9q", "op-k2m9q"), 1);
        assert_eq!(distance("op-7k2m9q", "op-k72m9q"), 2);
    }
}
