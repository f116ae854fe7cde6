//! `kvorum add-node`: makes the folder of one more node, which joins the cluster when it is started for the first time.

use crate::auth::cert;
use crate::cli::exit::Exit;
use crate::cli::init::{self, InitError, NewDoors, Shape};
use crate::cli::{say, start};
use crate::config::{ConfigErrors, Member};
use kvorum_protocol::{ClusterId, NodeId};
use std::fs;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Flags of `kvorum add-node`.
#[derive(Debug, clap::Args)]
pub struct AddNodeArgs {
    /// The cluster's folder, with its certificate authority
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Where the node is reached: a name or an IP address; needed where each node has a host of its own
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Its failure zone
    #[arg(long, value_name = "ZONE", default_value = "")]
    zone: String,
}

/// Why there is no new folder.
#[derive(Debug, thiserror::Error)]
pub enum AddNodeError {
    /// The cluster's folder can't be used, or a flag makes no sense.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A node's configuration in the cluster's folder is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

impl AddNodeError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Init(error) => error.exit(),
            Self::Config(_) => Exit::Config,
        }
    }
}

/// Makes the folder and says how to go on.
///
/// # Errors
/// Whatever is wrong with the flags or the cluster's folder.
pub fn run(args: &AddNodeArgs) -> Result<(), AddNodeError> {
    let shape = init::open(&args.dir)?;
    let members = members(&args.dir)?;
    let number = (1..).find(|number| !init::node_folder(&args.dir, *number).exists()).unwrap_or(u16::MAX);
    let doors = shape.new_doors(number, args.host.as_deref())?;
    make(&args.dir, &shape, number, &doors, &members, &args.zone)?;
    let (name, dir) = (init::node_name(number), init::node_folder(&args.dir, number));
    say(format_args!("{name} of cluster {} is laid out in {}", shape.cluster_id, dir.display()));
    say("start it with");
    say(format_args!("  kvorum start --config {}", init::config_path(&args.dir, number).display()));
    Ok(())
}

fn make(
    dir: &Path,
    shape: &Shape,
    number: u16,
    doors: &NewDoors,
    members: &[Member],
    zone: &str,
) -> Result<(), InitError> {
    let id = Uuid::new_v4();
    let folder = init::node_folder(dir, number);
    cert::issue_node(&dir.join(init::AUTHORITY_FOLDER), &folder, ClusterId(shape.cluster_id), NodeId(id))?;
    let own = Member {
        id: NodeId(id),
        name: init::node_name(number),
        zone: zone.to_owned(),
        client: doors.client.clone(),
        peer: doors.peer.clone(),
    };
    let members: String = members.iter().chain([&own]).map(init::member_text).collect();
    let joins = "\n# It is none of the founders: it asks the members to let it in.\njoins = true\n";
    let text = shape.config_head(number, id, &doors.listen, joins) + &members;
    let path = init::config_path(dir, number);
    fs::write(&path, text).map_err(|error| InitError::File { path, error })
}

/// The nodes that have a folder here, each as its own configuration has it.
fn members(dir: &Path) -> Result<Vec<Member>, ConfigErrors> {
    let folders = (1..).take_while(|number| init::config_path(dir, *number).exists());
    folders
        .map(|number| {
            let config = start::load(Some(&init::config_path(dir, number)), Vec::new())?;
            Ok(Member {
                id: config.node_id,
                name: config.name,
                zone: config.zone,
                client: config.client_advertise,
                peer: config.peer_advertise,
            })
        })
        .collect()
}
