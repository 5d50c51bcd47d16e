//! Anonymous pipes: made before the fork, inherited by the child.
//!
//! * A write of up to [`PIPE_BUF`] bytes is never mixed with other writers' bytes, and never split: with `O_NONBLOCK` it is written whole
//!   or answers `EAGAIN`. A longer one can be mixed and split, which is why one sender frames its records.
//! * The pipe holds 64 KiB unless [`set_capacity`] says otherwise.
//! * The end comes when the *last* descriptor of the other side is closed: `read` answers 0, `write` answers `EPIPE`. So each process
//!   closes the ends that it does not use.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::each::Each;
use super::error::During;
use super::link::Plug;
use super::stream::{StreamReceiver, StreamSender, Wire};
use super::{Patience, Place, Plugs, Receiver, Rules, Sender, SetupError, Transport};

/// Bytes that a write keeps together: 4096 on Linux.
pub const PIPE_BUF: usize = nix::libc::PIPE_BUF;

/// Changes what a pipe holds; answers what it holds now: a power of two of pages, at least what was asked for.
///
/// # Errors
/// `EPERM`: more than `/proc/sys/fs/pipe-max-size`; `EBUSY`: less than what is in it.
pub fn set_capacity(pipe: impl AsFd, bytes: usize) -> Result<usize, Errno> {
    let bytes = i32::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes)).map(|size| size as usize)
}

/// What a pipe holds, in bytes.
///
/// # Errors
/// It is no pipe.
pub fn capacity(pipe: impl AsFd) -> Result<usize, Errno> {
    fcntl(pipe, FcntlArg::F_GETPIPE_SZ).map(|size| size as usize)
}

/// A pipe to each receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pipe {
    capacity: Option<usize>,
}

impl Pipe {
    /// Pipes of the system's capacity.
    #[must_use]
    pub fn new() -> Pipe {
        Pipe::default()
    }

    /// Pipes that hold that many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Pipe {
        Pipe { capacity: Some(bytes) }
    }
}

impl Transport for Pipe {
    fn name(&self) -> String {
        "pipe".to_owned()
    }

    fn rules(&self) -> Rules {
        Rules::stream()
    }

    fn make(&self, _: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (mut sender, mut plugs) = (Plug::default(), Vec::new());
        for _ in 0..receivers {
            let (reads, writes) = pipe2(OFlag::O_CLOEXEC).setup("make a pipe")?;
            if let Some(bytes) = self.capacity {
                set_capacity(&writes, bytes).setup("change what a pipe holds")?;
            }
            sender = sender.with([writes]);
            plugs.push(Plug::default().with([reads]));
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    fn sender(&self, plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let wire = |pipe| Wire::pipe(pipe).map(StreamSender::new);
        let ones: Result<_, Errno> = plug.descriptors.into_iter().map(wire).collect();
        Ok(Box::new(Each::new(ones.setup("use a pipe")?, &self.rules())))
    }

    fn receiver(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let wire = Wire::pipe(plug.descriptor()?).setup("use a pipe")?;
        Ok(Box::new(StreamReceiver::new(wire)))
    }
}
