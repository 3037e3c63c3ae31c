//! Files in memory, which can be damaged.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use gossip_transport::acme::AcmeStore;

#[derive(Default)]
pub struct Store(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    is_full: bool,
    /// What the names of files begin with that cannot be read.
    unreadable: Option<&'static str>,
    /// What the names of files begin with that cannot be written.
    unwritable: Option<&'static str>,
    /// The number of writes that failed for that.
    refused: u64,
}

impl Store {
    /// Returns the name and the content of the file whose name begins with `kind`.
    pub fn find(&self, kind: &str) -> Option<(String, Vec<u8>)> {
        let inner = self.0.lock().unwrap();
        let mut files = inner.files.iter();
        let found = files.find(|(name, _)| name.starts_with(kind));
        found.map(|(name, bytes)| (name.clone(), bytes.clone()))
    }

    /// Replaces the content of the file whose name begins with `kind`.
    pub fn damage(&self, kind: &str, bytes: &[u8]) {
        let (name, _) = self.find(kind).unwrap();
        self.0.lock().unwrap().files.insert(name, bytes.to_vec());
    }

    pub fn remove(&self, kind: &str) {
        let (name, _) = self.find(kind).unwrap();
        self.0.lock().unwrap().files.remove(&name);
    }

    /// Lets files whose name begins with `kind` be unreadable from now on, or none.
    pub fn set_unreadable(&self, kind: Option<&'static str>) {
        self.0.lock().unwrap().unreadable = kind;
    }

    /// Does the same for writing.
    pub fn set_unwritable(&self, kind: Option<&'static str>) {
        self.0.lock().unwrap().unwritable = kind;
    }

    /// Returns the number of writes that failed since files cannot be written.
    pub fn refused(&self) -> u64 {
        self.0.lock().unwrap().refused
    }

    /// Lets every write fail from now on, or no more.
    pub fn set_full(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }
}

impl AcmeStore for Store {
    fn read(&self, name: &str, max_len: usize) -> io::Result<Option<Vec<u8>>> {
        let inner = self.0.lock().unwrap();
        if inner.unreadable.is_some_and(|kind| name.starts_with(kind)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let found = inner.files.get(name).cloned();
        assert!(found.as_ref().is_none_or(|bytes| bytes.len() <= max_len));
        Ok(found)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if inner.unwritable.is_some_and(|kind| name.starts_with(kind)) {
            inner.refused += 1;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        inner.files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}
