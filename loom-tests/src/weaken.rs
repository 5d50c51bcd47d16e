//! `Weaken`: does exactly one access of the protocol wrongly. A model that still passes proves nothing about that access.
//!
//! A mutation applies to all parties of a model. A party (the writer, a reader) has two handles, one per segment, that
//! share what the party has put off, so that an access to one segment can be moved behind an access to the other.

use std::fmt;
use std::sync::atomic::Ordering::{self, AcqRel, Relaxed, SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shmcast::memory::{Barrier, Mapped, Memory, Semaphore, Word};
use shmcast::ring::Site;

/// One of the two segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The ring segment.
    Ring,
    /// The registry segment.
    Registry,
}

/// What is done wrongly, and where.
#[derive(Clone, Copy, Debug)]
pub enum Mutation {
    /// One step weaker: an access becomes relaxed, a `fence(SeqCst)` or a barrier becomes `fence(AcqRel)`, any other fence
    /// is left out. A compare-exchange becomes two relaxed accesses (loom cannot tell where one thread claims at a time).
    Demote(Site),
    /// A fence or a barrier is left out.
    Drop(Site),
    /// A store, an addition, a raise or a wake is left out.
    Skip(Site),
    /// A store happens only after the party's next access at another site.
    Delay {
        /// The store.
        store: Site,
        /// The access that comes before it now.
        until: Site,
    },
    /// A store happens before the party's access at a site that comes before it in the program.
    Early {
        /// The store.
        store: Site,
        /// Its segment.
        segment: Segment,
        /// Its word.
        word: Word,
        /// Its value.
        value: u64,
        /// The access that comes after it now.
        before: Site,
    },
    /// A load answers a constant.
    Answer {
        /// The load.
        site: Site,
        /// What it answers.
        value: u64,
    },
    /// A load looks at another word of its segment.
    Redirect {
        /// The load.
        site: Site,
        /// The word that it loads instead.
        word: Word,
    },
    /// A store stores another value.
    Alter {
        /// The store.
        site: Site,
        /// The value that it stores instead.
        change: fn(u64) -> u64,
    },
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Mutation::Demote(site) => write!(f, "demote {site:?}"),
            Mutation::Drop(site) => write!(f, "drop {site:?}"),
            Mutation::Skip(site) => write!(f, "skip {site:?}"),
            Mutation::Delay { store, until } => write!(f, "{store:?} after {until:?}"),
            Mutation::Early { store, before, .. } => write!(f, "{store:?} before {before:?}"),
            Mutation::Answer { site, value } => write!(f, "{site:?} answers {value}"),
            Mutation::Redirect { site, .. } => write!(f, "{site:?} looks elsewhere"),
            Mutation::Alter { site, .. } => write!(f, "{site:?} stores too much"),
        }
    }
}

impl Mutation {
    /// The site that is done wrongly.
    #[must_use]
    pub fn site(&self) -> Site {
        match *self {
            Mutation::Demote(site)
            | Mutation::Drop(site)
            | Mutation::Skip(site)
            | Mutation::Delay { store: site, .. }
            | Mutation::Early { store: site, .. }
            | Mutation::Answer { site, .. }
            | Mutation::Redirect { site, .. }
            | Mutation::Alter { site, .. } => site,
        }
    }
}

// It wraps real memory, too, and may cross threads there.
const _: fn() = || {
    fn wraps<M: Memory + Send>() {}
    wraps::<Weaken<Mapped>>();
};

/// A store that was put off.
#[derive(Debug)]
struct Pending<M> {
    memory: M,
    at: Word,
    value: u64,
    order: Ordering,
    site: Site,
    until: Site,
}

/// One party's handle of one segment, with mutations. A clone belongs to the same party.
#[derive(Clone, Debug)]
pub struct Weaken<M> {
    inner: M,
    /// The party's other segment.
    other: M,
    segment: Segment,
    mutations: Arc<[Mutation]>,
    pending: Arc<Mutex<Vec<Pending<M>>>>,
}

impl<M: Memory + Clone> Weaken<M> {
    /// The two handles, ring and registry, of one new party.
    #[must_use]
    pub fn party(ring: &M, registry: &M, mutations: &Arc<[Mutation]>) -> (Weaken<M>, Weaken<M>) {
        let pending = Arc::new(Mutex::new(Vec::new()));
        let handle = |inner: &M, other: &M, segment| Weaken {
            inner: inner.clone(),
            other: other.clone(),
            segment,
            mutations: Arc::clone(mutations),
            pending: Arc::clone(&pending),
        };
        (handle(ring, registry, Segment::Ring), handle(registry, ring, Segment::Registry))
    }

    /// The order of an access at a site.
    fn order(&self, order: Ordering, site: Site) -> Ordering {
        let demoted = self.mutations.iter().any(|mutation| matches!(mutation, Mutation::Demote(at) if *at == site));
        if demoted { Relaxed } else { order }
    }

    /// What is to be done before an access at a site: the stores that come early.
    fn before(&self, site: Site) {
        for mutation in self.mutations.iter() {
            if let Mutation::Early { store, segment, word, value, before } = *mutation
                && before == site
            {
                let memory = if segment == self.segment { &self.inner } else { &self.other };
                memory.store(word, value, Relaxed, store);
            }
        }
    }

    /// What is to be done after an access at a site: the stores that were put off until then.
    fn after(&self, site: Site) {
        if self.mutations.is_empty() {
            return;
        }
        let due: Vec<Pending<M>> = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.extract_if(.., |store| store.until == site).collect()
        };
        for Pending { memory, at, value, order, site, .. } in due {
            memory.store(at, value, order, site);
        }
    }

    /// An access with what is to be done around it.
    fn around<T>(&self, site: Site, access: impl FnOnce() -> T) -> T {
        if self.mutations.is_empty() {
            return access();
        }
        self.before(site);
        let result = access();
        self.after(site);
        result
    }

    fn skips(&self, site: Site) -> bool {
        self.mutations.iter().any(|mutation| matches!(mutation, Mutation::Skip(at) if *at == site))
    }

    /// Whether a barrier at a site is left out or weakened; then it was done.
    fn weakened_barrier(&self, site: Site) -> bool {
        self.mutations.iter().any(|mutation| match *mutation {
            Mutation::Drop(at) => at == site,
            Mutation::Demote(at) if at == site => {
                self.inner.fence(AcqRel, site);
                true
            }
            _ => false,
        })
    }
}

impl<M: Memory + Clone> Memory for Weaken<M> {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        let mut word = at;
        for mutation in self.mutations.iter() {
            match *mutation {
                Mutation::Answer { site: here, value } if here == site => return self.around(site, || value),
                Mutation::Redirect { site: here, word: elsewhere } if here == site => word = elsewhere,
                _ => {}
            }
        }
        self.around(site, || self.inner.load(word, self.order(order, site), site))
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        let mut value = value;
        for mutation in self.mutations.iter() {
            match *mutation {
                Mutation::Skip(here) if here == site => return,
                // It was done early.
                Mutation::Early { store, .. } if store == site => return,
                Mutation::Delay { store, until } if store == site => {
                    let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                    pending.push(Pending { memory: self.inner.clone(), at, value, order, site, until });
                    return;
                }
                Mutation::Alter { site: here, change } if here == site => value = change(value),
                _ => {}
            }
        }
        self.around(site, || self.inner.store(at, value, self.order(order, site), site));
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        self.around(site, || {
            if self.order(SeqCst, site) != Relaxed {
                return self.inner.compare_exchange(at, current, new, site);
            }
            match self.inner.load(at, Relaxed, site) {
                found if found == current => {
                    self.inner.store(at, new, Relaxed, site);
                    Ok(found)
                }
                found => Err(found),
            }
        })
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        if self.skips(site) {
            return self.inner.load(at, Relaxed, site);
        }
        self.around(site, || self.inner.fetch_add(at, n, self.order(order, site), site))
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        if !self.skips(site) {
            self.around(site, || self.inner.fetch_max(at, value, self.order(order, site), site));
        }
    }

    fn fence(&self, order: Ordering, site: Site) {
        let weaker = self.mutations.iter().find_map(|mutation| match *mutation {
            Mutation::Drop(at) if at == site => Some(None),
            Mutation::Demote(at) if at == site => Some((order == SeqCst).then_some(AcqRel)),
            _ => None,
        });
        self.around(site, || match weaker {
            Some(None) => {}
            Some(Some(order)) => self.inner.fence(order, site),
            None => self.inner.fence(order, site),
        });
    }

    fn light_barrier(&self, mode: Barrier, site: Site) {
        self.around(site, || {
            if !self.weakened_barrier(site) {
                self.inner.light_barrier(mode, site);
            }
        });
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.around(site, || self.weakened_barrier(site) || self.inner.heavy_barrier(mode, site))
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        self.inner.copy_in(at, bytes);
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        self.inner.copy_out(at, bytes);
    }

    fn pause(&self) {
        self.inner.pause();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        self.around(site, || self.inner.wait(at, seen, slice, site));
    }

    fn wake(&self, at: Word, site: Site) {
        if !self.skips(site) {
            self.around(site, || self.inner.wake(at, site));
        }
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        self.around(site, || self.skips(site) || self.inner.drain(semaphore, most, site))
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        self.around(site, || self.inner.take(semaphore, slice, site));
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        if !self.skips(site) {
            self.around(site, || self.inner.post(semaphore, site));
        }
    }
}
