#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kvorum_core_fuzz::bodies::ring_map_with_keys(data);
});
