//! The same bytes as two files, opened as anybody opens them.

use shmcast::{OpenError, Options, TryRecvError};

use super::Bench;
use super::script::{Script, Step};

impl Bench {
    pub(super) fn files(&self, script: &Script, ring_cut: u16, registry_cut: u16) {
        // Of this input alone, and gone with it: a fuzzer may end without destructors.
        let directory =
            tempfile::Builder::new().prefix("shmcast-fuzz-").tempdir_in("/tmp").expect("a directory in /tmp");
        let path = directory.path().join("ring");
        let cut = |mut bytes: Vec<u8>, cut: u16| {
            // Mostly whole.
            if cut % 4 == 1 {
                bytes.truncate(bytes.len().saturating_sub(usize::from(cut / 4)));
            } else if cut % 4 == 2 {
                bytes.resize(bytes.len() + usize::from(cut / 4), cut as u8);
            }
            bytes
        };
        std::fs::write(&path, cut(self.ring.bytes(), ring_cut)).expect("a file in /tmp");
        std::fs::write(path.with_extension("registry"), cut(self.registry.bytes(), registry_cut)).expect("a file");
        for step in script.steps.iter().take(8) {
            let Step::Join { lossless, start, resume, .. } = step else { continue };
            let options = Options::new().lossy(!lossless).start(start.start()).resume(resume.start());
            match options.open_file(&path) {
                Ok(reader) => drain(reader),
                Err(error) => check_open_error(&error),
            }
        }
        match Options::new().lossy(true).open_file(&path) {
            Ok(reader) => drain(reader),
            Err(error) => check_open_error(&error),
        }
    }
}

fn drain(mut reader: shmcast::Reader) {
    let max = reader.max_payload();
    let _ = reader.lag();
    for _ in 0..600 {
        match reader.try_recv() {
            Ok(record) => assert!(record.payload.len() <= max),
            Err(TryRecvError::Lagged(lost)) => assert!(lost > 0),
            Err(TryRecvError::WriterDied | TryRecvError::Empty | TryRecvError::Closed) => break,
            Err(TryRecvError::Evicted { .. }) => assert!(!reader.is_lossless()),
            Err(end @ TryRecvError::Corrupt { .. }) => {
                assert_eq!(reader.try_recv(), Err(end), "an end is final");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn check_open_error(error: &OpenError) {
    match error {
        OpenError::Format { .. }
        | OpenError::NoFreeSlot { .. }
        | OpenError::SequenceGone { .. }
        | OpenError::SequenceNotYet { .. }
        | OpenError::Busy
        | OpenError::Corrupt { .. } => assert!(error.to_string().len() > 20),
        OpenError::WrongType { expected, found, .. } => assert_ne!(expected, found, "it names the difference"),
        error => panic!("{error}"),
    }
}
