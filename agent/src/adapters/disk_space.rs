//! How full filesystems are, by `statvfs`.

use nix::errno::Errno;
use ops_domain::ports::{DiskSpace, DiskUsage};

/// This host's.
#[derive(Debug, Default)]
pub struct HostDisks;

impl DiskSpace for HostDisks {
    fn usage(&self, path: &str) -> Result<DiskUsage, String> {
        let about = nix::sys::statvfs::statvfs(path).map_err(|errno| match errno {
            Errno::EACCES => "permission denied for the agent's user".to_owned(),
            Errno::ENOENT => "there is no such path".to_owned(),
            other => other.desc().to_owned(),
        })?;
        let size = u128::from(about.fragment_size());
        let blocks = |count: u64| u64::try_from(u128::from(count) * size).unwrap_or(u64::MAX);
        let (total, free) = (blocks(about.blocks()), blocks(about.blocks_free()));
        let available = blocks(about.blocks_available());
        let used = total.saturating_sub(free);
        // What is kept for root is neither used nor to be had: `df` leaves it out too, and rounds up.
        let share = (u128::from(used) * 100).div_ceil(u128::from(used.saturating_add(available)).max(1));
        Ok(DiskUsage { total, available, used_percent: u8::try_from(share).unwrap_or(100) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_has_a_size_and_nothing_has_none() {
        let usage = HostDisks.usage("/").unwrap();
        assert!(usage.total > 0 && usage.available <= usage.total && usage.used_percent <= 100);
        assert_eq!(HostDisks.usage("/no/such/path").unwrap_err(), "there is no such path");
    }
}
