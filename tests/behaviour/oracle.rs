//! Random scripts against a plain queue.

use super::*;

// ---- everything at once, against an oracle ----

/// What a reader must see: every record from its start on, in order, or the exact number that it missed.
struct Expected {
    reader: Reader,
    /// The number of the next record that it must get.
    next: u64,
    received: u64,
    lost: u64,
}

impl Expected {
    /// One receive, by one of the three ways, judged by the list of all that was published.
    fn receive(&mut self, oracle: &VecDeque<Vec<u8>>, writer: &Writer, way: u64) {
        let position = self.reader.position();
        let got = match way {
            0 if self.reader.can_borrow() => self
                .reader
                .try_recv_ref()
                .map(|record| Record { sequence: record.sequence(), payload: record.to_vec() }),
            1 => {
                let mut buffer = [0; MAX];
                self.reader
                    .try_recv_into(&mut buffer)
                    .map(|received| Record { sequence: received.sequence, payload: buffer[..received.len].to_vec() })
            }
            _ => self.reader.try_recv(),
        };
        match got {
            Ok(record) => {
                assert_eq!(record.sequence, self.next, "I1, I2: in order, no gap, none twice");
                assert_eq!(Some(&record.payload), oracle.get(self.next as usize), "I1: byte for byte");
                (self.next, self.received) = (self.next + 1, self.received + 1);
            }
            Err(TryRecvError::Lagged(lost)) => {
                assert!(!self.reader.is_lossless(), "I2");
                assert!(lost > 0 && self.next + lost <= oracle.len() as u64, "I3: {lost} is too many");
                // The limit runs ahead of the writer by a block, a pad and two records at most.
                let reach = writer.position() + CAPACITY / 16 + 2 * 320 + 8;
                assert!(reach > position + CAPACITY, "I3: a loss without need");
                (self.next, self.lost) = (self.next + lost, self.lost + lost);
            }
            Err(error) => {
                assert_eq!(error, TryRecvError::Empty);
                assert_eq!(self.next, oracle.len() as u64, "nothing is held from it");
            }
        }
        assert_eq!(self.reader.sequence(), self.next);
        assert_eq!(self.reader.lag(), oracle.len() as u64 - self.next);
    }
}

fn random_script(seed: u64) -> (u64, u64, u64) {
    let mut random = Random(seed);
    let alignment = [8, 8, 64][random.below(3) as usize];
    let start = [0, (1 << 32) - 4096, 1 << 62][random.below(3) as usize] + random.below(64) * 64;
    let options =
        smallest().record_alignment(alignment).start_position(start).blocks([2, 16, 64][random.below(3) as usize]);
    let (mut writer, door) = heap(&options.blocks(16));
    let join = |lossy, resume, oracle: &VecDeque<Vec<u8>>, start| {
        let reader = door.reader(&Options::new().lossy(lossy).resume(resume).start(start));
        let next = reader.sequence();
        assert!(next <= oracle.len() as u64);
        Expected { reader, next, received: 0, lost: 0 }
    };
    let mut oracle = VecDeque::new();
    let mut readers = [
        join(false, Start::Middle, &oracle, Start::Oldest),
        join(true, Start::Middle, &oracle, Start::Oldest),
        join(true, Start::Newest, &oracle, Start::Oldest),
    ];
    let (mut full, mut lost) = (0, 0);
    let payload = |random: &mut Random| -> Vec<u8> {
        let len = random.below(240);
        (0..len).map(|_| random.next() as u8).collect()
    };
    for _ in 0..1500 {
        match random.below(12) {
            0..4 => {
                let payload = payload(&mut random);
                match writer.try_publish(&payload) {
                    Ok(sequence) => {
                        assert_eq!(sequence, oracle.len() as u64);
                        oracle.push_back(payload);
                    }
                    Err(error) => {
                        assert_eq!(error, TryPublishError::Full);
                        assert!(readers[0].next < oracle.len() as u64, "full, but everything is read");
                        full += 1;
                    }
                }
            }
            4 => {
                let batch: Vec<_> = (0..random.below(6)).map(|_| payload(&mut random)).collect();
                let count = writer.try_publish_batch(&batch).expect("no record is too large");
                oracle.extend(batch.into_iter().take(count));
            }
            5 => {
                let payload = payload(&mut random);
                let extra = random.below(40) as usize;
                if let Ok(mut claim) = writer.try_claim(payload.len() + extra) {
                    claim.write_all(&payload).expect("room");
                    if random.below(3) > 0 {
                        claim.truncate(payload.len());
                        claim.commit();
                        oracle.push_back(payload);
                    }
                }
            }
            6..8 => readers[0].receive(&oracle, &writer, random.below(3)),
            // The lossless one catches up; the lossy ones are left behind.
            8 if random.below(4) == 0 => {
                while readers[0].next < oracle.len() as u64 {
                    readers[0].receive(&oracle, &writer, random.below(3));
                }
            }
            9 => readers[1].receive(&oracle, &writer, random.below(3)),
            10 => readers[2].receive(&oracle, &writer, random.below(3)),
            11 if random.below(20) == 0 => {
                let which = random.below(3) as usize;
                let start = [Start::Oldest, Start::Middle, Start::Newest][random.below(3) as usize];
                lost += readers[which].lost;
                readers[which] = join(which > 0, start, &oracle, start);
                if start == Start::Newest {
                    assert_eq!(readers[which].next, oracle.len() as u64);
                }
            }
            _ => {}
        }
        assert_eq!(writer.sequence(), oracle.len() as u64);
    }
    for reader in &mut readers {
        while reader.next < oracle.len() as u64 {
            reader.receive(&oracle, &writer, 2);
        }
        lost += reader.lost;
    }
    (oracle.len() as u64, lost, full)
}

/// To replay one: `SHMCAST_SEED=n cargo test --test behaviour random_scripts`.
#[test]
fn random_scripts_agree_with_an_oracle() {
    let chosen: Option<u64> = std::env::var("SHMCAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let (mut published, mut lost, mut full) = (0, 0, 0);
    for seed in chosen.map_or(0..400, |seed| seed..seed + 1) {
        println!("seed {seed}");
        let (some, gone, held) = random_script(seed);
        (published, lost, full) = (published + some, lost + gone, full + held);
    }
    if chosen.is_none() {
        assert!(published > 100_000 && lost > 10_000 && full > 1000, "{published} published, {lost} lost, {full} full");
    }
}
