//! What settings may be set to, and how Redis says that something is none of it. Pure.

use kvorum_resp::number::parse_integer;

/// Longest value of a setting.
const SETTING_BYTES_MAX: usize = 1024;

/// What a setting may be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SettingKind {
    /// What it is.
    Fixed,
    /// Any text.
    Text,
    /// `yes` or `no`.
    YesNo,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number between these.
    Whole(i64, i64),
    /// So many bytes at least, with or without a unit.
    Bytes(u64),
    /// Bytes, or a percentage.
    BytesOrPercent,
}

impl SettingKind {
    /// A value as it is told again; nothing if it must be what it is.
    ///
    /// # Errors
    /// It is none for this setting: the text says why.
    pub(super) fn check(self, value: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if value.len() > SETTING_BYTES_MAX {
            return Err(format!("argument is longer than {SETTING_BYTES_MAX} bytes"));
        }
        match self {
            Self::Fixed => Ok(None),
            Self::Text => Ok(Some(value.to_vec())),
            Self::YesNo => word(&["yes", "no"], value).ok_or_else(|| "argument must be 'yes' or 'no'".to_owned()),
            Self::OneOf(words) => word(words, value)
                .ok_or_else(|| format!("argument(s) must be one of the following: {}", words.join(", "))),
            Self::Whole(least, most) => {
                let number = parse_integer(value).ok_or("argument couldn't be parsed into an integer")?;
                between(number, least, most)
            }
            Self::Bytes(least) => {
                between(bytes(value).ok_or("argument must be a memory value")?, least, i64::MAX as u64)
            }
            Self::BytesOrPercent => match value.strip_suffix(b"%") {
                Some(percent) => match parse_integer(percent).filter(|percent| *percent >= 0) {
                    Some(percent @ ..=100) => Ok(Some(format!("{percent}%").into())),
                    Some(_) => Err("percentage argument must be less or equal to 100".to_owned()),
                    None => Err("argument must be a memory or percent value".to_owned()),
                },
                None => between(bytes(value).ok_or("argument must be a memory or percent value")?, 0, i64::MAX as u64),
            },
        }
    }
}

/// The word that is meant, in whatever case it is written.
fn word(words: &[&str], value: &[u8]) -> Option<Option<Vec<u8>>> {
    let meant = words.iter().find(|word| word.as_bytes().eq_ignore_ascii_case(value))?;
    Some(Some(meant.as_bytes().to_vec()))
}

fn between<N: PartialOrd + std::fmt::Display>(number: N, least: N, most: N) -> Result<Option<Vec<u8>>, String> {
    if (&least..=&most).contains(&&number) {
        Ok(Some(number.to_string().into()))
    } else {
        Err(format!("argument must be between {least} and {most} inclusive"))
    }
}

/// So many bytes: a number, and a unit such as `kb`, which is 1024 of them, or `k`, which is 1000.
fn bytes(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = value.split_at(digits);
    let unit: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    std::str::from_utf8(number).ok()?.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_in_the_words_of_redis() {
        let told = |kind: SettingKind, value: &str| match kind.check(value.as_bytes()) {
            Ok(Some(value)) => String::from_utf8(value).unwrap(),
            Ok(None) => "fixed".to_owned(),
            Err(why) => why,
        };
        for (kind, value, expected) in [
            (SettingKind::Fixed, "x", "fixed"),
            (SettingKind::Text, "3000 5", "3000 5"),
            (SettingKind::YesNo, "YES", "yes"),
            (SettingKind::YesNo, "1", "argument must be 'yes' or 'no'"),
            (SettingKind::OneOf(&["always", "no"]), "No", "no"),
            (SettingKind::OneOf(&["always", "no"]), "x", "argument(s) must be one of the following: always, no"),
            (SettingKind::Whole(-1, 5), "-1", "-1"),
            (SettingKind::Whole(-1, 5), "-2", "argument must be between -1 and 5 inclusive"),
            (SettingKind::Whole(-1, 5), "1x", "argument couldn't be parsed into an integer"),
            (SettingKind::Bytes(0), "10", "10"),
            (SettingKind::Bytes(0), "10k", "10000"),
            (SettingKind::Bytes(0), "10KB", "10240"),
            (SettingKind::Bytes(0), "2gb", "2147483648"),
            (SettingKind::Bytes(0), "-1", "argument must be a memory value"),
            (SettingKind::Bytes(0), "k", "argument must be a memory value"),
            (SettingKind::Bytes(0), "99999999999gb", "argument must be a memory value"),
            (SettingKind::Bytes(100), "99", "argument must be between 100 and 9223372036854775807 inclusive"),
            (SettingKind::BytesOrPercent, "5%", "5%"),
            (SettingKind::BytesOrPercent, "1m", "1000000"),
            (SettingKind::BytesOrPercent, "101%", "percentage argument must be less or equal to 100"),
            (SettingKind::BytesOrPercent, "-1%", "argument must be a memory or percent value"),
            (SettingKind::BytesOrPercent, "x", "argument must be a memory or percent value"),
        ] {
            assert_eq!(told(kind, value), expected, "{kind:?} {value}");
        }
        assert!(SettingKind::Text.check(&[b'x'; SETTING_BYTES_MAX + 1]).is_err());
    }
}
