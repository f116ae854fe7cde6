//! What operators type: NODE, CLUSTER and REPAIR.

use super::{Action, Arguments, ClusterView, UsageError};
use crate::nodes;
use crate::text::printable;
use kvorum_client::EncryptVerb;
use std::time::Duration;

/// How long a node is drained, unless said otherwise.
const ABSENCE_DEFAULT: Duration = Duration::from_secs(600);

/// How long a token is good, unless said otherwise.
const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(3_600);

/// What is asked of the cluster. Nodes are named as they were typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Remove { node: String, accept_fewer_zones: bool },
    Keep(String),
    Drain { node: String, absence: Duration },
    Undrain(String),
    Replace { old: String, new: String },
    Set { node: String, zone: Option<String>, weight: Option<u32> },
    Pause(bool),
    Rate(Option<u32>),
    AllowRepair,
    Finalize,
    Encrypt(EncryptVerb),
}

/// How it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Manner {
    /// Returns once it is done wholly.
    pub(crate) waits: bool,
    /// Only says what would happen.
    pub(crate) is_dry_run: bool,
}

impl Arguments<'_> {
    pub(super) fn node(&mut self) -> Result<Action, UsageError> {
        let what = self.text("what")?;
        if what.eq_ignore_ascii_case("ADD") {
            self.spec = &nodes::ADD;
            return self.parse();
        }
        let node = self.text("node")?;
        let what_to_do = what.to_ascii_uppercase();
        let new = if what_to_do == "REPLACE" { Some(self.text("the node that takes its place")?) } else { None };
        let (mut manner, mut accept_fewer_zones) = (Manner::default(), false);
        let (mut absence, mut zone, mut weight) = (None, None, None);
        while let Some(option) = self.option()? {
            let of: &[&str] = match option {
                "WAIT" | "DRYRUN" => &["REMOVE", "REPLACE"],
                "ACCEPTFEWERZONES" => &["REMOVE"],
                "FOR" => &["DRAIN"],
                _ => &["SET"],
            };
            if !of.contains(&&*what_to_do) {
                return Err(self.wrong(format!("{option} is of use to {} only", of.join(" and "))));
            }
            match option {
                "WAIT" => manner.waits = true,
                "DRYRUN" => manner.is_dry_run = true,
                "FOR" => absence = Some(self.duration()?),
                "ZONE" => zone = Some(self.text("zone")?),
                "WEIGHT" => weight = Some(u32::from(self.number::<u16>("weight")?)),
                _ => accept_fewer_zones = true,
            }
        }
        if manner == (Manner { waits: true, is_dry_run: true }) {
            return Err(self.wrong("there is nothing to WAIT for in a DRYRUN"));
        }
        let asked = match (&*what_to_do, new) {
            ("REMOVE", _) => Asked::Remove { node, accept_fewer_zones },
            ("KEEP", _) => Asked::Keep(node),
            ("DRAIN", _) => Asked::Drain { node, absence: absence.unwrap_or(ABSENCE_DEFAULT) },
            ("UNDRAIN", _) => Asked::Undrain(node),
            ("REPLACE", Some(new)) => Asked::Replace { old: node, new },
            ("SET", _) if zone.is_none() && weight.is_none() => {
                return Err(self.wrong("SET what? ZONE, WEIGHT or both"));
            }
            ("SET", _) => Asked::Set { node, zone, weight },
            _ => return Err(self.wrong(format!("{} is nothing to do with a node", printable(what.as_bytes())))),
        };
        Ok(Action::Ask(asked, manner))
    }

    pub(super) fn cluster(&mut self) -> Result<Action, UsageError> {
        let Some(word) = self.optional_text() else { return Ok(Action::Cluster(ClusterView::Status)) };
        let view = match word.to_ascii_uppercase().as_str() {
            "STATUS" => ClusterView::Status,
            "NODES" => ClusterView::Nodes,
            "SHARDS" => ClusterView::Shards,
            "HOTKEYS" => ClusterView::HotKeys,
            "CHECK" => ClusterView::Check,
            "PLAN" => ClusterView::Plan,
            "REBALANCE" => return self.rebalance(),
            "TOKEN" => return self.token(),
            "VERSION" => match self.optional_text() {
                None => ClusterView::Version,
                Some(word) if word.eq_ignore_ascii_case("FINALIZE") => {
                    return Ok(Action::Ask(Asked::Finalize, Manner::default()));
                }
                Some(word) => return Err(self.wrong(format!("VERSION FINALIZE, not {}", printable(word.as_bytes())))),
            },
            _ => return Err(self.wrong(format!("{} is not a view of the cluster", printable(word.as_bytes())))),
        };
        Ok(Action::Cluster(view))
    }

    fn token(&mut self) -> Result<Action, UsageError> {
        let (mut name, mut zone, mut life) = (None, None, TOKEN_LIFE_DEFAULT);
        while let Some(word) = self.optional_text() {
            match word.to_ascii_uppercase().as_str() {
                "NAME" => name = Some(self.text("name")?),
                "ZONE" => zone = Some(self.text("zone")?),
                "FOR" => life = self.duration()?,
                _ => return Err(self.wrong(format!("TOKEN NAME, ZONE or FOR, not {}", printable(word.as_bytes())))),
            }
        }
        Ok(Action::Token { name, zone, life })
    }

    fn rebalance(&mut self) -> Result<Action, UsageError> {
        let Some(word) = self.optional_text() else { return Ok(Action::Cluster(ClusterView::Plan)) };
        let asked = match word.to_ascii_uppercase().as_str() {
            "PAUSE" => Asked::Pause(true),
            "RESUME" => Asked::Pause(false),
            "RATE" => match self.rest.first() {
                Some(word) if word.text().eq_ignore_ascii_case("DEFAULT") => {
                    self.rest = &self.rest[1..];
                    Asked::Rate(None)
                }
                _ => Asked::Rate(Some(u32::from(self.number::<u16>("rate in MiB per second")?))),
            },
            _ => return Err(self.wrong(format!("REBALANCE PAUSE, RESUME or RATE, not {}", printable(word.as_bytes())))),
        };
        Ok(Action::Ask(asked, Manner::default()))
    }

    pub(super) fn encryption(&mut self) -> Result<Action, UsageError> {
        let word = self.optional_text().unwrap_or_else(|| "STATUS".to_owned());
        let what = match word.to_ascii_uppercase().as_str() {
            "ON" => EncryptVerb::On,
            "ROTATE" => EncryptVerb::Rotate,
            "REWRAP" => EncryptVerb::Rewrap,
            "STATUS" => return Ok(Action::Cluster(ClusterView::Encryption)),
            _ => {
                let word = printable(word.as_bytes());
                return Err(self.wrong(format!("ENCRYPTION ON, ROTATE, REWRAP or STATUS, not {word}")));
            }
        };
        Ok(Action::Ask(Asked::Encrypt(what), Manner::default()))
    }

    pub(super) fn repair(&mut self) -> Result<Action, UsageError> {
        let word = self.text("ALLOW")?;
        match word.eq_ignore_ascii_case("ALLOW") {
            true => Ok(Action::Ask(Asked::AllowRepair, Manner::default())),
            false => Err(self.wrong(format!("REPAIR ALLOW, not {}", printable(word.as_bytes())))),
        }
    }
}
