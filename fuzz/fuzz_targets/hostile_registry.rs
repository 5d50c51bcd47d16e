//! Any bytes as a ring: see `shmcast_fuzz::run_hostile_registry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_hostile_registry(data));
