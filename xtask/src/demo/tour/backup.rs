//! A backup, the damage, and the restore.

use std::process::Command;

use crate::demo::run::{Fault, Show};

pub(super) fn create(show: &mut Show<'_>) -> Result<String, Fault> {
    show.opsctl(&["db", "count"])?.exits(0)?.says(&["bids", "20000"])?;
    show.opsctl(&["backup", "create"])?.exits(0)?;
    show.opsctl(&["backup", "list"])?.exits(0)?;
    show.opsctl(&["backup", "verify", "latest"])?.exits(0)?;
    Ok("written, synced, read again, checked".to_owned())
}

pub(super) fn destroy(show: &mut Show<'_>) -> Result<String, Fault> {
    let description = show.sandbox.description();
    let platform = description.opsd.with_file_name("sample-platform");
    let mut damage = Command::new(platform);
    damage.arg("damage").env("MONGODB_URI", &description.mongodb.uri);
    damage.env("DB_NAME", &description.mongodb.database);
    show.program(&mut damage)?.exits(0)?;
    show.opsctl(&["db", "count"])?.exits(0)?.says(&["bids"])?;
    Ok("two bids of three are gone, one is altered, a collection is missing".to_owned())
}

pub(super) fn restore(show: &mut Show<'_>) -> Result<String, Fault> {
    let database = show.sandbox.description().mongodb.database.clone();
    show.opsctl_as("operator", &["backup", "restore", "latest", "--confirm", &database])?
        .exits(4)?
        .says(&["admin"])?;
    show.opsctl_as("admin", &["backup", "restore", "latest", "--confirm", &database])?.exits(0)?;
    show.opsctl(&["db", "count"])?.exits(0)?.says(&["20000", "magic_links"])?;
    show.opsctl(&["status"])?.exits(0)?.says(&["3 of 3 services ready"])?;
    Ok("counts and digests equal the backup's; an operator alone may not".to_owned())
}
