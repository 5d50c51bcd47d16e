//! The keys by which System V segments are found.

use std::ffi::{CString, c_int};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, key_t};

use super::place::open_error;
use crate::error::OpenError;

/// The two keys of a ring in System V shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SysvKey {
    pub(super) ring: key_t,
    pub(super) registry: key_t,
}

impl fmt::Debug for SysvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SysvKey").field(&format_args!("{:#010x}", self.ring)).finish()
    }
}

impl SysvKey {
    /// The key of the ring segment; the registry has the next one, `key + 1`. Neither 0 nor -1, which all calls refuse.
    #[must_use]
    pub const fn new(key: i32) -> SysvKey {
        SysvKey { ring: key, registry: key.wrapping_add(1) }
    }

    /// The keys of a file that exists, and stays the same: `ftok(path, project)` for the ring, `ftok(path, project + 1)` for
    /// the registry. Two files can have the same keys (`ftok` takes 24 bits of each); then the second create is refused.
    /// `project` is from 1 to 254.
    ///
    /// # Errors
    /// [`OpenError`]: there is no such file, or it may not be looked at; or the project is 0 or 255.
    pub fn of_path(path: impl AsRef<Path>, project: u8) -> Result<SysvKey, OpenError> {
        let path = path.as_ref();
        if !(1..=254).contains(&project) {
            return Err(OpenError::InvalidName { name: project.to_string(), rule: "a project from 1 to 254" });
        }
        let failed = |errno| open_error(errno, path, "make a key of");
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::ENOENT))?;
        let key = |project: u8| {
            // SAFETY: `name` ends with a zero.
            Errno::result(unsafe { libc::ftok(name.as_ptr(), c_int::from(project)) }).map_err(failed)
        };
        Ok(SysvKey { ring: key(project)?, registry: key(project + 1)? })
    }

    /// The rule that a key breaks.
    pub(super) fn broken_rule(self) -> Option<&'static str> {
        // IPC_PRIVATE would make a new segment each time.
        (self.ring == libc::IPC_PRIVATE || self.registry == libc::IPC_PRIVATE).then_some("a key other than 0 and -1")
    }

    pub(super) fn name(self) -> String {
        format!("SysV key {:#010x}", self.ring)
    }
}
