//! Who a container runs as: the names of an image's own /etc/passwd and /etc/group, read without following links out of
//! the image's layers.

use crate::Error;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of an account file that are looked at.
const ACCOUNTS_LEN_MAX: u64 = 1 << 20;

/// A user resolved to numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Groups that list the user.
    pub additional_gids: Vec<u32>,
    /// Home directory; `/` if unknown.
    pub home: String,
}

/// The text of a file of the image: that of the topmost layer which has it; empty if none has.
fn read_in_layers(layers: &[PathBuf], path: &str) -> String {
    for layer in layers {
        let Ok(root) =
            rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        let found = rustix::fs::openat2(
            &root,
            path,
            // Without NONBLOCK a hostile FIFO would hold us here.
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        match found {
            Ok(fd) => {
                let opened = File::from(fd);
                // A whiteout is a character device: the file was removed by this layer.
                if !opened.metadata().is_ok_and(|m| m.is_file()) {
                    return String::new();
                }
                let mut bytes = Vec::new();
                return match opened.take(ACCOUNTS_LEN_MAX).read_to_end(&mut bytes) {
                    Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
                    Err(_) => String::new(),
                };
            }
            Err(rustix::io::Errno::NXIO) => return String::new(),
            Err(_) => {}
        }
    }
    String::new()
}

/// Resolves `user`, `user:group` or numbers against the account files of `layers` (topmost first).
pub(crate) fn lookup(layers: &[impl AsRef<Path>], spec: &str) -> Result<ResolvedUser, Error> {
    let layers: Vec<PathBuf> = layers.iter().map(|l| l.as_ref().to_path_buf()).collect();
    resolve(&read_in_layers(&layers, "etc/passwd"), &read_in_layers(&layers, "etc/group"), spec)
}

fn resolve(passwd: &str, group: &str, spec: &str) -> Result<ResolvedUser, Error> {
    let (name, group_name) = match spec.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (spec, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let account = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.len() >= 6 && (f[0] == name || number.is_some_and(|n| f[2].parse() == Ok(n))));
    let mut user = ResolvedUser { home: "/".to_string(), ..Default::default() };
    let mut login = None;
    match (&account, number) {
        (Some(f), _) => {
            let bad = || Error::NoUser(name.to_string());
            user.uid = f[2].parse().map_err(|_| bad())?;
            user.gid = f[3].parse().map_err(|_| bad())?;
            user.home = if f[5].is_empty() { "/".to_string() } else { f[5].to_string() };
            login = Some(f[0]);
        }
        (None, Some(n)) => user.uid = n,
        (None, None) => return Err(Error::NoUser(name.to_string())),
    }
    let groups = || group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() >= 4);
    if let Some(g) = group_name.filter(|g| !g.is_empty()) {
        user.gid = match g.parse::<u32>() {
            Ok(n) => n,
            Err(_) => groups()
                .find(|f| f[0] == g)
                .and_then(|f| f[2].parse().ok())
                .ok_or_else(|| Error::NoGroup(g.to_string()))?,
        };
    }
    if let Some(login) = login {
        let listed = groups().filter(|f| f[3].split(',').any(|m| m.trim() == login));
        user.additional_gids = listed.filter_map(|f| f[2].parse().ok()).filter(|g| *g != user.gid).collect();
        user.additional_gids.sort_unstable();
        user.additional_gids.dedup();
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        let group = "root:x:0:\nadm:x:4:app\napp:x:1000:\nwww:x:33:app,root\n";
        let of = |s: &str| resolve(passwd, group, s).map(|u| (u.uid, u.gid, u.additional_gids, u.home));
        let home = |h: &str| h.to_string();
        assert_eq!(of("").unwrap(), (0, 0, vec![33], home("/root")));
        assert_eq!(of("app").unwrap(), (1000, 1000, vec![4, 33], home("/home/app")));
        assert_eq!(of("1000").unwrap(), (1000, 1000, vec![4, 33], home("/home/app")));
        assert_eq!(of("app:www").unwrap(), (1000, 33, vec![4], home("/home/app")));
        assert_eq!(of("7:9").unwrap(), (7, 9, vec![], home("/")));
        let why = |s: &str| of(s).unwrap_err().to_string();
        assert_eq!(why("ghost:app"), "unable to find user ghost: no matching entries in passwd file");
        assert_eq!(why("app:ghost"), "unable to find group ghost: no matching entries in group file");
    }
}
