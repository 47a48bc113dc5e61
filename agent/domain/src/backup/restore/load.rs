//! Loading a backup's collections, and proving that what was loaded is what the manifest says.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::manifest::{CollectionRecord, Manifest};
use super::super::swap::{Ledger, Pair, mismatch};
use super::super::verify::cancelled;
use super::{Ground, Restore};
use crate::error::{Error, Reason, Result};
use crate::operation::{PhaseHandle, Run};
use crate::ports::backup_store::StoreError;
use crate::ports::dump::Batch;

impl Restore {
    pub(super) async fn load_and_compare(&self, run: &Run, ground: &Ground, ledger: &Ledger) -> Result<()> {
        let mut phase = run.phase("load", "");
        match self.load(run, ground, ledger, &mut phase).await {
            Ok(indexes) => {
                phase.done(format!("{} documents, {indexes} indexes", ground.manifest.documents()));
            }
            Err(error) => {
                phase.failed(error.message.clone());
                return Err(error);
            }
        }
        let mut phase = run.phase("compare", "");
        match self.compare(run, ground, ledger, &mut phase).await {
            Ok(()) => {
                let count = ledger.pairs.len();
                phase.done(format!("{count} of {count} digests equal to the backup"));
                Ok(())
            }
            Err(error) => {
                phase.failed(error.message.clone());
                Err(error)
            }
        }
    }

    async fn load(
        &self,
        run: &Run,
        ground: &Ground,
        ledger: &Ledger,
        phase: &mut PhaseHandle,
    ) -> Result<usize> {
        let (mut documents, mut indexes) = (0, 0);
        let total = ground.manifest.documents();
        for (pair, record) in ledger.pairs.iter().zip(&ground.manifest.collections) {
            let listed = record
                .collection()
                .map_err(|error| Error::new(Reason::BackupCorrupt, error.to_string()).about(&self.id))?;
            let dump = self.inner.dump()?;
            dump.create(&ledger.database, &pair.scratch, &listed.options).await?;
            let mut decoded = self.decode(&ground.manifest, record)?;
            while let Some(batch) = decoded.recv().await {
                if run.cancelled().is_cancelled() {
                    return Err(cancelled());
                }
                let batch = batch?;
                documents += batch.documents;
                dump.insert(&ledger.database, &pair.scratch, batch).await?;
                phase.progress(documents, total, "documents");
            }
            dump.index(&ledger.database, &pair.scratch, &listed.indexes).await?;
            indexes += listed.indexes.len();
        }
        Ok(indexes)
    }

    /// Segments, decoded one ahead of the insert.
    fn decode(
        &self,
        manifest: &Arc<Manifest>,
        record: &CollectionRecord,
    ) -> Result<mpsc::Receiver<Result<Batch, StoreError>>> {
        let store = Arc::clone(self.inner.store()?);
        let (id, file, segments) = (manifest.id.clone(), record.file.clone(), record.segments.clone());
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for segment in segments {
                let batch = store
                    .segment(&id, &file, &segment.frame(), true)
                    .await
                    .map(|bytes| Batch { bytes, documents: segment.documents });
                let failed = batch.is_err();
                if sender.send(batch).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn compare(
        &self,
        run: &Run,
        ground: &Ground,
        ledger: &Ledger,
        phase: &mut PhaseHandle,
    ) -> Result<()> {
        let listed = self.inner.database()?.collections(&ledger.database).await?;
        let total = ledger.pairs.len() as u64;
        for (done, (pair, record)) in ledger.pairs.iter().zip(&ground.manifest.collections).enumerate() {
            self.compare_one(run, ledger, pair, record).await?;
            let found = listed.iter().find(|one| one.name == pair.scratch);
            let has =
                |name: &str| found.is_some_and(|one| one.indexes.iter().any(|index| index.name == name));
            let expected = record
                .collection()
                .map_err(|error| Error::new(Reason::BackupCorrupt, error.to_string()).about(&self.id))?;
            let dump = self.inner.dump()?;
            let missing = expected
                .indexes
                .iter()
                .find(|index| index.name != "_id_" && dump.takes(&ground.server, index) && !has(&index.name));
            if let Some(index) = missing {
                return Err(mismatch(&record.name, &format!("index {} was not built", index.name)));
            }
            phase.progress(done as u64 + 1, total, "collections");
        }
        Ok(())
    }

    async fn compare_one(
        &self,
        run: &Run,
        ledger: &Ledger,
        pair: &Pair,
        record: &CollectionRecord,
    ) -> Result<()> {
        let sums = self.inner.sums(&ledger.database, &pair.scratch, Some(run)).await?;
        if sums.documents != record.documents {
            let detail = format!("{} documents, the backup has {}", sums.documents, record.documents);
            return Err(mismatch(&record.name, &detail));
        }
        if sums.digest != record.digest {
            let detail = format!("digest {}, the backup's is {}", sums.digest, record.digest);
            return Err(mismatch(&record.name, &detail));
        }
        Ok(())
    }
}
