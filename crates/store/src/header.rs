//! The first bytes of every file of the store: who wrote it, for which cluster, where it begins.

use crate::Error;
use std::path::Path;
use stoa_units::Revision;

/// Tells our files from any other.
const MAGIC: &[u8; 8] = b"stoa-db\n";
/// Goes up when an older program could not read the files.
const FORMAT: u32 = 1;
/// Room for the cluster's name.
pub(crate) const CLUSTER_BYTES_MAX: usize = 64;
/// Length of a header on disk.
pub(crate) const HEADER_LEN: usize = 8 + 4 + 4 + CLUSTER_BYTES_MAX + 8 + 8 + 4;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Transactions from a revision on.
    Log,
    /// Everything that existed at a revision.
    Checkpoint,
}

/// A file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FileKind,
    pub(crate) cluster: String,
    /// Of a log the first revision that it may hold, of a checkpoint the revision whose state it is.
    pub(crate) revision: Revision,
    /// A random number that goes into every checksum: no value that a client stores can look like a frame.
    pub(crate) salt: u64,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.kind.number().to_le_bytes());
        let mut cluster = self.cluster.clone().into_bytes();
        cluster.resize(CLUSTER_BYTES_MAX, 0);
        out.extend_from_slice(&cluster);
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        let mut array = [0; HEADER_LEN];
        array.copy_from_slice(&out);
        array
    }

    /// Reads the header of `path`, of which `bytes` are the first.
    pub(crate) fn parse(path: &Path, bytes: &[u8], kind: FileKind) -> Result<Header, Error> {
        let foreign = |what: String| Error::Foreign { path: path.to_owned(), what };
        let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), what: what.to_owned() };
        if !bytes.starts_with(MAGIC) {
            return Err(foreign("it does not begin like a file of a stoa store".to_owned()));
        }
        let Some(bytes) = bytes.get(..HEADER_LEN) else {
            return Err(corrupt("its header is cut short"));
        };
        let (body, sum) = bytes.split_at(HEADER_LEN - 4);
        let mut fields = Fields(&body[MAGIC.len()..]);
        let format = fields.u32().unwrap_or_default();
        if format != FORMAT {
            return Err(foreign(format!("its format is {format}, this program knows {FORMAT}")));
        }
        if sum != crc32fast::hash(body).to_le_bytes() {
            return Err(corrupt("its header does not match its checksum"));
        }
        let (number, cluster) = (fields.u32(), fields.take(CLUSTER_BYTES_MAX));
        let (revision, salt) = (fields.u64(), fields.u64());
        let (Some(number), Some(cluster), Some(revision), Some(salt)) = (number, cluster, revision, salt)
        else {
            return Err(corrupt("its header is cut short"));
        };
        if number != kind.number() {
            return Err(foreign("it is another kind of file than its name says".to_owned()));
        }
        let end = cluster.iter().position(|b| *b == 0).unwrap_or(cluster.len());
        let cluster = String::from_utf8(cluster[..end].to_vec())
            .map_err(|_| corrupt("the name of its cluster is not UTF-8"))?;
        Ok(Header { kind, cluster, revision: Revision(revision), salt })
    }

    /// Refuses a file of another cluster.
    pub(crate) fn check_cluster(&self, path: &Path, cluster: &str) -> Result<(), Error> {
        if self.cluster == cluster {
            return Ok(());
        }
        let what = format!("it belongs to cluster `{}`, not `{cluster}`", self.cluster);
        Err(Error::Foreign { path: path.to_owned(), what })
    }
}

impl FileKind {
    fn number(self) -> u32 {
        match self {
            FileKind::Log => 1,
            FileKind::Checkpoint => 2,
        }
    }
}

/// Takes little-endian fields off the front of bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes)
    }
}

/// A number that nobody outside of this process can guess.
pub(crate) fn random_salt() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
