//! Calls of the writer: each is planned first, and the answer held against the plan.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use shmcast::layout::{MAX_POSITION, RECORD_HEADER_BYTES};
use shmcast::{PublishError, PublishTimeoutError, TryPublishError};

use super::script::{Fill, Len, Publish};
use super::{Model, Published};
use crate::pattern;

/// What the next record of some length needs.
struct Plan {
    len: usize,
    pad: u64,
    /// There is room whatever the readers keep.
    certain: bool,
    /// There is none whatever they have given back.
    impossible: bool,
}

impl Model {
    fn plan(&mut self, len: usize) -> Plan {
        for at in &mut self.readers {
            at.told = false;
        }
        if len > self.max() || self.closed {
            return Plan { len, pad: 0, certain: false, impossible: false };
        }
        let (size, room) = (self.record_size(len), self.room_to_end());
        let pad = if size > room { room } else { 0 };
        let end = self.position + pad + size + RECORD_HEADER_BYTES;
        self.announced = self.announced.max((end + self.block).min(self.position + self.capacity));
        let lossless = || self.readers.iter().filter(|at| at.lossless);
        let fits = |cursor: u64| end <= cursor + self.capacity;
        let certain = lossless().all(|at| fits(at.cursor));
        let impossible = !lossless().all(|at| fits(at.reader.position()));
        Plan { len, pad, certain, impossible }
    }

    /// Is this answer to an attempt right? True if there is room now.
    fn reserved(&mut self, plan: &Plan, error: Option<TryPublishError>) -> bool {
        let max = self.max();
        match error {
            _ if self.closed => assert_eq!(error, Some(TryPublishError::Closed)),
            _ if plan.len > max => assert_eq!(error, Some(TryPublishError::TooLarge { len: plan.len, max })),
            Some(TryPublishError::Exhausted) => assert!(self.position > MAX_POSITION),
            Some(TryPublishError::Full) => assert!(!plan.certain, "full, but no lossless reader holds the writer"),
            Some(error) => panic!("{error}"),
            None => {
                assert!(!plan.impossible, "unread records would be overwritten");
                assert!(self.position <= MAX_POSITION + self.capacity);
                self.position += plan.pad;
                return true;
            }
        }
        false
    }

    fn committed(&mut self, payload: Vec<u8>) {
        let (from, position) = (self.end, self.position);
        self.position += self.record_size(payload.len());
        self.end = self.position;
        self.records.push(Published { from, position, payload });
    }

    pub(super) fn publish(&mut self, len: &Len, how: &Publish) {
        let len = self.real_len(len);
        let Some(mut writer) = self.writer.take() else { return };
        let plan = self.plan(len);
        let payload = pattern::payload(self.published(), len);
        let answer = match how {
            Publish::Wait if plan.certain || self.closed => writer.publish(&payload).map_err(|error| match error {
                PublishError::TooLarge { len, max } => TryPublishError::TooLarge { len, max },
                PublishError::Exhausted => TryPublishError::Exhausted,
                PublishError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            }),
            Publish::Timeout => writer.publish_timeout(&payload, Duration::ZERO).map_err(|error| match error {
                PublishTimeoutError::Timeout => TryPublishError::Full,
                PublishTimeoutError::TooLarge { len, max } => TryPublishError::TooLarge { len, max },
                PublishTimeoutError::Exhausted => TryPublishError::Exhausted,
                PublishTimeoutError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            }),
            Publish::Try | Publish::Wait => writer.try_publish(&payload),
        };
        if self.reserved(&plan, answer.err()) {
            assert_eq!(answer, Ok(self.published()));
            self.committed(payload);
        }
        self.writer = Some(writer);
    }

    pub(super) fn claim(&mut self, len: &Len, wait: bool, fills: &[Fill], commit: bool) {
        let len = self.len(len);
        let Some(mut writer) = self.writer.take() else { return };
        let plan = self.plan(len);
        let claimed = if wait {
            writer.claim_timeout(len, Duration::ZERO).map_err(|error| match error {
                PublishTimeoutError::Timeout => TryPublishError::Full,
                PublishTimeoutError::TooLarge { len, max } => TryPublishError::TooLarge { len, max },
                PublishTimeoutError::Exhausted => TryPublishError::Exhausted,
                PublishTimeoutError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            })
        } else {
            writer.try_claim(len)
        };
        if !self.reserved(&plan, claimed.as_ref().err().copied()) {
            drop(claimed);
            self.writer = Some(writer);
            return;
        }
        let mut claim = claimed.unwrap_or_else(|error| panic!("{error}"));
        let lossy = self.readers.iter().any(|at| !at.lossless);
        let (mut record, mut written) = (vec![0; len], 0);
        for (step, fill) in fills.iter().take(24).enumerate() {
            let bytes = pattern::payload(self.published() ^ (step as u64) << 8, record.len().max(256));
            let room = record.len() - written;
            match *fill {
                Fill::Write { len } => {
                    let count = usize::from(len).min(room);
                    assert_eq!(claim.write(&bytes[..usize::from(len)]).ok(), Some(count));
                    record[written..written + count].copy_from_slice(&bytes[..count]);
                    written += count;
                }
                Fill::Value { value } => match claim.write_value(&value) {
                    Ok(()) => {
                        record[written..written + 4].copy_from_slice(&value.to_ne_bytes());
                        written += 4;
                    }
                    Err(error) => assert!(error.kind() == ErrorKind::WriteZero && room < 4),
                },
                Fill::Slice if !lossy => {
                    written = record.len();
                    record.copy_from_slice(&bytes[..written]);
                    // SAFETY: there is no lossy reader, and no other thread that could make one.
                    unsafe { claim.as_mut_slice() }.copy_from_slice(&record);
                }
                Fill::All | Fill::Slice => {
                    written = record.len();
                    record.copy_from_slice(&bytes[..written]);
                    claim.copy_from_slice(&record);
                }
                Fill::Truncate { len } => {
                    let len = usize::from(len) % (self.max() + 10);
                    claim.truncate(len);
                    record.truncate(len);
                    written = written.min(len);
                }
            }
            assert_eq!((claim.len(), claim.written(), claim.is_empty()), (record.len(), written, record.is_empty()));
        }
        if commit {
            assert_eq!(claim.commit(), self.published());
            self.committed(record);
        } else {
            drop(claim);
        }
        self.writer = Some(writer);
    }

    pub(super) fn batch(&mut self, count: u8, len: &Len, shorter: u8, wait: bool) {
        let Some(mut writer) = self.writer.take() else { return };
        let (count, len) = (usize::from(count % 20), self.real_len(len));
        let lens = (0..count).map(|index| len.saturating_sub(index * usize::from(shorter)));
        let first = self.published();
        let records: Vec<_> = (first..).zip(lens).map(|(number, len)| pattern::payload(number, len)).collect();
        let answer = if wait && !self.readers.iter().any(|at| at.lossless) {
            writer.publish_batch(&records).map_err(|error| match error {
                PublishError::TooLarge { len, max } => TryPublishError::TooLarge { len, max },
                PublishError::Exhausted => TryPublishError::Exhausted,
                PublishError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            })
        } else {
            writer.try_publish_batch(&records)
        };
        let published = (writer.sequence() - first) as usize;
        for (index, record) in records.into_iter().enumerate().take(published + 1) {
            let plan = self.plan(record.len());
            if index < published {
                assert!(self.reserved(&plan, None));
                self.committed(record);
            } else {
                assert!(!self.reserved(&plan, Some(answer.err().unwrap_or(TryPublishError::Full))));
            }
        }
        match answer {
            Ok(answer) => assert_eq!(answer, published),
            Err(error) => assert!(published < count && error != TryPublishError::Full),
        }
        self.writer = Some(writer);
    }
}
