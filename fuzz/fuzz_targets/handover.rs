//! Any message with any descriptors over a socket: see `shmcast_fuzz::run_handover`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_handover(data));
