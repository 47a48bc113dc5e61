//! Every call that changes the disk, named, so that a test can make each of them fail.

use std::io;

/// A call that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the staging folder.
    MakeFolder,
    /// Makes a file.
    MakeFile,
    /// Writes this many bytes.
    Write(usize),
    /// Makes a file durable.
    SyncFile,
    /// Makes a folder's entries durable.
    SyncFolder,
    /// Takes away the write bits.
    Protect,
    /// Gives the folder its name.
    Rename,
    /// Removes a staging folder.
    Remove,
}

/// Who is asked before each step.
pub trait Steps: Send + Sync {
    /// An error is what the step then answers.
    ///
    /// # Errors
    /// As a test wants it.
    fn before(&self, step: &Step) -> io::Result<()>;

    /// How many bytes of a write get through before it fails; `None`: all of them.
    fn torn(&self, _bytes: usize) -> Option<usize> {
        None
    }
}

/// Nobody interferes.
pub(super) struct AsTheyAre;

impl Steps for AsTheyAre {
    fn before(&self, _step: &Step) -> io::Result<()> {
        Ok(())
    }
}
