//! What is told of strings: their bits, how Redis would keep them, and what two of them have in common. Pure.

use kvorum_resp::ReplyWriter;
use kvorum_resp::command::{BitRange, BitSearch, LcsForm};
use kvorum_resp::number::parse_integer;

/// Most steps of LCS, which are the product of both lengths: about ten milliseconds.
const LCS_STEPS_MAX: usize = 4 << 20;
/// The longest string that Redis keeps in one allocation with its head.
const EMBEDDED_BYTES_MAX: usize = 44;

/// A bit of a value; those behind its end are 0.
pub(super) fn bit(value: &[u8], offset: usize) -> bool {
    value.get(offset / 8).is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1)
}

/// How many bits of a value are 1, in a part of it.
pub(super) fn count_bits(value: &[u8], range: Option<BitRange>) -> usize {
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones() as usize).sum();
    let Some(BitRange { start, end, in_bits }) = range else { return ones(value) };
    let length = if in_bits { value.len() * 8 } else { value.len() };
    let Some((start, end)) = part(length, start, end) else { return 0 };
    if !in_bits {
        return ones(&value[start..=end]);
    }
    let (first, last) = (start / 8, end / 8);
    let all: usize = ones(&value[first..=last]);
    let before = ones(&[value[first] & !(0xff >> (start % 8))]);
    let behind = ones(&[value[last] & (0x7f >> (end % 8))]);
    all - before - behind
}

/// The place of a value's first bit that is `wanted`, in a part of it. Where the part has no end of its own, zeros follow the value.
pub(super) fn find_bit(value: &[u8], wanted: bool, range: Option<BitSearch>) -> Option<usize> {
    let BitSearch { start, end, in_bits } = range.unwrap_or(BitSearch { start: 0, end: None, in_bits: false });
    let length = if in_bits { value.len() * 8 } else { value.len() };
    let (start, last) = places(length, start, end.unwrap_or(-1))?;
    let (start, behind) = if in_bits { (start, last + 1) } else { (start * 8, (last + 1) * 8) };
    // Whole bytes without such a bit are passed over.
    let poor = if wanted { 0 } else { 0xff };
    let mut at = start;
    while at < behind {
        if at.is_multiple_of(8) && value[at / 8] == poor {
            at += 8;
        } else if bit(value, at) == wanted {
            return Some(at);
        } else {
            at += 1;
        }
    }
    (!wanted && end.is_none()).then_some(behind)
}

/// First and last place of a part, as GETRANGE counts: negative numbers from the end, the last place included. Nothing if there is
/// none.
pub(super) fn part(length: usize, start: i64, end: i64) -> Option<(usize, usize)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    places(length, start, end)
}

/// The same where the last place may be before the first one and both count from the end, as BITPOS counts.
fn places(length: usize, start: i64, end: i64) -> Option<(usize, usize)> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(length - 1));
    (start <= end).then_some((start as usize, end as usize))
}

/// How Redis would keep a value that was set.
pub(super) fn encoding(value: &[u8]) -> &'static str {
    match value.len() {
        ..=20 if parse_integer(value).is_some() => "int",
        ..=EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}

/// A run that two values share: its first and last place in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    left: (usize, usize),
    right: (usize, usize),
}

impl Run {
    fn bytes(self) -> usize {
        self.left.1 - self.left.0 + 1
    }
}

/// Lengths of the longest common subsequences of all beginnings.
struct Lengths {
    width: usize,
    cells: Vec<u32>,
}

impl Lengths {
    fn of(left: &[u8], right: &[u8]) -> Self {
        let width = right.len() + 1;
        let mut cells = vec![0; width * (left.len() + 1)];
        for (i, a) in left.iter().enumerate() {
            for (j, b) in right.iter().enumerate() {
                cells[(i + 1) * width + j + 1] = if a == b {
                    cells[i * width + j] + 1
                } else {
                    cells[i * width + j + 1].max(cells[(i + 1) * width + j])
                };
            }
        }
        Self { width, cells }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }
}

/// The subsequence, and the runs that it consists of, the last one first: as Redis walks back.
fn common(left: &[u8], right: &[u8], lengths: &Lengths) -> (Vec<u8>, Vec<Run>) {
    let (mut i, mut j) = (left.len(), right.len());
    let (mut text, mut runs) = (Vec::new(), Vec::new());
    let mut run: Option<Run> = None;
    while i > 0 && j > 0 {
        if left[i - 1] == right[j - 1] {
            text.push(left[i - 1]);
            (i, j) = (i - 1, j - 1);
            match &mut run {
                Some(run) if run.left.0 == i + 1 && run.right.0 == j + 1 => (run.left.0, run.right.0) = (i, j),
                run => runs.extend(run.replace(Run { left: (i, i), right: (j, j) })),
            }
        } else if lengths.at(i - 1, j) > lengths.at(i, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    runs.extend(run);
    text.reverse();
    (text, runs)
}

/// Answers LCS.
pub(super) fn write_lcs(left: &[u8], right: &[u8], form: LcsForm, reply: &mut ReplyWriter<'_>) {
    if left.len().saturating_mul(right.len()) > LCS_STEPS_MAX {
        return reply.error(
            b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len: the product of both lengths \
              is 4194304 at most",
        );
    }
    let lengths = Lengths::of(left, right);
    let length = lengths.at(left.len(), right.len());
    match form {
        LcsForm::Length => reply.integer(length.into()),
        LcsForm::Text => reply.bulk(&common(left, right, &lengths).0),
        LcsForm::Indexes { bytes_min, with_lengths } => {
            let (_, runs) = common(left, right, &lengths);
            let runs: Vec<Run> = runs.into_iter().filter(|run| run.bytes() as u64 >= bytes_min).collect();
            reply.map(2);
            reply.bulk(b"matches");
            reply.array(runs.len());
            for run in runs {
                reply.array(2 + usize::from(with_lengths));
                for (first, last) in [run.left, run.right] {
                    reply.array(2);
                    reply.count(first);
                    reply.count(last);
                }
                if with_lengths {
                    reply.count(run.bytes());
                }
            }
            reply.bulk(b"len");
            reply.integer(length.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf as _;
    use kvorum_resp::{Output, RespVersion};

    fn lcs(left: &[u8], right: &[u8], form: LcsForm) -> String {
        let mut output = Output::new();
        write_lcs(left, right, form, &mut ReplyWriter::new(&mut output, RespVersion::Two));
        let length = output.len();
        String::from_utf8(output.copy_to_bytes(length).to_vec()).unwrap()
    }

    #[test]
    fn what_two_values_have_in_common_is_told_as_redis_does() {
        let (left, right) = (b"ohmytext".as_slice(), b"mynewtext".as_slice());
        assert_eq!(lcs(left, right, LcsForm::Text), "$6\r\nmytext\r\n");
        assert_eq!(lcs(left, right, LcsForm::Length), ":6\r\n");
        assert_eq!(
            lcs(left, right, LcsForm::Indexes { bytes_min: 0, with_lengths: false }),
            "*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n\
             $3\r\nlen\r\n:6\r\n"
        );
        assert_eq!(
            lcs(left, right, LcsForm::Indexes { bytes_min: 4, with_lengths: true }),
            "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n"
        );
        assert_eq!(lcs(b"", b"abc", LcsForm::Text), "$0\r\n\r\n");
        assert!(lcs(&[0; 2049], &[0; 2049], LcsForm::Length).starts_with("-ERR Insufficient memory"));
    }

    #[test]
    fn bits_are_counted_as_redis_counts_them() {
        let value = b"foobar";
        assert_eq!(count_bits(value, None), 26);
        let count = |start, end, in_bits| count_bits(value, Some(BitRange { start, end, in_bits }));
        assert_eq!((count(0, 0, false), count(1, 1, false), count(-2, -1, false)), (4, 6, 7));
        assert_eq!((count(5, 30, true), count(0, -1, true), count(9, 3, true), count(100, 200, true)), (17, 26, 0, 0));
        for start in 0..48 {
            for end in start..48 {
                let expected = (start..=end).filter(|place| bit(value, *place as usize)).count();
                assert_eq!(count(start, end, true), expected, "{start} {end}");
            }
        }
        assert_eq!(count_bits(b"", Some(BitRange { start: 0, end: -1, in_bits: true })), 0);
        assert!(!bit(value, 1_000) && bit(b"\x80", 0) && !bit(b"\x80", 1));
    }

    #[test]
    fn the_first_bit_of_a_kind_is_found_as_redis_finds_it() {
        let find = |value: &[u8], bit, range| find_bit(value, bit, range);
        let bytes = |start, end| Some(BitSearch { start, end, in_bits: false });
        let bits = |start, end| Some(BitSearch { start, end: Some(end), in_bits: true });
        let value = b"\xff\xf0\x00";
        assert_eq!((find(value, false, None), find(value, true, None)), (Some(12), Some(0)));
        assert_eq!(find(b"\x00\xff\xf0", true, bytes(0, None)), Some(8));
        assert_eq!((find(b"\x00\xff\xf0", true, bytes(2, None)), find(b"\0\0", true, None)), (Some(16), None));
        assert_eq!(find(b"\xff\xff", false, None), Some(16), "zeros follow");
        assert_eq!(find(b"\xff\xff", false, bytes(1, None)), Some(16));
        assert_eq!(find(b"\xff\xff", false, bytes(0, Some(-1))), None, "and do not belong to a part that has an end");
        assert_eq!((find(b"", false, None), find(b"", true, None)), (None, None));
        assert_eq!((find(value, true, bytes(2, Some(1))), find(value, false, bytes(5, None))), (None, None));
        assert_eq!((find(value, false, bits(7, 15)), find(value, true, bits(12, -1))), (Some(12), None));
        assert_eq!(find(value, false, bits(16, 20)), Some(16));
        for start in 0..24 {
            for end in start..24 {
                for bit_wanted in [false, true] {
                    let expected = (start..=end).find(|place| bit(value, *place as usize) == bit_wanted);
                    let found = find(value, bit_wanted, bits(start, end));
                    assert_eq!(found, expected.map(|place| place as usize), "{start} {end}");
                }
            }
        }
    }

    #[test]
    fn values_have_the_encodings_of_redis() {
        for (value, expected) in [
            ("12", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("012", "embstr"),
            ("", "embstr"),
            ("a", "embstr"),
        ] {
            assert_eq!(encoding(value.as_bytes()), expected, "{value}");
        }
        assert_eq!((encoding(&[b'x'; 44]), encoding(&[b'x'; 45])), ("embstr", "raw"));
    }
}
