//! The other side of a row: a process that has run `exec`, for the kinds that can be opened; a forked child, for
//! anonymous memory; a thread, for the heap. All of them play the same roles.

use crate::kind::{Kind, View};
use crate::support::Child;
pub(crate) use crate::support::peer::{Line, Peer};

pub(crate) type Play = fn(role: &str, view: &View, line: &mut Line);

pub(crate) fn start(role: &'static str, view: &View, play: Play) -> Peer {
    match view.kind {
        Kind::Heap => {
            let view = view.clone();
            Peer::thread(move |line| play(role, &view, line))
        }
        Kind::Anonymous => Peer::fork(|line| play(role, view, line)),
        kind => Peer::Process(Child::start("peer", &[role, &kind.name(), &view.address])),
    }
}
