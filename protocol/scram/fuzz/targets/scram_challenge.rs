#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kvorum_scram_fuzz::bodies::scram_challenge(data);
});
