//! Volumes of pods: emptyDir, configMap, secret, projected, downwardAPI, hostPath, image.
//!
//! What a volume shall hold is decided first, purely ([`render`]: a pod and the objects it refers to in, a tree of
//! files out), then written by one atomic swap of a symbolic link, so that a reader sees the old files or the new ones and
//! never a mixture. Everything of a pod is below one directory. Taking it down unmounts first and removes
//! afterwards, never crosses a mount and never follows a link, whatever a container left behind.
//!
//! Not here: persistent claims and CSI; a pod that wants one is told so. Nor how an image gets here (`image`).

pub mod downward;
mod error;
mod files;
mod host_path;
mod image;
mod objects;
mod read;
mod remove;
mod render;
mod sub_path;
mod volumes;

pub use error::Error;
pub use objects::{Lookup, Objects, Place, TokenKey, Tokens};
pub use read::read_file;
pub use remove::{remove_tree, unmount_below};
pub use render::{File, Tree, Wanted, render, token_keys, token_volume};
pub use volumes::{Made, Mounted, Volumes};
