//! A blob into a file, however often the connection breaks: what is there already, from this pull or an earlier one, is
//! hashed and not fetched again. The whole must have the digest and the length that the manifest says.

use super::client::Session;
use super::error::PullError;
use super::http::next_piece;
use crate::error::file;
use crate::{Digest, Error};
use http::StatusCode;
use http::header::CONTENT_RANGE;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// Attempts in a row that may fetch nothing.
const FRUITLESS_MAX: u32 = 4;
/// Wait before another attempt; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(250);

struct Partial {
    file: tokio::fs::File,
    have: u64,
    hash: Sha256,
}

impl Partial {
    /// Opens the file for this process alone and hashes what an earlier attempt left in it.
    async fn open(path: &Path, size: u64) -> Result<Partial, PullError> {
        let path = path.to_path_buf();
        let open = move || {
            let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut opened = opened.map_err(file("write", &path))?;
            // Another process that fetches the same blob is waited for; the descriptor's end gives the lock back.
            rustix::fs::flock(&opened, rustix::fs::FlockOperation::LockExclusive)
                .map_err(|e| file("lock", &path)(e.into()))?;
            let mut hash = Sha256::new();
            let mut have = opened.metadata().map_err(file("read", &path))?.len();
            if have > size {
                opened.set_len(0).map_err(file("write", &path))?;
                have = 0;
            }
            let mut left = have;
            let mut chunk = vec![0; 256 * 1024];
            while left > 0 {
                let n = opened.read(&mut chunk).map_err(file("read", &path))?;
                if n == 0 {
                    break;
                }
                hash.update(&chunk[..n]);
                left = left.saturating_sub(n as u64);
            }
            Ok::<_, Error>((opened, have, hash))
        };
        let done = tokio::task::spawn_blocking(open).await.map_err(|e| PullError::Hostile(e.to_string()))?;
        let (opened, have, hash) = done?;
        Ok(Partial { file: tokio::fs::File::from_std(opened), have, hash })
    }

    async fn restart(&mut self, path: &Path) -> Result<(), PullError> {
        self.file.set_len(0).await.map_err(file("write", path))?;
        self.file.rewind().await.map_err(file("write", path))?;
        (self.have, self.hash) = (0, Sha256::new());
        Ok(())
    }
}

/// Fetches a blob of `size` bytes into `path`.
pub(crate) async fn fetch(
    session: &Session<'_>,
    digest: &Digest,
    size: u64,
    path: &Path,
) -> Result<(), PullError> {
    let mut partial = Partial::open(path, size).await?;
    let mut fruitless = 0;
    while partial.have < size {
        let before = partial.have;
        let Err(error) = continue_at(session, digest, size, path, &mut partial).await else { break };
        if !error.is_passing() {
            partial.file.flush().await.map_err(file("write", path))?;
            return Err(error);
        }
        fruitless = if partial.have > before { 0 } else { fruitless + 1 };
        if fruitless >= FRUITLESS_MAX {
            partial.file.flush().await.map_err(file("write", path))?;
            return Err(error);
        }
        tracing::debug!(%digest, have = partial.have, size, %error, "a layer is resumed");
        tokio::time::sleep(RETRY_FIRST * 2_u32.pow(fruitless)).await;
    }
    partial.file.flush().await.map_err(file("write", path))?;
    let found = Digest::from_hash(partial.hash);
    if partial.have == size && found == *digest {
        return Ok(());
    }
    // Whatever this is, it is of no use to a later attempt.
    let _ = std::fs::remove_file(path);
    Err(PullError::Digest { what: "layer", wanted: digest.clone(), found })
}

async fn continue_at(
    session: &Session<'_>,
    digest: &Digest,
    size: u64,
    path: &Path,
    partial: &mut Partial,
) -> Result<(), PullError> {
    let (response, url) = session.open_blob(digest, partial.have).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range =
                response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let start = range.strip_prefix("bytes ").and_then(|r| r.split('-').next()?.parse::<u64>().ok());
            if start != Some(partial.have) {
                return Err(PullError::Hostile(format!("{url} answered another range than was asked for")));
            }
        }
        StatusCode::OK if partial.have > 0 => partial.restart(path).await?,
        StatusCode::OK => {}
        _ => {
            // The range does not exist: what is here is no beginning of that blob.
            partial.restart(path).await?;
            return Err(PullError::Request { method: "Get", url, why: "the range was refused".into() });
        }
    }
    let mut body = response.into_body();
    while let Some(piece) = next_piece(&mut body, &url).await? {
        if partial.have + piece.len() as u64 > size {
            return Err(PullError::Hostile(format!(
                "{url} sends more than the {size} bytes of its manifest"
            )));
        }
        partial.file.write_all(&piece).await.map_err(file("write", path))?;
        partial.hash.update(&piece);
        partial.have += piece.len() as u64;
    }
    if partial.have < size {
        return Err(PullError::Request { method: "Get", url, why: "unexpected EOF".into() });
    }
    Ok(())
}
