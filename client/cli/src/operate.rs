//! What operators ask of the cluster, carried out: nodes are found by their names, and what becomes of it is told.

use crate::cluster::{find_node as find, name};
use crate::exit::Exit;
use crate::output::{Cell, Output};
use crate::parse::{Asked, Manner};
use crate::run::{Emit, Failure, find_node};
use crate::standing;
use kvorum_client::verdict::{about, verdict};
use kvorum_client::{Client, ClusterPlan, ClusterVerb, EncryptVerb, NodeId, NodeStanding, TokenWish};
use std::time::Duration;

/// How often a command that waits looks how far the cluster is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So many looks in a row say that a node stays before that is believed: who answers the first may not have heard that it goes.
const LOOKS_IT_STAYS: u32 = 3;

/// Asks for it, and tells what becomes of it.
///
/// # Errors
/// Why it failed, or was refused.
pub(crate) async fn ask(client: &Client, asked: &Asked, manner: Manner, emit: Emit<'_>) -> Result<Exit, Failure> {
    let verb = verb_of(client, asked).await?;
    if manner.is_dry_run {
        let plan = client.admin().plan(Some(verb)).await?;
        for output in standing::plan(&*client.topology().await?, &client.status().await?, &plan) {
            emit(output);
        }
        return Ok(Exit::Ok);
    }
    let leaves = match &verb {
        ClusterVerb::Remove { node, .. } | ClusterVerb::Replace { old: node, .. } => Some(*node),
        _ => None,
    };
    let topology = client.topology().await?;
    client.admin().ask(verb).await?;
    match leaves {
        Some(node) if manner.waits => wait_until_gone(client, node, &name(&topology, node), emit).await,
        _ => {
            // Whoever has typed an id or an address sees whom that was.
            let named =
                |typed: &str| find(&topology, typed).map_or_else(|_| typed.to_owned(), |node| name(&topology, node));
            emit(Output::Note(done(asked, named)));
            Ok(Exit::Ok)
        }
    }
}

/// Makes a token, and shows its text, which nobody else has.
///
/// # Errors
/// Why it failed, or was refused.
pub(crate) async fn token(
    client: &Client,
    name: &Option<String>,
    zone: &Option<String>,
    life: Duration,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    if life > Duration::from_millis(kvorum_client::limits::TOKEN_MS_MAX) {
        return Err(Failure::Usage("a token is good for a day at most".to_owned()));
    }
    let token = client.admin().token(TokenWish { name: name.clone(), zone: zone.clone(), life }).await?;
    let note = format!(
        "one machine may join by it within {}: kvorum join --to HOST:7410 --data-dir FOLDER --token …",
        about(life)
    );
    emit(Output::Scalar { name: "token", cell: Cell::plain(token.to_string()), note });
    Ok(Exit::Ok)
}

async fn verb_of(client: &Client, asked: &Asked) -> Result<ClusterVerb, Failure> {
    Ok(match asked {
        Asked::Remove { node, accept_fewer_zones } => {
            ClusterVerb::Remove { node: find_node(client, node).await?, accept_fewer_zones: *accept_fewer_zones }
        }
        Asked::Keep(node) => ClusterVerb::Keep(find_node(client, node).await?),
        Asked::Drain { node, absence } => {
            let for_ms = u64::try_from(absence.as_millis()).unwrap_or(u64::MAX);
            if !(1..=kvorum_client::limits::ABSENCE_MS_MAX).contains(&for_ms) {
                return Err(Failure::Usage("a node is drained for a week at most".to_owned()));
            }
            ClusterVerb::Drain { node: find_node(client, node).await?, for_ms }
        }
        Asked::Undrain(node) => ClusterVerb::Undrain(find_node(client, node).await?),
        Asked::Replace { old, new } => {
            ClusterVerb::Replace { old: find_node(client, old).await?, new: find_node(client, new).await? }
        }
        Asked::Set { node, zone, weight } => {
            let most = kvorum_client::limits::NODE_WEIGHT_MAX;
            if weight.is_some_and(|weight| !(1..=most).contains(&weight)) {
                return Err(Failure::Usage(format!("a weight is 1 to {most}")));
            }
            ClusterVerb::Set { node: find_node(client, node).await?, zone: zone.clone(), weight: *weight }
        }
        Asked::Pause(paused) => ClusterVerb::Pause(*paused),
        Asked::Rate(mb) => {
            let most = kvorum_client::limits::MOVE_RATE_MB_MAX;
            if mb.is_some_and(|mb| !(1..=most).contains(&mb)) {
                return Err(Failure::Usage(format!("a rate is 1 to {most} MiB per second, or DEFAULT")));
            }
            ClusterVerb::Rate(*mb)
        }
        Asked::AllowRepair => ClusterVerb::AllowRepair,
        Asked::Finalize => ClusterVerb::Finalize,
        Asked::Encrypt(what) => ClusterVerb::Encrypt(*what),
    })
}

/// What has come of it. `named` gives the name of a node that was typed.
fn done(asked: &Asked, named: impl Fn(&str) -> String) -> String {
    match asked {
        Asked::Remove { node, .. } => {
            format!("{} gives what it holds to others, and ends when it holds nothing", named(node))
        }
        Asked::Keep(node) => format!("{} stays", named(node)),
        Asked::Drain { node, absence } => {
            format!("{} hands over what it leads, and may be away for {}", named(node), about(*absence))
        }
        Asked::Undrain(node) => format!("{} is as any other again", named(node)),
        Asked::Replace { old, new } => {
            format!("{} gives what it holds to {}, and ends when it holds nothing", named(old), named(new))
        }
        Asked::Set { node, .. } => format!("{} is set; replicas follow", named(node)),
        Asked::Pause(true) => "moves are paused; those that have begun end, and repair goes on".to_owned(),
        Asked::Pause(false) => "moves go on".to_owned(),
        Asked::Rate(Some(mb)) => format!("each node sends snapshots at {mb} MiB per second at most"),
        Asked::Rate(None) => "each node sends snapshots at the default rate".to_owned(),
        Asked::AllowRepair => "what nodes that are down hold is made anew now".to_owned(),
        Asked::Finalize => "the cluster is at the highest level that all its nodes speak".to_owned(),
        Asked::Encrypt(EncryptVerb::On) => {
            "what is written from now on is sealed; ENCRYPTION STATUS tells how far it is".to_owned()
        }
        Asked::Encrypt(EncryptVerb::Rotate) => "another data key is used as soon as all nodes have it".to_owned(),
        Asked::Encrypt(EncryptVerb::Rewrap) => {
            "all data keys are wrapped with the key-encryption key of now".to_owned()
        }
    }
}

/// Tells how far a node is with giving what it holds away, until it is gone. Ends with [`Exit::Failed`] if somebody has it stay.
pub(crate) async fn wait_until_gone(
    client: &Client,
    node: NodeId,
    name: &str,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    let mut told = None;
    let mut looks_it_stays = 0;
    loop {
        let topology = client.topology().await?;
        let Some(at) = topology.nodes.iter().position(|info| info.id == node) else {
            emit(Output::Note(format!("{name} is removed")));
            return Ok(Exit::Ok);
        };
        // Without a word of who speaks for the ring map it is not known, and there is less to say.
        let plan = client.admin().plan(None).await.ok();
        looks_it_stays = if plan.as_ref().is_some_and(|plan| stays(plan, node)) { looks_it_stays + 1 } else { 0 };
        if looks_it_stays == LOOKS_IT_STAYS {
            emit(Output::Note(format!("{name} stays")));
            return Ok(Exit::Failed);
        }
        let holds = topology.shards.iter().filter(|shard| shard.replicas.contains(&(at as u16))).count();
        if told.replace(holds) != Some(holds) {
            let all = topology.shards.len();
            let health = verdict(&topology, &client.status().await?, plan.as_ref());
            let left = health.moves_end_in.map(|time| format!(", about {} left", about(time))).unwrap_or_default();
            for reason in plan.iter().flat_map(|plan| &plan.reasons) {
                emit(Output::Note(reason.text.clone()));
            }
            emit(Output::Note(format!("{name} is to give replicas of {holds} of {all} shards{left}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a node is to stay, by the plan.
fn stays(plan: &ClusterPlan, node: NodeId) -> bool {
    plan.nodes.iter().any(|outlook| outlook.node == node && outlook.standing != NodeStanding::Removing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::NodeOutlook;
    use kvorum_protocol::Epoch;
    use uuid::Uuid;

    #[test]
    fn whoever_typed_an_id_sees_the_name() {
        let named = |_: &str| "node-4".to_owned();
        assert_eq!(done(&Asked::Keep("a1b2c3d4".to_owned()), named), "node-4 stays");
        let remove = Asked::Remove { node: "a1b2c3d4".to_owned(), accept_fewer_zones: false };
        assert!(done(&remove, named).starts_with("node-4 gives what it holds"));
    }

    #[test]
    fn a_node_that_was_kept_stays() {
        let node = |number| NodeId(Uuid::from_u128(number));
        let outlook = |number, standing| NodeOutlook {
            node: node(number),
            standing,
            down: false,
            silent_ms: None,
            ends_in_ms: None,
        };
        let plan = ClusterPlan {
            epoch: Epoch(1),
            level: 2,
            next_level: None,
            replication_factor: 3,
            paused: false,
            rate_mb: None,
            meta: Vec::new(),
            nodes: vec![outlook(1, NodeStanding::Removing), outlook(2, NodeStanding::Up)],
            moves: Vec::new(),
            leads: 0,
            reasons: Vec::new(),
            sealing: None,
        };
        assert!(!stays(&plan, node(1)), "it goes");
        assert!(stays(&plan, node(2)));
        assert!(!stays(&plan, node(3)), "it has gone");
    }
}
