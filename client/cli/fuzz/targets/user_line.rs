#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kvorum_cli_fuzz::bodies::user_line(data);
});
