//! Any header of a typed ring: see `shmcast_fuzz::run_schema`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcast_fuzz::run_schema(data));
