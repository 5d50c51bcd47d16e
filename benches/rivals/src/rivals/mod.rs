//! The rivals, each as its own documentation says to use it: README.md has the reasons.

pub(crate) mod disruptor_mp;
pub(crate) mod iceoryx2;
pub(crate) mod ringfire;
pub(crate) mod shaq;
