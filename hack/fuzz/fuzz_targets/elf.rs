#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrun_fuzz::elf(data));
