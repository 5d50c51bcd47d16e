//! Options for other users: who may use a new ring, and whose rings are opened.

use nix::unistd::{Group, User};

use super::{Options, Reader};
use crate::error::{CreateError, OpenError};
use crate::segment::access::{Access, Manner, Permissions, Whose};

/// A group, by its number or its name: `1000.into()`, `"audio".into()`. A name is looked up when the ring is created.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(Id);

/// A user, by number or name: `1000.into()`, `"alice".into()`. A name is looked up when the ring is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserId(Id);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    Number(u32),
    Name(String),
}

macro_rules! by_number_or_name {
    ($($id:ident)+) => { $(
        impl From<u32> for $id {
            fn from(number: u32) -> Self {
                $id(Id::Number(number))
            }
        }

        impl From<&str> for $id {
            fn from(name: &str) -> Self {
                $id(Id::Name(name.to_owned()))
            }
        }

        impl From<String> for $id {
            fn from(name: String) -> Self {
                $id(Id::Name(name))
            }
        }
    )+ };
}

by_number_or_name!(GroupId UserId);

/// What [`Options`] say of other users.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    followers: Access,
    readers: Access,
    group: Option<GroupId>,
    owner: Option<UserId>,
    pub(super) follower: bool,
}

impl Options {
    /// *Create.* Who may *follow* the ring: read it, and nothing else. A follower is a lossy reader that the writer does not
    /// know of: it cannot hold the writer up, nor make it leave a reader behind, nor wake it; it is not counted, and waits by
    /// polls and naps of a millisecond. [`Access::Owner`] by default: nobody else.
    ///
    /// Gives the ring's file mode 0640 (group) or 0644 (everyone), whatever the umask; see
    /// [trust](crate#what-others-can-do-at-worst) for what each of them can do at worst. The directory of a path is yours to
    /// open to them. A ring that is taken over keeps its modes. For rings with a name, a path or a key: without effect on
    /// others, where having the descriptor, or being a fork, decides.
    ///
    /// ```
    /// use shmcast::{Access, Options};
    /// let options = Options::new().followers(Access::Everyone).readers(Access::Group);
    /// let mut writer = options.create("docs-followers")?; // 0644, and 0660 for what readers write
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn followers(mut self, who: Access) -> Options {
        self.others.followers = who;
        self
    }

    /// *Create.* Who may be a full reader: lossless, or lossy, counted and woken. Whoever may, may follow, too.
    /// [`Access::Owner`] by default: nobody else.
    ///
    /// Gives the registry mode 0660 (group) or 0666 (everyone), and the ring the mode of [`followers`](Self::followers).
    /// Such readers can hold the writer up for as long as the [stall limit](Self::stall_limit) lets them, can make it leave other
    /// readers behind, and can end its process with SIGBUS by truncating the registry, which the system has no means
    /// to prevent but for System V segments and memfds; and nobody can [borrow](crate#trust) from such a ring.
    pub fn readers(mut self, who: Access) -> Options {
        self.others.readers = who;
        self
    }

    /// *Create.* The group that [`Access::Group`] means, by number or name; this process's own (the effective one) by default. Only
    /// root can give a ring to a group that this user is no member of.
    ///
    /// ```
    /// use shmcast::{Access, CreateError, Options};
    /// let options = Options::new().readers(Access::Group).group("no such group");
    /// assert!(matches!(options.create("docs-group"), Err(CreateError::UnknownGroup { .. })));
    /// ```
    pub fn group(mut self, group: impl Into<GroupId>) -> Options {
        self.others.group = Some(group.into());
        self
    }

    /// *Open.* Whose ring it must be, by number or name. By default one of this user's, of root's, or of the owner of the
    /// directory that you chose (by a path, or `SHMCAST_DIR`): any other, say in `/tmp`, may have taken the name before the one
    /// that is meant, and is [refused](OpenError::ForeignOwner) until it is named here. For rings with a name, a path or a
    /// key; of a descriptor its giver vouches.
    ///
    /// ```
    /// use shmcast::{OpenError, Options};
    /// let _writer = Options::new().create("docs-owner")?;
    /// assert!(matches!(Options::new().owner(61_234).open("docs-owner"), Err(OpenError::ForeignOwner { .. })));
    /// # Ok::<(), shmcast::CreateError>(())
    /// ```
    pub fn owner(mut self, user: impl Into<UserId>) -> Options {
        self.others.owner = Some(user.into());
        self
    }

    /// *Open.* Only follow: be lossy, and touch nothing that can be written, even if this user may. That is also what becomes of
    /// a [lossy](Self::lossy) reader that may not write the registry; this is for who wants it in any case. Off by default.
    pub fn follower(mut self, follower: bool) -> Options {
        self.others.follower = follower;
        self
    }

    pub(super) fn permissions(&self) -> Result<Permissions, CreateError> {
        let Others { followers, readers, group, .. } = &self.others;
        let group = match group {
            None => None,
            Some(GroupId(Id::Number(group))) => Some(*group),
            Some(GroupId(Id::Name(name))) => {
                let found = Group::from_name(name).ok().flatten();
                Some(found.ok_or_else(|| CreateError::UnknownGroup { name: name.clone() })?.gid.as_raw())
            }
        };
        Ok(Permissions { followers: *followers, readers: *readers, group })
    }

    pub(super) fn manner(&self) -> Result<Manner, OpenError> {
        let whose = match &self.others.owner {
            None => Whose::Expected,
            Some(UserId(Id::Number(user))) => Whose::Of(*user),
            Some(UserId(Id::Name(name))) => {
                let found = User::from_name(name).ok().flatten();
                Whose::Of(found.ok_or_else(|| OpenError::UnknownUser { name: name.clone() })?.uid.as_raw())
            }
        };
        Ok(Manner { whose, follower: self.others.follower })
    }
}

impl Reader {
    /// Does it only [follow](Options::followers) the ring: uncounted, and napping where others are woken? Never changes for one
    /// reader.
    #[must_use]
    pub fn is_follower(&self) -> bool {
        self.shared.only_followed() || self.options.others.follower
    }
}
