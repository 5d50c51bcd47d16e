//! Any calls, against a model: see `shmcast_fuzz::run_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_ops(data));
