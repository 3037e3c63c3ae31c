//! A file whose content may change, and which is read again when it has.
//!
//! Blocks: a file system may never answer. It looks at the metadata, and reads the file only if they are others
//! than before and have stayed the same between two looks, since an editor may write a file in several steps.
//! Invariant: nothing but a regular file is opened, since a pipe would be waited for.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::private_file;

/// The time between two looks at a file.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The time for which a file must stay the same before it is read.
pub(crate) const SETTLE: Duration = Duration::from_millis(150);

/// A file that is looked at again and again.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// The metadata for which the content was read, or the reason for which there were none.
    settled: Option<Sight>,
    /// The metadata at the last look, or the reason for which there were none.
    last: Option<Sight>,
    /// A hash of the last content, or the reason for which there is none.
    content: Result<u64, String>,
}

/// What is seen of a file without reading it.
type Sight = Result<Stamp, String>;

/// The metadata that change when a file is changed or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

/// The result of a look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// There is nothing new.
    Same,
    /// Something has changed just now. Look again soon.
    Unsettled,
    /// The content is this one now, or the file cannot be read for this reason, which follows its name.
    New(Result<String, String>),
}

impl WatchedFile {
    /// Returns the watch of a file that had this content when it was read.
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        Self {
            path: path.to_path_buf(),
            settled: None,
            last: None,
            content: Ok(hash(text)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file.
    pub(crate) fn look(&mut self) -> Look {
        let sight = self.sight();
        if self.settled.as_ref() == Some(&sight) {
            self.last = None;
            return Look::Same;
        }
        if self.last.as_ref() != Some(&sight) {
            self.last = Some(sight);
            return Look::Unsettled;
        }
        let read = sight.clone().and_then(|_| self.read());
        if self.sight() != sight {
            // It was changed while it was read.
            return Look::Unsettled;
        }
        // What cannot be read now, for lack of descriptors perhaps, is tried again at the next look.
        if read.is_ok() || sight.is_err() {
            self.settled = Some(sight);
            self.last = None;
        }
        self.new_content(read)
    }

    fn new_content(&mut self, read: Result<String, String>) -> Look {
        let content = read.as_ref().map(|text| hash(text)).map_err(String::clone);
        if content == self.content {
            return Look::Same;
        }
        self.content = content;
        Look::New(read)
    }

    /// Reads the file now, whether or not it has stayed the same.
    pub(crate) fn look_now(&mut self) -> Look {
        let read = self.read();
        self.new_content(read)
    }

    /// Reads the file now.
    ///
    /// # Errors
    ///
    /// Fails with a reason that follows the name of the file.
    pub(crate) fn read(&self) -> Result<String, String> {
        self.sight()?;
        private_file::read(&self.path).map_err(|error| reason(&error))
    }

    /// Takes the content as known that this process has written.
    pub(crate) fn wrote(&mut self, text: &str) {
        self.content = Ok(hash(text));
    }

    fn sight(&self) -> Sight {
        match std::fs::metadata(&self.path) {
            Ok(file) if file.is_file() => Ok(Stamp::from(&file)),
            Ok(_) => Err(" is not a regular file any more: restore it".to_owned()),
            Err(error) => Err(reason(&error)),
        }
    }
}

/// Returns the watch of a file that had this content when it was read, unless it can be read only once.
pub(crate) fn watch(path: &Path, text: &str) -> Option<WatchedFile> {
    let is_regular = std::fs::metadata(path).is_ok_and(|file| file.is_file());
    if !is_regular {
        tracing::info!(?path, "not a regular file, so that it is read only once");
    }
    is_regular.then(|| WatchedFile::new(path, text))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => " does not exist any more: restore it".to_owned(),
        ErrorKind::PermissionDenied => {
            " cannot be read any more: let the user of the node read it".to_owned()
        }
        _ => format!(" cannot be read: {error}"),
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            len: file.len(),
            modified: file.modified().ok(),
            #[cfg(unix)]
            inode: (file.dev(), file.ino(), file.ctime(), file.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> Look {
        Look::New(Ok(text.to_owned()))
    }

    /// Looks until the file has settled.
    fn look(file: &mut WatchedFile) -> Look {
        assert_eq!(file.look(), Look::Unsettled);
        file.look()
    }

    #[test]
    fn new_content_is_returned_once_and_only_after_it_has_stayed_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "a").unwrap();
        let mut file = WatchedFile::new(&path, "a");
        assert_eq!(look(&mut file), Look::Same);
        assert_eq!(file.look(), Look::Same);
        std::fs::write(&path, "").unwrap();
        assert_eq!(file.look(), Look::Unsettled);
        std::fs::write(&path, "half").unwrap();
        assert_eq!(file.look(), Look::Unsettled);
        std::fs::write(&path, "whole").unwrap();
        assert_eq!(look(&mut file), new("whole"));
        assert_eq!(file.look(), Look::Same);
        // The same content in another file.
        let other = dir.path().join("other");
        std::fs::write(&other, "whole").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(look(&mut file), Look::Same);
        file.wrote("mine");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(look(&mut file), Look::Same);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_cannot_be_read_is_reported_once_and_a_pipe_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "a").unwrap();
        let mut file = WatchedFile::new(&path, "a");
        assert_eq!(look(&mut file), Look::Same);
        let reported = |file: &mut WatchedFile, part: &str| {
            let found = look(file);
            let Look::New(Err(reason)) = &found else {
                panic!("{found:?}");
            };
            assert!(reason.contains(part), "{reason}");
            assert_eq!(file.look(), Look::Same);
        };
        std::fs::remove_file(&path).unwrap();
        reported(&mut file, "does not exist any more");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        reported(&mut file, "not a regular file");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b'#'; private_file::MAX_LEN + 1]).unwrap();
        reported(&mut file, "longer than");
        // What cannot be read may be readable later without a change of the file.
        file.content = Ok(0);
        assert!(matches!(file.look(), Look::New(Err(_))));
        // Valid again, though nothing else has changed.
        std::fs::write(&path, "a").unwrap();
        assert_eq!(look(&mut file), new("a"));
    }
}
