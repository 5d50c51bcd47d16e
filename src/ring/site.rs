//! Every shared access of the protocol, by name.
//!
//! A [`Site`] is passed with each access to [`Memory`](crate::memory::Memory). The real memory ignores it
//! (it is a constant argument of an inlined function); the models use it to weaken, drop, delay or redirect
//! exactly one access and to show that some model then fails. The pairs that these sites form are tabled in
//! [`ring`](crate::ring).

macro_rules! sites {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The name of one shared access (or fence, barrier, sleep) of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Site {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Site {
            /// All sites, in the order of the source.
            pub const ALL: &[Site] = &[$(Site::$name),+];
        }
    };
}

sites! {
    // The writer's fast path.
    /// Store of 0 into data index 0 before a pad is committed.
    WrapZero,
    /// Store of a pad's header.
    PadCommit,
    /// Store of 0 into the header word after the record that is about to be committed.
    ZeroAhead,
    /// Store of a record's header: the commit.
    Commit,
    /// Store of the header of a record that stands behind an uncommitted first record of a batch.
    StagedHeader,
    /// The writer's side of the sleeping barrier.
    NotifyBarrier,
    /// The writer looks whether a reader sleeps.
    SleepingLook,

    // Cells: head cells and checkpoints, in seqlock form.
    /// Store of the "being written" mark.
    CellOpen,
    /// Fence between the mark and the new content.
    CellFence,
    /// Store of the sequence number.
    CellSequence,
    /// Store of the position, which makes the cell whole again.
    CellPosition,
    /// First load of the position.
    CellFirstLook,
    /// Load of the sequence number.
    CellSequenceLook,
    /// Fence between the content and the second look.
    CellLookFence,
    /// Second load of the position.
    CellSecondLook,

    // The writer's slow path.
    /// Store of `announced`.
    Announce,
    /// Fence between announcing and scanning.
    AnnounceFence,
    /// Load of the slots' high-water mark.
    HighWaterLook,
    /// Load of a slot's state by the writer.
    SlotStateLook,
    /// Load of a slot's cursor by the writer.
    SlotCursorLook,
    /// Store of `limit`.
    Limit,
    /// Fence between `limit` and the first byte that it lets the writer overwrite.
    LimitFence,

    // The writer sleeps for room.
    /// Load of the room word before the writer says that it sleeps.
    RoomSeen,
    /// Store of the flag "the writer sleeps".
    WriterSleepingSet,
    /// The writer's barrier between the flag and its second look.
    RoomBarrier,
    /// The writer sleeps on the room word.
    RoomWait,
    /// The writer takes what tokens its semaphore has left, before it says that it sleeps.
    WriterDrain,
    /// The writer sleeps on its semaphore.
    WriterTake,

    // The writer wakes and closes.
    /// The writer clears the flag "a reader sleeps".
    SleepingClear,
    /// Store of the next value of the wake word.
    WakeBump,
    /// The writer wakes all readers.
    WakeReaders,
    /// Fence between the new value of the wake word and the looks at the slots' own flags.
    PostFence,
    /// The writer looks whether the owner of a slot sleeps on its semaphore.
    SlotSleepingLook,
    /// The writer clears the flag of a slot.
    SlotSleepingClear,
    /// The writer posts the semaphore of a slot.
    PostReader,
    /// Store of `closed`.
    Close,
    /// Store of the barrier mode.
    ModeStore,

    // A reader receives.
    /// Load of a header at the reader's position.
    Header,
    /// Load of the next header when a record is released.
    Peek,
    /// Fence between everything read at a position and the load of `limit`.
    ReadFence,
    /// Load of `limit`, which says whether what was read is void.
    LimitLook,
    /// Load of `closed` by a reader that found nothing.
    ClosedLook,
    /// Load of the header again, after `closed` was seen.
    HeaderAfterClosed,

    // A lossless reader gives room back.
    /// Store of the cursor.
    Cursor,
    /// The reader's side of the room barrier.
    CursorBarrier,
    /// The reader looks whether the writer sleeps.
    WriterSleepingLook,
    /// The reader clears the flag "the writer sleeps".
    WriterSleepingClear,
    /// The reader bumps the room word.
    RoomBump,
    /// The reader wakes the writer.
    WakeWriter,
    /// The reader posts the writer's semaphore.
    PostWriter,

    // A reader sleeps for records.
    /// Load of the wake word before the reader says that it sleeps.
    WakeSeen,
    /// Store of the flag "a reader sleeps".
    SleepingSet,
    /// Load of the barrier mode.
    ModeLook,
    /// The reader's barrier between the flag and its second look.
    SleepBarrier,
    /// Load of `closed` in the second look.
    SleepClosedLook,
    /// Load of the header in the second look.
    SleepHeaderLook,
    /// Load of `limit` in the second look.
    SleepLimitLook,
    /// The reader sleeps on the wake word.
    SleepWait,
    /// The reader takes what tokens its semaphore has left, before it says that it sleeps.
    ReaderDrain,
    /// Store of the flag of the reader's slot.
    SlotSleepingSet,
    /// Load of the wake word in the second look, for a reader that sleeps on a semaphore.
    WakeLook,
    /// The reader sleeps on its semaphore.
    ReaderTake,

    // A reader joins and leaves.
    /// Compare-exchange of a slot from FREE to JOINING.
    SlotClaim,
    /// Raise of the slots' high-water mark.
    HighWaterRaise,
    /// Store of the cursor by a joining reader.
    JoinCursor,
    /// Store of the state LOSSLESS or PRESENT.
    JoinState,
    /// Fence between the slot and the load of `announced`.
    JoinFence,
    /// Load of `announced` by a joining reader.
    JoinAnnouncedLook,
    /// Store of the state FREE.
    LeaveState,
    /// Compare-exchange of a dead owner's slot to FREE.
    SlotReap,
    /// The writer says whether it wants to hear of readers that leave.
    RollCallSet,
    /// A reader that leaves looks whether the writer wants to hear of it; the writer looks whether one has left.
    RollCallLook,
    /// A reader that leaves says so.
    RollCallTell,

    // A successor takes the ring over.
    /// Load of `limit` and `announced` by a successor.
    RecoverLimit,
    /// Load of a header on the chain that a successor follows.
    RecoverHeader,
    /// Load of the wake word's last value.
    RecoverWake,
    /// Fence between the `limit` that the predecessor left and the first byte that it lets the successor overwrite.
    RecoverFence,
    /// Store of 0 into `closed`.
    Reopen,
    /// Load of the epoch.
    EpochLook,
    /// Store of the next epoch.
    EpochStore,
}
