//! Putting loaded collections in the place of live ones, so that every point on the way can be undone or finished.
//!
//! A swap is two renames: live → old, scratch → live. Where a server cannot rename a name (a dotted one on FerretDB)
//! it is two copies, each compared. Every step looks at what is there first, so it can be done again after a crash.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::digest::{Sums, Tally};
use super::verify::{add, cancelled};
use super::{Inner, create};
use crate::error::{Error, Reason, Result};
use crate::ids::{BackupId, OperationId};
use crate::operation::Run;
use crate::ports::database::DatabaseError;

/// NamespaceExists: someone wrote to the name in the moment between the two renames.
const EXISTS: i32 = 48;
/// How often a name that is taken again at once is cleared.
const TRIES: usize = 5;

/// What a restore works on; journalled before its first write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The database that is written.
    pub(super) database: String,
    /// The backup.
    pub(super) backup: BackupId,
    /// Over live data; else into a database that did not exist.
    pub(super) live: bool,
    /// One a collection of the backup.
    pub(super) pairs: Vec<Pair>,
}

/// One collection on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    /// Its name.
    pub(super) name: String,
    /// Where it is loaded; its name itself in a new database.
    pub(super) scratch: String,
    /// Where the live one goes.
    pub(super) old: String,
    /// Where what was written in the moment of the swap goes.
    pub(super) aside: String,
    /// There was a live one.
    pub(super) had_live: bool,
    /// The server cannot rename it.
    pub(super) copied: bool,
}

impl Ledger {
    pub(super) fn pair(id: &OperationId, number: usize, name: &str, live: bool) -> Pair {
        let of = |prefix: &str| format!("__{prefix}_{}_{number}", create::tail(id));
        Pair {
            name: name.to_owned(),
            scratch: if live { of("rst") } else { name.to_owned() },
            old: of("old"),
            aside: of("mid"),
            had_live: false,
            copied: false,
        }
    }
}

/// How far a swap had come, by its checkpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// Pairs whose live name may hold anything.
    pub(super) entered: BTreeSet<usize>,
}

impl Inner {
    /// Swaps every pair in. `reached` grows with each checkpoint.
    pub(super) async fn swap_in(&self, run: &Run, ledger: &Ledger, reached: &mut Reached) -> Result<()> {
        for (number, pair) in ledger.pairs.iter().enumerate() {
            run.checkpoint("swap-out", json!({ "pair": number })).await?;
            self.move_out(ledger, pair, reached.entered.contains(&number)).await?;
            run.checkpoint("swap-in", json!({ "pair": number })).await?;
            reached.entered.insert(number);
            self.move_in(ledger, pair).await?;
        }
        Ok(())
    }

    async fn move_out(&self, ledger: &Ledger, pair: &Pair, entered: bool) -> Result<()> {
        let names = self.names(&ledger.database).await?;
        if !pair.had_live || !names.contains(&pair.name) || entered {
            return Ok(());
        }
        if pair.copied {
            return self.copy(&ledger.database, &pair.name, &pair.old).await.map(|_| ());
        }
        if !names.contains(&pair.old) {
            self.dump()?.rename(&ledger.database, &pair.name, &pair.old).await?;
        }
        Ok(())
    }

    async fn move_in(&self, ledger: &Ledger, pair: &Pair) -> Result<()> {
        let (dump, database) = (self.dump()?, ledger.database.as_str());
        if pair.copied {
            return self.copy(database, &pair.scratch, &pair.name).await.map(|_| ());
        }
        for attempt in 0..TRIES {
            let names = self.names(database).await?;
            if !names.contains(&pair.scratch) {
                if names.contains(&pair.name) {
                    return Ok(());
                }
                return Err(lost(database, &pair.name));
            }
            if names.contains(&pair.name) {
                dump.rename(database, &pair.name, &format!("{}_{attempt}", pair.aside)).await?;
            }
            match dump.rename(database, &pair.scratch, &pair.name).await {
                Err(error) if error.code() == Some(EXISTS) => {}
                other => return Ok(other?),
            }
        }
        Err(Error::new(
            Reason::RestoreFailed,
            format!(
                "{} is made again by another client as often as it is moved away",
                pair.name.escape_debug()
            ),
        )
        .about(&ledger.database))
    }

    /// Puts everything back as it was before the first swap, and removes what was loaded. What was written meanwhile
    /// stays aside; its names are answered.
    pub(super) async fn undo(&self, ledger: &Ledger, reached: &Reached) -> Result<Vec<String>> {
        let (dump, database) = (self.dump()?, ledger.database.as_str());
        for (number, pair) in ledger.pairs.iter().enumerate().rev() {
            let names = self.names(database).await?;
            let has = |name: &String| names.contains(name);
            if !ledger.live {
                dump.drop_collection(database, &pair.scratch).await?;
                continue;
            }
            if pair.copied {
                let entered = reached.entered.contains(&number);
                if entered && !pair.had_live {
                    dump.drop_collection(database, &pair.name).await?;
                }
                // Without the old one, an undo before this one has put it back already.
                if entered && has(&pair.old) {
                    self.copy(database, &pair.old, &pair.name).await?;
                }
                dump.drop_collection(database, &pair.old).await?;
            } else if has(&pair.old) {
                if has(&pair.name) {
                    let away =
                        if has(&pair.scratch) { format!("{}_u", pair.aside) } else { pair.scratch.clone() };
                    dump.rename(database, &pair.name, &away).await?;
                }
                dump.rename(database, &pair.old, &pair.name).await?;
            } else if !pair.had_live && reached.entered.contains(&number) && !has(&pair.scratch) {
                dump.drop_collection(database, &pair.name).await?;
            }
            dump.drop_collection(database, &pair.scratch).await?;
        }
        if ledger.live {
            let names = self.names(database).await?;
            Ok(ledger.pairs.iter().flat_map(|pair| asides(pair, &names)).collect())
        } else {
            dump.drop_empty(database).await?;
            Ok(Vec::new())
        }
    }

    /// Removes the old ones; the last step of a swap that is good.
    pub(super) async fn drop_olds(&self, ledger: &Ledger) -> Result<()> {
        let (dump, database) = (self.dump()?, ledger.database.as_str());
        let names = self.names(database).await?;
        for pair in &ledger.pairs {
            let gone = asides(pair, &names).chain([pair.old.clone(), pair.scratch.clone()]);
            for name in gone.filter(|name| names.contains(name)) {
                dump.drop_collection(database, &name).await?;
            }
        }
        Ok(())
    }

    /// Every collection stands where it should, and nothing that should have moved is left.
    pub(super) async fn check_swapped(&self, ledger: &Ledger) -> Result<()> {
        let names = self.names(&ledger.database).await?;
        let wrong = ledger
            .pairs
            .iter()
            .find(|pair| !names.contains(&pair.name) || (!pair.copied && names.contains(&pair.scratch)));
        match wrong {
            Some(pair) => Err(lost(&ledger.database, &pair.name)),
            None => Ok(()),
        }
    }

    /// Copies a collection with its indexes and compares; what stood under the new name is dropped.
    async fn copy(&self, database: &str, from: &str, to: &str) -> Result<Sums> {
        let (dump, port) = (self.dump()?, self.database()?);
        let listed = port.collections(database).await?.into_iter().find(|one| one.name == from);
        let Some(listed) = listed else { return Err(lost(database, from)) };
        dump.drop_collection(database, to).await?;
        dump.create(database, to, &listed.options).await?;
        let mut batches = dump.read(database, from).await?;
        let mut tally = Tally::default();
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            tally = add(tally, batch.bytes.clone()).await.map_err(|detail| mismatch(from, &detail))?.0;
            dump.insert(database, to, batch).await?;
        }
        dump.index(database, to, &listed.indexes).await?;
        let (read, written) = (tally.sums(), self.sums(database, to, None).await?);
        if read.digest == written.digest && read.documents == written.documents {
            Ok(written)
        } else {
            Err(mismatch(
                from,
                &format!("its copy has {} of {} documents", written.documents, read.documents),
            ))
        }
    }

    /// Reads a collection to its end.
    pub(super) async fn sums(&self, database: &str, collection: &str, run: Option<&Run>) -> Result<Sums> {
        let mut batches = self.dump()?.read(database, collection).await?;
        let mut tally = Tally::default();
        while let Some(batch) = batches.recv().await {
            if run.is_some_and(|run| run.cancelled().is_cancelled()) {
                return Err(cancelled());
            }
            tally = add(tally, batch?.bytes).await.map_err(|detail| mismatch(collection, &detail))?.0;
        }
        Ok(tally.sums())
    }

    pub(super) async fn names(&self, database: &str) -> Result<BTreeSet<String>, DatabaseError> {
        let Some(port) = &self.ports.database else { return Err(DatabaseError::Unconfigured) };
        Ok(port.collections(database).await?.into_iter().map(|one| one.name).collect())
    }
}

fn asides<'a>(pair: &'a Pair, names: &'a BTreeSet<String>) -> impl Iterator<Item = String> + 'a {
    let prefix = format!("{}_", pair.aside);
    names.iter().filter(move |name| name.starts_with(&prefix)).cloned()
}

pub(super) fn mismatch(collection: &str, detail: &str) -> Error {
    Error::new(
        Reason::RestoreMismatch,
        format!("{} is not equal to the backup: {detail}", collection.escape_debug()),
    )
    .about(collection.escape_debug())
}

fn lost(database: &str, name: &str) -> Error {
    Error::new(Reason::RestoreFailed, format!("{database}.{} is not where it should be", name.escape_debug()))
        .about(database)
}
