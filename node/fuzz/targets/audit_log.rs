#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kvorum_node_fuzz::bodies::audit_log(data);
});
