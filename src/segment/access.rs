//! Who may use a ring: the modes and the group that its files get at create, and whose rings are opened.
//!
//! ```text
//!                    ring (read)      registry (read and write)   lease    directory of a named ring
//!   nobody else      0600             0600                        0600     0700
//!   followers        + r              -                           -        + x
//!   readers          + r              + rw                        -        + x         each for the group, or for everyone
//! ```
//! The umask changes nothing: the modes are set on the open files, when they are whole, and before anybody can find them.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, fchmod};
use nix::unistd::{Gid, fchown, getegid, geteuid};

use crate::error::{CreateError, OpenError};

/// For whom something is: [`Options::followers`](crate::Options::followers),
/// [`Options::readers`](crate::Options::readers). Each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// The user that creates the ring, and root, whom nothing stops.
    #[default]
    Owner,
    /// And the members of a group: [`Options::group`](crate::Options::group).
    Group,
    /// And everyone on this machine.
    Everyone,
}

impl Access {
    /// The permissions `one` (as for one class of users) for all whom it includes.
    fn spread(self, one: u32) -> u32 {
        match self {
            Access::Owner => 0,
            Access::Group => one << 3,
            Access::Everyone => one << 3 | one,
        }
    }
}

/// What a new ring permits to other users.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Permissions {
    pub(crate) followers: Access,
    pub(crate) readers: Access,
    /// The creator's own if none is named.
    pub(crate) group: Option<u32>,
}

impl Permissions {
    /// Who may read the ring: a reader can whatever a follower can.
    pub(super) fn follow(self) -> Access {
        self.followers.max(self.readers)
    }

    pub(super) fn is_shared(self) -> bool {
        self.follow() > Access::Owner
    }

    pub(super) fn ring(self) -> u32 {
        0o600 | self.follow().spread(0o4)
    }

    pub(super) fn registry(self) -> u32 {
        0o600 | self.readers.spread(0o6)
    }

    /// Of a named ring: to reach what is in it, not to list it.
    pub(super) fn directory(self) -> u32 {
        0o700 | self.follow().spread(0o1)
    }

    /// The group, where it matters.
    pub(super) fn group(self) -> Option<u32> {
        let matters = self.followers == Access::Group || self.readers == Access::Group;
        matters.then(|| self.group.unwrap_or(getegid().as_raw()))
    }

    /// Gives a new file its group and its mode. `path` is that of the ring, for people.
    pub(super) fn give(self, file: impl AsFd, mode: u32, path: &Path) -> Result<(), CreateError> {
        if let Some(group) = self.group() {
            fchown(&file, None, Some(Gid::from_raw(group))).map_err(|errno| match errno {
                Errno::EPERM => CreateError::Group { path: path.to_owned(), group, source: errno.into() },
                errno => super::place::create_error(errno, path, "set the group of"),
            })?;
        }
        let failed = |errno| super::place::create_error(errno, path, "set the mode of");
        fchmod(file, Mode::from_bits_truncate(mode)).map_err(failed)
    }
}

/// Whose rings are opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Whose {
    /// This user's, root's, and those of the owner of the directory that they are in, if that was chosen. Any other may have
    /// taken the name before the one that is meant.
    #[default]
    Expected,
    /// Those of this user and no other.
    Of(u32),
}

/// How a ring is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) whose: Whose,
    /// Without the registry, even if it could be had.
    pub(crate) follower: bool,
}

impl Whose {
    /// Is a ring of this user one of them? `directory` is the one that its name is in, if any.
    pub(super) fn check(self, owner: u32, directory: Option<&FileStat>, path: &Path) -> Result<(), OpenError> {
        let wanted = match self {
            Whose::Expected => None,
            Whose::Of(wanted) => Some(wanted),
        };
        let found_here = || directory.is_some_and(|directory| directory.st_uid == owner);
        match wanted {
            Some(wanted) if owner == wanted => Ok(()),
            None if is_trusted(owner) || found_here() => Ok(()),
            _ => Err(OpenError::ForeignOwner { path: path.to_owned(), owner, wanted }),
        }
    }
}

/// Has this user power over this process in any case?
fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// The rule that a ring directory breaks: nobody may exchange a ring in it but this user, root, and who owns the ring
/// anyway.
pub(super) fn broken_rule(directory: &FileStat, ring_owner: Option<u32>) -> Option<&'static str> {
    let owner = directory.st_uid;
    if !is_trusted(owner) && ring_owner != Some(owner) {
        Some("it belongs to a third user, who can exchange the rings in it; use one of root's")
    } else if directory.st_mode & 0o022 != 0 && directory.st_mode & 0o1000 == 0 {
        Some("others can exchange the rings in it; set its sticky bit (chmod +t), or let nobody else write it")
    } else {
        None
    }
}

/// Can those whom a ring is for reach it in a directory with this mode and group?
pub(super) fn lets_in(directory: &FileStat, permissions: Permissions) -> bool {
    let all = directory.st_mode & 0o001 != 0;
    match permissions.follow() {
        Access::Owner => true,
        Access::Group => all || directory.st_mode & 0o010 != 0 && permissions.group() == Some(directory.st_gid),
        Access::Everyone => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        use Access::{Everyone, Group, Owner};
        let table = [
            (Owner, Owner, 0o600, 0o600, 0o700),
            (Group, Owner, 0o640, 0o600, 0o710),
            (Everyone, Owner, 0o644, 0o600, 0o711),
            (Owner, Group, 0o640, 0o660, 0o710),
            (Group, Group, 0o640, 0o660, 0o710),
            (Everyone, Group, 0o644, 0o660, 0o711),
            (Owner, Everyone, 0o644, 0o666, 0o711),
        ];
        for (followers, readers, ring, registry, directory) in table {
            let permissions = Permissions { followers, readers, group: Some(7) };
            let modes = [permissions.ring(), permissions.registry(), permissions.directory()];
            assert_eq!(modes, [ring, registry, directory], "{permissions:?}");
            assert_eq!(permissions.group().is_some(), followers == Group || readers == Group);
            assert_eq!(permissions.is_shared(), ring != 0o600);
        }
    }
}
