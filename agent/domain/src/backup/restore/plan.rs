//! What a restore would do: read the bytes, look at the target, change nothing.

use serde_json::json;

use super::super::manifest::Completeness;
use super::super::{Level, Origin, bytes_in_words};
use super::{Ground, Restore, needs_copy};
use crate::error::{Evidence, Result};
use crate::operation::{Confirm, Plan, PlanStep};

impl Restore {
    pub(super) async fn planned(&self) -> Result<Plan> {
        let ground = self.ground().await?;
        let store = self.inner.store()?;
        let manifest = &ground.manifest;
        // A plan tells the truth only if the bytes were read; what it finds is not written into the catalog.
        let mut source = super::super::verify::Published { store: &**store, id: &self.id };
        let checked =
            super::super::verify::check(&mut source, manifest, Level::Structure, None, |_| {}).await;
        let checked = checked.map_err(|unsound| match unsound {
            super::super::verify::Unsound::Damaged(damage) => {
                super::super::corrupt(&self.id, &damage).effect("nothing was done")
            }
            super::super::verify::Unsound::Store(error) => error.into(),
            super::super::verify::Unsound::Cancelled => super::super::verify::cancelled(),
        })?;
        let mut facts = vec![
            fact("from", self.source(&ground)),
            fact(
                "checked",
                format!(
                    "just now: {} read, {} segment hashes, {} counts and digests equal",
                    bytes_in_words(checked.stored),
                    checked.segments,
                    manifest.collections.len()
                ),
            ),
            fact("into", format!("{}, {}, {}", self.target(), ground.server, self.inner.database()?.uri())),
        ];
        if ground.backup.origin == Origin::Foreign {
            facts.push(fact("origin", "foreign: this agent did not make it".to_owned()));
        }
        if manifest.state == Completeness::Partial {
            let text = "collections are missing from it".to_owned();
            facts.push(Evidence { name: "partial".to_owned(), text, lines: manifest.missing.clone() });
        }
        facts.push(Evidence {
            name: "collections".to_owned(),
            text: String::new(),
            lines: aligned(&self.table(&ground).await?),
        });
        if !ground.losses.is_empty() {
            let text = format!("{} does not keep these", ground.server.kind);
            facts.push(Evidence { name: "lost".to_owned(), text, lines: ground.losses.clone() });
        }
        let copied: Vec<String> = match &self.to {
            Some(_) => Vec::new(),
            None => manifest
                .collections
                .iter()
                .filter(|one| needs_copy(&ground.server, &one.name))
                .map(|one| one.name.clone())
                .collect(),
        };
        if !copied.is_empty() {
            let text =
                "this server cannot rename them: replaced by copying, each is away for a moment".to_owned();
            facts.push(Evidence { name: "copied".to_owned(), text, lines: copied });
        }
        if self.to.is_none() {
            let text =
                format!("what was written since {:.0}; it stays in the safety backup", manifest.started_at);
            facts.push(fact("goes-away", text));
        }
        Ok(Plan {
            confirm: self.confirm(),
            steps: self.steps(&ground),
            facts,
            if_it_fails: self.if_it_fails(),
            preconditions: json!({
                "manifest_hash": self.manifest_hash,
                "server": self.inner.database()?.uri(),
                "kind": ground.server.kind,
                "database": self.target(),
                "replaces": manifest
                    .collections
                    .iter()
                    .map(|one| &one.name)
                    .filter(|name| ground.live.contains_key(*name))
                    .collect::<Vec<_>>(),
            }),
        })
    }

    fn confirm(&self) -> Confirm {
        match self.to {
            Some(_) => Confirm::None,
            None => Confirm::Type(self.database.clone()),
        }
    }

    fn source(&self, ground: &Ground) -> String {
        let manifest = &ground.manifest;
        let tag = if manifest.tag.is_empty() { String::new() } else { format!(", tag {}", manifest.tag) };
        format!(
            "{}, made {:.0} from {}{tag}, {}",
            self.id, manifest.started_at, manifest.database, manifest.consistency
        )
    }

    fn steps(&self, ground: &Ground) -> Vec<PlanStep> {
        let step = |phase: &str, text: String| PlanStep { phase: phase.to_owned(), text, estimate_ms: 0 };
        let manifest = &ground.manifest;
        let indexes: usize = manifest.collections.iter().map(|one| one.indexes.len()).sum();
        let count = manifest.collections.len();
        let Some(to) = &self.to else {
            return vec![
                step("load", format!("load beside the live data, build {indexes} indexes")),
                step("compare", format!("read back and compare {count} digests")),
                step("safety", "safety backup of the live data".to_owned()),
                step("swap", format!("swap {count} collections by renames, then drop the old ones")),
            ];
        };
        vec![
            step("load", format!("make {to}, load {count} collections, build {indexes} indexes")),
            step("compare", format!("read back and compare {count} digests")),
        ]
    }

    fn if_it_fails(&self) -> String {
        match &self.to {
            Some(to) => format!("{to} is removed again; {} is never touched", self.database),
            None => format!("{} is as now", self.database),
        }
    }

    async fn table(&self, ground: &Ground) -> Result<Vec<[String; 4]>> {
        let head = ["COLLECTION", "NOW", "AFTER", "CHANGE"].map(str::to_owned);
        let mut rows = vec![head];
        let port = self.inner.database()?;
        for collection in &ground.manifest.collections {
            let name = collection.name.escape_debug().to_string();
            if !ground.live.contains_key(&collection.name) {
                let change = format!("comes back, {} indexes", collection.indexes.len());
                rows.push([name, "-".to_owned(), collection.documents.to_string(), change]);
                continue;
            }
            let now = port.count(self.target(), &collection.name, true).await?;
            let change = match collection.documents.cmp(&now) {
                std::cmp::Ordering::Less => format!("-{}", now - collection.documents),
                std::cmp::Ordering::Equal => "0".to_owned(),
                std::cmp::Ordering::Greater => format!("+{}", collection.documents - now),
            };
            rows.push([name, format!("~{now}"), collection.documents.to_string(), change]);
        }
        let in_backup = |name: &String| ground.manifest.collections.iter().any(|one| one.name == *name);
        for (name, kind) in ground.live.iter().filter(|(name, _)| !in_backup(name)) {
            let now = match kind.as_str() {
                "collection" => format!("~{}", port.count(self.target(), name, true).await?),
                _ => "-".to_owned(),
            };
            let shown = name.escape_debug().to_string();
            rows.push([shown, now.clone(), now, "not in the backup: left alone".to_owned()]);
        }
        Ok(rows)
    }
}

fn fact(name: &str, text: String) -> Evidence {
    Evidence { name: name.to_owned(), text, lines: Vec::new() }
}

/// Columns padded to their widest cell, two spaces between them.
fn aligned(rows: &[[String; 4]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    rows.iter()
        .map(|[name, now, after, change]| {
            let [a, b, c] = widths;
            format!("{name:a$}  {now:b$}  {after:c$}  {change}").trim_end().to_owned()
        })
        .collect()
}
