//! The tests of plain stores again, with all records sealed.

use super::*;
use crate::sealing::KeyEpoch;
use crate::sealing::testing::{key, sealed};

#[test]
fn what_holds_of_plain_records_holds_of_sealed_ones() {
    let tests = [
        an_entry_of_many_records_does_what_each_would_alone,
        a_base_holds_what_the_next_entry_depends_on,
        a_longer_life_is_not_cut_short_by_the_one_before,
        a_page_of_a_scan_ends_within_keys_that_share_a_place,
        damage_is_never_read_and_is_noted,
        a_write_over_a_damaged_record_is_not_applied,
    ];
    tests.into_iter().for_each(sealed);
}

/// A replica that applies an entry before its key has come waits for that, and takes nothing for damage.
#[test]
fn without_its_key_nothing_is_applied_and_nothing_is_damaged() {
    sealed(|| {
        let mut fixture = Fixture::new(ORDER_BITS);
        fixture.write(1, "a", Some("1"), None);
        fixture.log.view().keys().ring().insert(KeyEpoch(2), key(2));
        fixture.log.view().keys().ring().activate(KeyEpoch(2));
        fixture.write(2, "b", Some("2"), None);
        assert_eq!(fixture.store.reader().get(b"a").unwrap().unwrap().entry.value, "1");
        assert_eq!(fixture.store.reader().get(b"b").unwrap().unwrap().entry.value, "2");
        assert_eq!(fixture.store.reader().damage(), None);
    });
}
