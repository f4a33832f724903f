//! A folder that somebody named, such as a clone of which git left the large files out (`GIT_LFS_SKIP_SMUDGE=1`): a pointer of
//! three lines stands in for each of them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::place::Place;
use crate::{HubError, RepoFile};

/// A folder to complete.
pub(crate) struct Folder(PathBuf);

/// What a pointer says of the file that it stands for.
#[derive(Debug, PartialEq, Eq)]
struct Pointer {
    sha256: String,
    size: u64,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Folder(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The lock of whoever completes it.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join(".glimmer.lock")
    }

    /// Whether a file is there and is no pointer. One of another size is somebody's own, and is left alone.
    pub(crate) fn has(&self, file: &RepoFile) -> Result<bool, HubError> {
        let path = self.0.join(&file.path);
        let changed = |what: String| HubError::Io { path: path.clone(), source: std::io::Error::other(what) };
        let Ok(metadata) = path.metadata() else { return Ok(false) };
        if let Some(pointer) = pointer(&path).filter(|pointer| pointer.size != metadata.len()) {
            let is_other = file.sha256.as_ref().is_some_and(|sha256| *sha256 != pointer.sha256);
            if is_other || pointer.size != file.size {
                return Err(changed(
                    "this clone is of another revision than the hub's; name the clone's commit with --revision".to_owned(),
                ));
            }
            return Ok(false);
        }
        if metadata.len() != file.size {
            return Err(changed(format!(
                "it has {} bytes, the hub's has {}; it is left as it is: move it away, or name the revision it is of",
                metadata.len(),
                file.size
            )));
        }
        Ok(true)
    }

    /// Where a file goes. No link that lies in the folder may lead out of it.
    pub(crate) fn place(&self, file: &RepoFile) -> Result<Place, HubError> {
        let path = self.0.join(&file.path);
        let parent = path.parent().unwrap_or(&self.0);
        std::fs::create_dir_all(&self.0).map_err(HubError::io(&self.0))?;
        let root = self.0.canonicalize().map_err(HubError::io(&self.0))?;
        let nearest = parent.ancestors().find_map(|folder| folder.canonicalize().ok());
        if nearest.is_none_or(|folder| !folder.starts_with(&root)) {
            return Err(HubError::Name { name: file.path.clone(), why: "a link leads out of the folder" });
        }
        Ok(Place::beside(path, None))
    }
}

/// What the pointer at a path says, if it is one.
fn pointer(path: &Path) -> Option<Pointer> {
    const LARGEST: u64 = 1024;
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    (lines.next()? == "version https://git-lfs.github.com/spec/v1").then_some(())?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some(Pointer {
        sha256: value("oid")?.strip_prefix("sha256:")?.to_owned(),
        size: value("size")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let sha256 = "a".repeat(64);
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 4000\n");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(pointer(&path), Some(Pointer { sha256: sha256.clone(), size: 4000 }));
        let file = |sha256: &str, size| RepoFile {
            path: "x.bin".to_owned(),
            size,
            sha256: Some(sha256.to_owned()),
            git: None,
            xet: None,
        };
        let here = Folder::new(folder.path());
        assert!(!here.has(&file(&sha256, 4000)).unwrap());
        assert!(here.has(&file(&"b".repeat(64), 4000)).unwrap_err().to_string().contains("--revision"));
        std::fs::write(&path, [0; 4000]).unwrap();
        assert!(here.has(&file(&sha256, 4000)).unwrap());
        assert!(here.has(&file(&sha256, 4001)).unwrap_err().to_string().contains("left as it is"));
        std::os::unix::fs::symlink("/", folder.path().join("out")).unwrap();
        let bad = RepoFile { path: "out/etc/x".to_owned(), ..file(&sha256, 1) };
        assert!(here.place(&bad).unwrap_err().to_string().contains("leads out"));
    }
}
