//! Any bytes from the peer of a transport: see `shmcast_fuzz::run_framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_framing(data));
