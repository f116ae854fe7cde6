//! A plan in words, for whoever has to decide whether to carry it out.

use super::ReachReport;
use super::plan::{FolderPlan, GroupLoss, RecoveryPlan, UnreadReplica};
use kvorum_protocol::ShardId;
use std::fmt;

const HEAD: [&str; 8] =
    ["group", "voters left", "goes on from", "last entry", "term", "known committed", "keys", "may lack"];

impl fmt::Display for RecoveryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "plan {} for cluster {}: ring map {} becomes {}",
            self.id, self.cluster, self.epoch, self.ring.epoch
        )?;
        if self.gone.is_empty() {
            writeln!(f, "no node is given up")?;
        } else {
            let gone: Vec<String> = self.gone.iter().map(|gone| format!("{} ({})", gone.name, gone.client)).collect();
            writeln!(f, "given up for good: {}", gone.join(", "))?;
        }
        writeln!(f, "{}; left as they are: {}\n", lost(self.lost.len()), self.untouched)?;
        table(f, &self.lost)?;
        writeln!(
            f,
            "\nEntries up to the one that is known committed are certain. Those behind it are kept, too: some of them may never have\n\
             been acknowledged. What a group may lack nobody who is left can tell: it is what only lost replicas held."
        )?;
        for lost in &self.lost {
            notes(f, lost)?;
        }
        for unread in &self.unread {
            let UnreadReplica { shard, node, problem } = unread;
            writeln!(f, "{} on {node} counts as lost, since nothing of it can be read: {problem}", group(*shard))?;
        }
        writeln!(f, "\n`kvorum recover apply` does this in each data folder:")?;
        self.folders.iter().try_for_each(|folder| on_folder(f, folder))
    }
}

fn lost(groups: usize) -> String {
    match groups {
        1 => "1 group has lost its quorum".to_owned(),
        groups => format!("{groups} groups have lost their quorum"),
    }
}

fn group(shard: u16) -> String {
    if ShardId(shard) == ShardId::META { "meta".to_owned() } else { format!("shard {shard}") }
}

fn table(f: &mut fmt::Formatter<'_>, lost: &[GroupLoss]) -> fmt::Result {
    let rows: Vec<[String; HEAD.len()]> = lost.iter().map(row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).chain([HEAD[column].len()]).max().unwrap_or(0);
    let mut line = |cells: [&str; HEAD.len()]| {
        let cells: Vec<String> =
            cells.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column))).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())
    };
    line(HEAD)?;
    rows.iter().try_for_each(|row| line(row.each_ref().map(String::as_str)))
}

fn row(lost: &GroupLoss) -> [String; HEAD.len()] {
    let is_meta = ShardId(lost.shard) == ShardId::META;
    let lacks = match &lost.from {
        _ if !lost.may_lack => "nothing that was acknowledged".to_owned(),
        // Its only key is the ring map, which folders hold as well.
        _ if is_meta => "a newer ring map".to_owned(),
        Some(from) => format!("writes after entry {}", from.last_index),
        None => "all its keys".to_owned(),
    };
    let figure = |of: fn(&ReachReport) -> u64| lost.from.as_ref().map_or("-".to_owned(), |from| of(from).to_string());
    let node = if lost.from.is_some() { lost.node.clone() } else { format!("{}, empty", lost.node) };
    [
        group(lost.shard),
        format!("{} of {}", lost.voters_left, lost.voters),
        node,
        figure(|from| from.last_index),
        figure(|from| from.last_term),
        figure(|from| from.committed),
        figure(|from| from.keys),
        lacks,
    ]
}

fn notes(f: &mut fmt::Formatter<'_>, lost: &GroupLoss) -> fmt::Result {
    if let Some(problem) = &lost.problem {
        writeln!(
            f,
            "{} goes on from a replica that is not sound, since no other is left: {problem}",
            group(lost.shard)
        )?;
    }
    lost.discarded.iter().try_for_each(|(node, last)| {
        writeln!(f, "{} begins anew on {node}, where a replica held entries to {last}", group(lost.shard))
    })
}

fn on_folder(f: &mut fmt::Formatter<'_>, folder: &FolderPlan) -> fmt::Result {
    let named = |is_empty: bool| {
        let replicas = folder.replicas.iter().filter(|replica| replica.last_index.is_none() == is_empty);
        replicas.map(|replica| group(replica.shard)).collect::<Vec<_>>().join(", ")
    };
    let mut does = Vec::new();
    match named(false) {
        none if none.is_empty() => {}
        alone => does.push(format!("{alone}: goes on alone")),
    }
    match named(true) {
        none if none.is_empty() => {}
        empty => does.push(format!("{empty}: begins with nothing")),
    }
    if folder.heals {
        does.push("its amnesia ends: all other replicas begin anew".to_owned());
    }
    does.push("the ring map is replaced".to_owned());
    writeln!(f, "  {} (folder {}): {}", folder.name, folder.folder, does.join("; "))
}
