//! Any calls on typed rings: see `shmcast_fuzz::run_typed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_typed(data));
