//! From a name to its command: a table of hashes that the compiler fills.

use super::CommandSpec;
use super::commands::COMMANDS;

/// Places in the table. Many more than commands, so that most names are found at the first look.
const PLACES: usize = 1024;

/// No command.
const EMPTY: u8 = u8::MAX;

const _: () = assert!(COMMANDS.len() < EMPTY as usize);

static INDEX: [u8; PLACES] = {
    let mut index = [EMPTY; PLACES];
    let mut number = 0;
    while number < COMMANDS.len() {
        let mut place = first_place(COMMANDS[number].full_name.as_bytes());
        while index[place] != EMPTY {
            place = (place + 1) % PLACES;
        }
        index[place] = number as u8;
        number += 1;
    }
    index
};

/// Where a name belongs, in whatever case it is written.
const fn first_place(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 15) as usize % PLACES
}

/// Longest name of a command.
const NAME_BYTES_MAX: usize = {
    let mut longest = 0;
    let mut number = 0;
    while number < COMMANDS.len() {
        if COMMANDS[number].full_name.len() > longest {
            longest = COMMANDS[number].full_name.len();
        }
        number += 1;
    }
    longest
};

/// The command of a name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut place = first_place(name);
    loop {
        let number = INDEX[place];
        if number == EMPTY {
            return None;
        }
        let spec = &COMMANDS[usize::from(number)];
        if spec.full_name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        place = (place + 1) % PLACES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_at_the_first_looks() {
        for spec in &COMMANDS {
            let first = first_place(spec.full_name.as_bytes());
            let looks = (0..PLACES).find(|look| {
                let number = INDEX[(first + look) % PLACES];
                number != EMPTY && std::ptr::eq(&raw const COMMANDS[usize::from(number)], spec)
            });
            assert!(looks.is_some_and(|looks| looks <= 2), "{} after {looks:?}", spec.full_name);
        }
    }

    #[test]
    fn case_counts_for_nothing_and_other_names_are_unknown() {
        for name in ["get", "GET", "gEt"] {
            assert_eq!(find(name.as_bytes()).map(|spec| spec.full_name), Some("get"));
        }
        for name in ["", "ge", "gett", "get ", "client|id", "xyz", "g\0t", &"x".repeat(1000)] {
            assert!(find(name.as_bytes()).is_none(), "{name:?}");
        }
    }
}
