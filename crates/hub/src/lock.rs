//! One process at a time: the lock files of the hubs' own tools (flock), so that they wait for us and we for them.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use crate::HubError;

/// How often a lock that somebody has is tried.
const PAUSE: Duration = Duration::from_millis(100);

/// A lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for it. Whoever may stop waiting drops the future.
    pub(crate) async fn acquire(path: &Path) -> Result<Self, HubError> {
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            sleep(PAUSE).await;
        }
    }

    /// The lock, unless somebody has it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, HubError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(HubError::io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
        }
        // Whoever had it may have removed the file: the lock of a file that is gone locks nobody out.
        let is_same = |ours: std::fs::Metadata, theirs: std::fs::Metadata| ours.ino() == theirs.ino();
        let is_there = file.metadata().ok().zip(path.metadata().ok()).is_some_and(|(a, b)| is_same(a, b));
        Ok(is_there.then_some(Lock { _file: file }))
    }
}
