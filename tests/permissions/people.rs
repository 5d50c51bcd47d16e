//! Who is who: users and groups that need no entry in any file, and how a child process becomes one of them.

use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use crate::support;

/// The group that rings are shared with.
pub(crate) const TEAM: u32 = 61_010;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    /// Creates the rings; in the team.
    Owner,
    /// In the team, by a supplementary group.
    Member,
    /// Nobody, and in no group of anybody's.
    Other,
    Root,
}

impl Person {
    pub(crate) const ALL: [Person; 4] = [Person::Owner, Person::Member, Person::Other, Person::Root];

    pub(crate) fn of(name: &str) -> Person {
        Person::ALL.into_iter().find(|person| format!("{person:?}") == name).expect("a person")
    }

    pub(crate) fn uid(self) -> u32 {
        match self {
            Person::Owner => 61_001,
            Person::Member => 61_002,
            Person::Other => 65_534,
            Person::Root => 0,
        }
    }

    fn groups(self) -> &'static [u32] {
        match self {
            Person::Owner | Person::Member => &[TEAM],
            Person::Other | Person::Root => &[],
        }
    }

    /// This process is that person from now on, and cannot go back. Only in a child, before it has threads to speak of.
    pub(crate) fn act(self) {
        let (uid, gid) = (Uid::from_raw(self.uid()), Gid::from_raw(self.uid()));
        let groups: Vec<Gid> = self.groups().iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).expect("root may");
        setresgid(gid, gid, gid).expect("root may");
        setresuid(uid, uid, uid).expect("root may");
        assert_eq!(geteuid(), uid);
        // Forgotten with the old user: a parent that is killed takes its children with it.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).expect("a signal");
    }
}

/// Can this process be other people? Says SKIPPED if it cannot.
pub(crate) fn can_be_others() -> bool {
    let can = geteuid().is_root();
    if !can {
        support::skipped("only root can become other users");
    }
    can
}
