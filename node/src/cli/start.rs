//! `kvorum start`: one node, from its configuration to its clean stop.

use crate::audit::file::AuditFile;
use crate::auth::cert::Identity;
use crate::auth::certificates::{LoadTlsError, NodeCertificates};
use crate::cli::FieldFlags;
use crate::cli::exit::Exit;
use crate::cli::let_in::{self, JoinRefused};
use crate::cli::stop;
use crate::cli::telemetry::{self, LogFormat, TelemetryError};
use crate::config::{Config, ConfigErrors, ConfigProblem, Sources};
use crate::folder::{self, DataFolder, FolderError, Owner, StartKind};
use crate::kek;
use crate::runtime::descriptors::{self, TooFewDescriptors};
use crate::runtime::node::{self, NodeError, StoppedNode};
use kvorum_core::disk::copies_on_write;
use kvorum_core::sealing::KeyFailure;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a node that has stopped may still do on threads that block, such as reading a log that it had begun to open, is given so long.
const LEFT_RUNNING_TIMEOUT: Duration = Duration::from_secs(3);

/// Flags of `kvorum start`.
#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// The configuration file (TOML); every field is also an environment variable and a flag, see --help
    #[arg(long, value_name = "FILE", env = "KVORUM_CONFIG")]
    config: Option<PathBuf>,
    /// Stop gracefully when stdin reaches its end, so that the node does not outlive who started it
    #[arg(long)]
    exit_with_stdin: bool,
    /// The shape of a log line
    #[arg(long, value_name = "FORMAT", env = "KVORUM_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Fields given as flags.
    #[command(flatten)]
    pub(crate) fields: FieldFlags,
}

impl StartArgs {
    /// Runs the node of a configuration file, and nothing else said.
    pub(crate) fn of(config: PathBuf) -> Self {
        let (log_format, fields) = (LogFormat::default(), FieldFlags::default());
        Self { config: Some(config), exit_with_stdin: false, log_format, fields }
    }
}

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Logging can't begin.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The system allows the process too few file descriptors.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The certificates are not this node's.
    #[error(transparent)]
    Tls(#[from] LoadTlsError),
    /// The audit log can't be written.
    #[error("audit.file: {0}")]
    Audit(io::Error),
    /// What the data folder holds is sealed, and can't be opened.
    #[error("encryption.key: {0}")]
    Keys(#[from] KeyFailure),
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The process could not be set up.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The cluster does not let the node in.
    #[error(transparent)]
    Join(#[from] JoinRefused),
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl StartError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Telemetry(_)
            | Self::Config(_)
            | Self::Descriptors(_)
            | Self::Tls(_)
            | Self::Audit(_)
            | Self::Keys(_)
            | Self::Join(_) => Exit::Config,
            Self::Folder(error) => error.exit(),
            Self::Process { .. } => Exit::Failure,
            Self::Node(error) => error.exit(),
        }
    }
}

/// Takes huge pages from the process: what the allocator has freed, or rounds up, would stay in memory 2 MiB at a time, which was
/// a third of what a node with millions of keys took (docs/history/2026-11.md). A kernel that can't does no harm by it.
fn without_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "memory.huge_pages stays on");
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting or ends it early.
pub fn run(args: StartArgs) -> Result<(), StartError> {
    telemetry::start(args.log_format, std::env::var(telemetry::FILTER_VARIABLE).ok())?;
    let mut config = load(args.config.as_deref(), args.fields.0)?;
    config.connections_max = descriptors::provide(config.connections_max, config.journal.files.into())?;
    if !config.huge_pages {
        without_huge_pages();
    }
    let own = Identity { cluster: config.cluster_id, node: config.node_id };
    let certificates = NodeCertificates::load(&config.tls, own)?;
    look_at_audit_log(&config)?;
    // Before anything is written, or even locked: with another key the folder stays as it is.
    let keys = kek::open(&config.encryption, config.cluster_id)?;
    keys.follow(&kek::of_folder(&config.data_dir))?;
    let process = |what| move |error| StartError::Process { what, error };
    let boot = folder::boot_id().map_err(process("the kernel's boot id"))?;
    let owner = Owner {
        cluster: config.cluster_id,
        node: config.node_id,
        shards: config.shards,
        durability: config.durability,
    };
    let folder = DataFolder::open(&config.data_dir, owner, &boot)?;
    if let Err(error) = node::check_fixed(&config, &folder) {
        if folder.start_kind() == StartKind::AfterCleanStop {
            // Nothing was done since.
            folder.stop_clean()?;
        }
        return Err(error.into());
    }
    announce(&config, &folder);
    look_at_file_system(&config);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(config.workers_on(processors))
        .thread_name("kvorum")
        // Whoever else waits for the processor goes first, and has something for this thread when it looks again: it then needn't be
        // put to sleep and woken, which was a fifth of what a GET cost where processors are busy (docs/history/2026-11.md).
        .on_thread_park(std::thread::yield_now)
        .build()
        .map_err(process("the runtime"))?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop::on_signals(stop.clone()).map_err(process("signal handlers"))?;
        if args.exit_with_stdin {
            stop::with_stdin(stop.clone()).map_err(process("the thread that watches stdin"))?;
        }
        if config.joins && !node::knows_ring(&folder)? {
            tokio::select! {
                joined = let_in::ask(&config, folder.disk()) => joined?,
                () = stop.cancelled() => return Ok(StoppedNode { folder, is_synced: true }),
            }
        }
        Ok::<_, StartError>(node::run(config, certificates, folder, keys, stop).await?)
    });
    // A thread that waits for a disk, or for a name, may never end; the process must.
    match &ended {
        Ok(_) => runtime.shutdown_timeout(LEFT_RUNNING_TIMEOUT),
        Err(_) => runtime.shutdown_background(),
    }
    let StoppedNode { folder, is_synced } = ended?;
    if is_synced {
        folder.stop_clean()?;
    } else {
        tracing::warn!(
            "stopped before all logs were opened that an earlier process left: the next start is one after a crash"
        );
    }
    tracing::info!("stopped");
    telemetry::flush();
    Ok(())
}

/// Reads the configuration from where it may stand.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: Option<&Path>, flags: Vec<(String, String)>) -> Result<Config, ConfigErrors> {
    let file = match file {
        None => None,
        Some(path) => {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigErrors(vec![ConfigProblem::Unreadable { path: shown.clone(), detail: error.to_string() }])
            })?;
            Some((shown, text))
        }
    };
    // A variable that is not text can't be the value of any field.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::parse(&Sources { file, environment: environment.collect(), flags })
}

/// A node of which nobody would know who did what does not start.
fn look_at_audit_log(config: &Config) -> Result<(), StartError> {
    let target = config.audit.clone();
    target.map_or(Ok(()), |target| AuditFile::new(target, config.name.clone()).check().map_err(StartError::Audit))
}

/// On such a file system a full disk may cost replicas, where it costs only writes elsewhere.
fn look_at_file_system(config: &Config) {
    match copies_on_write(&config.data_dir) {
        Ok(Some(name)) => tracing::warn!(
            file_system = name,
            "the data folder's file system copies on write: when it is full, replicas may be damaged and have to be replaced",
        ),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "the file system of the data folder is not known"),
    }
}

fn announce(config: &Config, folder: &DataFolder) {
    let start = match folder.start_kind() {
        StartKind::First => "the data folder is new",
        StartKind::AfterCleanStop => "after a clean stop",
        StartKind::AfterCrash => "after a crash, recovers",
        StartKind::Amnesiac => "after a machine restart without a clean stop, has amnesia and begins anew",
    };
    tracing::info!(
        node = %config.name,
        id = %config.node_id,
        cluster = %config.cluster_id,
        durability = %config.durability,
        data = %folder.path().display(),
        version = env!("CARGO_PKG_VERSION"),
        "starting: {start}",
    );
    if config.fault_hooks {
        tracing::warn!("fault hooks are on: anyone who can reach the binary door can inject faults");
    }
}
