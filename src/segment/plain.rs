//! Shared memory without a ring in it, for the transports of `baseline`.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::sysv::Id;
use super::{mapping, pages};
use crate::memory::Mapped;

/// Maps a file that has at least `length` bytes.
pub(crate) fn file(file: impl AsFd, length: u64) -> io::Result<Mapped> {
    mapping::file(file, length, true).map(Mapped::new)
}

/// Makes a System V segment, with all its memory.
pub(crate) fn create_sysv(key: i32, length: u64) -> Result<Mapped, Errno> {
    let id = Id::make(key, length)?;
    let attach = || {
        let backing = id.attach(true)?;
        pages::populate(&backing)?;
        Ok(Mapped::new(backing))
    };
    attach().inspect_err(|_| id.remove())
}

/// Attaches the System V segment that has this key.
pub(crate) fn open_sysv(key: i32) -> Result<Mapped, Errno> {
    Ok(Mapped::new(Id::find(key)?.attach(true)?))
}
