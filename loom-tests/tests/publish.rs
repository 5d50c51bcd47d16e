//! Message passing below the first lap (I1): one writer and one or two readers, exhaustive for one reader.

use loom_tests::models::publish;

#[test]
fn a_reader_receives_whole_records_in_order() {
    publish::WHOLE.check();
}

#[test]
fn a_lossless_reader_receives_whole_records_in_order() {
    publish::PEEKED.check();
}

#[test]
fn every_reader_receives_every_record() {
    publish::BROADCAST.check();
}

#[test]
fn a_reader_that_polls_receives_everything() {
    publish::POLLED.check();
}

#[test]
fn each_of_three_readers_receives_the_record() {
    publish::THREE.check();
}
