#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kvorum_protocol_fuzz::bodies::transaction_result(data);
});
