//! The other side of a link: a process that has run `exec`, where the transport reaches one; a forked child, or a thread, for the rings
//! that do not leave their process. All of them play the same roles.

use shmcast::baseline::{End, Reach};

use crate::roles::play;
use crate::support::Child;
pub(crate) use crate::support::peer::{Line, Peer};

pub(crate) fn start(role: &'static str, end: End, reach: Reach) -> Peer {
    match reach {
        Reach::Threads => Peer::thread(move |line| play(role, end, line)),
        Reach::Forks => Peer::fork(|line| play(role, end, line)),
        _ => Peer::Process(Child::start_prepared("peer", |command| {
            vec![role.to_owned(), end.pass_to(command).expect("an end that can be passed on")]
        })),
    }
}
