//! FIFOs: pipes that have a name, for processes that are not related.
//!
//! Opening waits for the other end: a reader for a writer, a writer for a reader. With `O_NONBLOCK` a reader's open succeeds at
//! once, and a writer's answers `ENXIO` as long as there is no reader. The name is a file's, with a file's
//! permissions, and stays until it is unlinked; processes that have the FIFO open keep it.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::each::Each;
use super::error::During;
use super::link::Plug;
use super::rules::Reach;
use super::stream::{StreamReceiver, StreamSender, Wire};
use super::wait::Naps;
use super::{Patience, Place, Plugs, Receiver, Rules, Sender, SetupError, Transport};

/// A FIFO to each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fifo;

impl Transport for Fifo {
    fn name(&self) -> String {
        "fifo".to_owned()
    }

    fn rules(&self) -> Rules {
        Rules { reach: Reach::Names, outlives: true, ..Rules::stream() }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (mut sender, mut plugs) = (Plug::default(), Vec::new());
        for number in 0..receivers {
            let path = place.file(&format!("fifo-{number}"));
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).setup("make a FIFO")?;
            sender.words.push(path.to_string_lossy().into_owned());
            plugs.push(Plug::path(&path));
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    /// Waits until every receiver has opened its end.
    fn sender(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let open =
            |path: &String| Ok(StreamSender::new(Wire::pipe(open_to_write(path, patience)?).setup("use a FIFO")?));
        let ones: Result<_, SetupError> = plug.words.iter().map(open).collect();
        Ok(Box::new(Each::new(ones?, &self.rules())))
    }

    /// Waits until the sender has opened its end; if it may not wait for ever, not here, but for the first record.
    fn receiver(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let flags = if patience == Patience::Forever { 0 } else { libc::O_NONBLOCK };
        let file = OpenOptions::new().read(true).custom_flags(flags).open(plug.word(0)?).setup("open a FIFO")?;
        Ok(Box::new(StreamReceiver::new(Wire::pipe(OwnedFd::from(file)).setup("use a FIFO")?)))
    }
}

fn open_to_write(path: &str, patience: Patience) -> Result<OwnedFd, SetupError> {
    let mut naps = Naps::new(patience);
    let flags = if patience == Patience::Forever { 0 } else { libc::O_NONBLOCK };
    loop {
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                if !naps.nap() {
                    return Err(SetupError::Timeout { doing: "a reader of the FIFO" });
                }
            }
            opened => return opened.map(OwnedFd::from).setup("open a FIFO"),
        }
    }
}
