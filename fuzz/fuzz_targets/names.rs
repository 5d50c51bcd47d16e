//! Any names, and any ring directory: see `shmcast_fuzz::run_names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_names(data));
