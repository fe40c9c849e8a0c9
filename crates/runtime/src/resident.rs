//! What of the program stays mapped. Starting reads parsers, generators and tables that a process which then rests never runs
//! again; the kernel maps sixteen pages around each that is touched, and keeps them in the process's size until memory is short. It is here because no other crate may hold unsafe code.

use nix::libc;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// A mapping of this process: from, to, permissions, inode.
type Mapping = (usize, usize, String, u64);

/// Lets go of the program's own code. What is needed again is mapped again from the page cache, a fault for sixteen pages.
/// Returns how many bytes of address space were let go.
///
/// # Errors
///
/// If `/proc` is not there or the kernel refuses; nothing has changed then.
pub fn release_code() -> io::Result<usize> {
    let program = fs::metadata("/proc/self/exe")?.ino();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut released = 0;
    for (from, to, permissions, inode) in maps.lines().filter_map(read) {
        // Only what cannot have been written: relocated data would come back as it is in the file.
        if inode == program && permissions == "r-xp" {
            // SAFETY: a private mapping of a file without permission to write reads the same after its pages were dropped.
            let done = unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
            released += to - from;
        }
    }
    Ok(released)
}

fn read(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let permissions = words.next()?.to_owned();
    let inode = words.nth(2)?.parse().ok()?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?, permissions, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let line = "557c1b945000-557c1dd4c000 r-xp 00e7c000 fe:00 4711     /usr/bin/stoa";
        assert_eq!(read(line), Some((0x557c_1b94_5000, 0x557c_1dd4_c000, "r-xp".to_owned(), 4711)));
        for odd in ["", "x", "1-2", "1-2 r-xp 0 0", "zz-1 r-xp 0 0 1"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn code_that_was_let_go_still_runs() {
        assert!(release_code().unwrap() > 0);
        a_line_of_maps_is_read();
    }
}
