//! What pods may only ask for where the kernel is young enough: mounts that are read-only with all that is below them, and
//! users of their own. Found out once, so that a node says what it can before a pod fails for it.

use nix::libc;
use rustix::io::Errno;

/// The first kernel whose overlay file system takes layers through a view that translates owners.
const TRANSLATES_LAYERS: (u32, u32) = (5, 19);

/// What this machine's kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Mounts can be made read-only together with those below them.
    pub recursive_read_only_mounts: bool,
    /// Pods can have users that are not the machine's.
    pub user_namespaces: bool,
}

impl Features {
    /// Asks the kernel.
    pub fn find() -> Features {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Features::of(
            has_mount_setattr(),
            &read("/proc/sys/kernel/osrelease"),
            &read("/proc/sys/user/max_user_namespaces"),
        )
    }

    fn of(has_mount_setattr: bool, release: &str, user_namespaces_max: &str) -> Features {
        // Where there are none the file is missing, where they are forbidden it is zero.
        let has_namespaces = user_namespaces_max.trim().parse::<u64>().is_ok_and(|max| max > 0);
        let is_young = version(release).is_some_and(|v| v >= TRANSLATES_LAYERS);
        Features {
            recursive_read_only_mounts: has_mount_setattr,
            user_namespaces: has_mount_setattr && has_namespaces && is_young,
        }
    }
}

/// `5.19` of `5.19.0-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn has_mount_setattr() -> bool {
    // SAFETY: nothing is changed, as the size of no structure is zero; the path is a literal.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::null::<u8>(),
            0,
        )
    };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(Errno::NOSYS.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_what_its_calls_its_age_and_its_settings_say() {
        let of = |has_call: bool, release: &str, max: &str| {
            let found = Features::of(has_call, release, max);
            (found.recursive_read_only_mounts, found.user_namespaces)
        };
        assert_eq!(of(true, "6.1.0-13-amd64\n", "31337\n"), (true, true));
        assert_eq!(of(true, "5.19.0", "1"), (true, true));
        assert_eq!(of(true, "5.15.0-100-generic", "31337"), (true, false));
        assert_eq!(of(true, "6.1.0", "0\n"), (true, false));
        assert_eq!(of(true, "6.1.0", ""), (true, false));
        assert_eq!(of(true, "unknown", "31337"), (true, false));
        assert_eq!(of(false, "5.10.0", "31337"), (false, false));
        assert_eq!(version("10.2-rc1"), Some((10, 2)));
    }

    #[test]
    fn asking_changes_nothing_and_says_the_same_again() {
        assert_eq!(Features::find(), Features::find());
        // Whoever can make such a view has the call.
        if crate::helper::mount_view(std::path::Path::new("/"), true).is_ok() {
            assert!(Features::find().recursive_read_only_mounts);
        }
    }
}
