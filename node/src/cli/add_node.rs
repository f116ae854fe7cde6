//! `kvorum add-node`: makes the folder of one more node, which joins the cluster when it is started for the first time.

use crate::auth::cert;
use crate::cli::exit::Exit;
use crate::cli::init::{self, InitError, Purpose, Shape};
use crate::cli::{say, start};
use crate::config::{AuthMode, ConfigErrors, Member};
use kvorum_protocol::{ClusterId, NodeId};
use std::fs;
use std::net::SocketAddr;
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
    // Whether its ports are free is known only to the machine that it runs on.
    let wish = NewFolder { host: args.host.as_deref(), zone: &args.zone, purpose: Purpose::Production };
    let number = lay_out(&args.dir, &shape, wish, |_| true)?;
    let (name, dir) = (init::node_name(number), init::node_folder(&args.dir, number));
    say(format_args!("{name} of cluster {} is laid out in {}", shape.cluster_id, dir.display()));
    say("start it with");
    say(format_args!("  kvorum start --config {}", init::config_path(&args.dir, number).display()));
    Ok(())
}

/// What the folder of one more node is made for.
pub(crate) struct NewFolder<'a> {
    /// Where it is reached, unless that is where all others are.
    pub(crate) host: Option<&'a str>,
    /// Its failure zone.
    pub(crate) zone: &'a str,
    /// See [`Purpose`].
    pub(crate) purpose: Purpose,
}

/// Makes the folder of one more node, with a certificate and a configuration, under a number that none has or had. Returns the
/// number. `is_free` says whether ports at the cluster's host can be listened on.
///
/// # Errors
/// See [`AddNodeError`]. What was made by then stays, and its number is not given again.
pub(crate) fn lay_out(
    dir: &Path,
    shape: &Shape,
    wish: NewFolder<'_>,
    is_free: impl Fn(&[SocketAddr; init::DOORS]) -> bool,
) -> Result<u16, AddNodeError> {
    let members = members(dir)?;
    let doors = shape.new_doors(&members, wish.host, is_free)?;
    let number = init::next_number(dir)?;
    let id = Uuid::new_v4();
    let folder = init::node_folder(dir, number);
    let cluster = ClusterId(shape.cluster_id);
    let host = doors.client.rsplit_once(':').map_or("", |(host, _)| host);
    let names = init::names_of(&init::without_brackets(host));
    let (signs, authorities) = super::cert::signing(dir).map_err(InitError::from)?;
    cert::issue_node(&signs, &folder, cluster, NodeId(id), &names).map_err(InitError::from)?;
    let of_node = folder.join(cert::AUTHORITY_CERTIFICATE_FILE);
    cert::write(&of_node, &authorities, 0o644).map_err(InitError::from)?;
    let own = Member {
        id: NodeId(id),
        name: init::node_name(number),
        zone: wish.zone.to_owned(),
        client: doors.client,
        peer: doors.peer,
    };
    let joins = "\n# It is none of the founders: it asks the members to let it in.\njoins = true\n";
    let fields = format!("{joins}{}", wish.purpose.fields());
    let first = start::load(Some(&init::config_path(dir, first_of(dir)?)), Vec::new())?;
    let auth = &first.auth;
    let listen = (&doors.listen, first.tls.doors);
    let mut text = shape.config_head(&own.name, id, listen, &fields) + &wish.purpose.tables();
    let is_local = doors.listen.iter().all(|door| door.ip().is_loopback());
    text.push_str(&init::auth_text(auth.mode == AuthMode::Required, is_local));
    text.extend(members.iter().chain([&own]).map(init::member_text));
    let path = init::config_path(dir, number);
    fs::write(&path, text).map_err(|error| InitError::File { path, error })?;
    Ok(number)
}

/// The number of a node that has a folder here.
fn first_of(dir: &Path) -> Result<u16, AddNodeError> {
    Ok(init::nodes_in(dir)?.into_iter().next().unwrap_or(1))
}

/// The nodes that have a folder here, each as its own configuration has it.
fn members(dir: &Path) -> Result<Vec<Member>, AddNodeError> {
    let member = |number| {
        let config = start::load(Some(&init::config_path(dir, number)), Vec::new())?;
        Ok(Member {
            id: config.node_id,
            name: config.name,
            zone: config.zone,
            client: config.client_advertise,
            peer: config.peer_advertise,
        })
    };
    init::nodes_in(dir)?.into_iter().map(member).collect()
}
