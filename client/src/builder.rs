//! What a client is set up with.

use crate::client::Client;
use crate::core::Core;
use crate::limits::{CONNECT_TIMEOUT_DEFAULT, DEADLINE_DEFAULT, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX};
use crate::login::Credentials;
#[cfg(feature = "tls")]
use crate::tls::{Dialler, Tls};
use kvorum_client_core::retry::RetryPolicy;
use kvorum_client_core::{Error, url};
use kvorum_protocol::limits::NAME_BYTES_MAX;
use kvorum_protocol::{ClientId, ClusterId, ReadMode};
use std::time::Duration;
use uuid::Uuid;

/// Sets up a [`Client`]; see [`Client::builder`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    url: Option<String>,
    options: Options,
}

/// Everything that can be set up, validated.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seeds: Vec<String>,
    pub(crate) name: String,
    pub(crate) client: ClientId,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) credentials: Option<Credentials>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    #[cfg(feature = "tls")]
    pub(crate) dialler: Option<Dialler>,
    pub(crate) connect_timeout: Duration,
    pub(crate) deadline: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) read_mode: ReadMode,
    pub(crate) retry: RetryPolicy,
    pub(crate) seed: Option<u64>,
}

impl ClientBuilder {
    pub(crate) fn new() -> Self {
        Self {
            url: None,
            options: Options {
                seeds: Vec::new(),
                name: format!("kvorum-client/{}", env!("CARGO_PKG_VERSION")),
                client: ClientId(Uuid::new_v4()),
                cluster: None,
                credentials: None,
                #[cfg(feature = "tls")]
                tls: None,
                #[cfg(feature = "tls")]
                dialler: None,
                connect_timeout: CONNECT_TIMEOUT_DEFAULT,
                deadline: DEADLINE_DEFAULT,
                in_flight_max: IN_FLIGHT_DEFAULT,
                read_mode: ReadMode::Linearizable,
                retry: RetryPolicy::default(),
                seed: None,
            },
        }
    }

    /// Sets the cluster's address, `kv://host:port,host:port`, of up to 64 seeds; [`URL_DEFAULT`](crate::URL_DEFAULT) unless
    /// set. With `kvs://` TLS is spoken, which needs the feature `tls` and `ClientBuilder::tls`. The scheme may be left out, and so may
    /// the port 7400. Names are resolved again at each connect.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().url("kv://one.example,two.example:7401").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn url(mut self, url: &str) -> Self {
        self.url = Some(url.to_owned());
        self
    }

    /// Sets the seeds, each as `host:port`, instead of a URL.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().seeds(["one.example:7400", "[::1]:7401"]).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn seeds<S: Into<String>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        let seeds: Vec<String> = seeds.into_iter().map(Into::into).collect();
        self.url = Some(seeds.join(","));
        self
    }

    /// Sets what the client calls itself towards the nodes; at most 255 bytes.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().name("billing").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Sets the identity under which writes take effect once; random unless set. Two clients must never share one.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{Client, ClientId, Uuid};
    ///
    /// let id = ClientId(Uuid::from_u128(7));
    /// let client = Client::builder().client_id(id).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client_id(mut self, client: ClientId) -> Self {
        self.options.client = client;
        self
    }

    /// Sets the cluster that is meant; another one is refused. Unless set, it is the one that answers first.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// if let Some(cluster) = client.cluster() {
    ///     let other = kvorum_client::Client::builder().cluster_id(cluster).connect().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cluster_id(mut self, cluster: ClusterId) -> Self {
        self.options.cluster = Some(cluster);
        self
    }

    /// Speaks TLS with the nodes, whatever the address says.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{Client, Tls};
    ///
    /// let tls = Tls::from_file("ca.pem")?.certificate_files("ada.pem", "ada.key")?;
    /// let client = Client::builder().url("kvs://db1.example").tls(tls).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.options.tls = Some(tls);
        self
    }

    /// Says who the client is, at each of its connections; nobody by default. Where clients must say who they are, that lets nobody
    /// in but those who come with a certificate.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{Client, Credentials};
    ///
    /// let token = std::env::var("KVORUM_TOKEN").unwrap_or_default();
    /// let client = Client::builder().url("kv://db1.example").credentials(Credentials::Token(token)).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.options.credentials = Some(credentials);
        self
    }

    /// Sets how long opening a connection may take, with resolving the name; one second by default.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let client = kvorum_client::Client::builder().connect_timeout(Duration::from_secs(3)).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets how long an operation may take with all its attempts; five seconds by default, ten minutes at most.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let client = kvorum_client::Client::builder().deadline(Duration::from_millis(500)).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = deadline;
        self
    }

    /// Sets how many operations may be in flight; 1024 by default, 65,536 at most. Further ones wait within their deadline, and
    /// fail with `TooManyInFlight` at its end.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().max_in_flight(64).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_in_flight(mut self, operations: usize) -> Self {
        self.options.in_flight_max = operations;
        self
    }

    /// Sets how failed attempts are repeated.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{Client, RetryPolicy};
    /// use std::time::Duration;
    ///
    /// let policy = RetryPolicy::default().with_attempt_timeout(Duration::from_millis(250));
    /// let client = Client::builder().retry_policy(policy).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = policy;
        self
    }

    /// Sets how fresh reads are that do not say so themselves; linearizable by default.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{Client, ReadMode};
    ///
    /// let client = Client::builder().read_mode(ReadMode::Stale).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.options.read_mode = mode;
        self
    }

    /// Sets the seed of the choices that are random (which node is asked, how long a pause is), for tests.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().random_seed(7).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn random_seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Connects; one seed that answers is enough. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument` names the setting that makes no sense; `Unreachable` if no seed answers; `Server` if a node
    /// refuses.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Client, Error> {
        let core = Core::new(self.validate()?);
        core.connect().await?;
        Ok(Client::over(core))
    }

    pub(crate) fn validate(mut self) -> Result<Options, Error> {
        let invalid = |problem: &str| Err(Error::InvalidArgument(problem.to_owned()));
        let address = self.url.as_deref().unwrap_or(url::URL_DEFAULT);
        self.options.seeds = url::parse(address)?;
        #[cfg(feature = "tls")]
        {
            self.options.dialler = self.options.tls.as_ref().map(Tls::dialler).transpose()?;
            if url::is_encrypted(address) && self.options.dialler.is_none() {
                return invalid("kvs:// needs the cluster's authority, as ca.pem: ClientBuilder::tls, or --ca");
            }
        }
        #[cfg(not(feature = "tls"))]
        if url::is_encrypted(address) {
            return invalid("kvs:// needs the feature tls of this library");
        }
        if self.options.name.len() > NAME_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "the length of the client's name in bytes",
                size: self.options.name.len(),
                limit: NAME_BYTES_MAX,
            });
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.options.in_flight_max) {
            return invalid("the limit of operations in flight must be from 1 to 65536");
        }
        if self.options.deadline.is_zero() || self.options.connect_timeout.is_zero() {
            return invalid("a deadline or connect timeout of zero lets nothing happen");
        }
        if self.options.retry.attempt_timeout.is_zero() {
            return invalid("an attempt timeout of zero lets nothing happen");
        }
        Ok(self.options)
    }
}
