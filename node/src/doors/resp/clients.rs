//! The connections of a node's RESP doors, as their clients see each other: CLIENT LIST, CLIENT KILL and MONITOR.

use super::RespMode;
use crate::auth::user_cert::UserCertificate;
use crate::runtime::system_clock;
use bytes::{BufMut, BytesMut};
use kvorum_core::auth::{Principal, UserPlace};
use kvorum_core::clock::Nanos;
use kvorum_resp::command::{ClientFilter, ClientKind, ClientListFilter};
use kvorum_resp::{Request, RespVersion};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Most bytes that wait for a monitor. One that is further behind is closed.
const MONITOR_BYTES_MAX: usize = 1024 * 1024;
/// Longest argument that a monitor is told in whole.
const MONITOR_ARGUMENT_BYTES: usize = 4096;

/// All connections, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    last: AtomicU64,
    monitors: AtomicUsize,
    /// Those that are parked.
    parked: AtomicUsize,
}

/// One of the parked connections.
#[derive(Debug)]
pub(super) struct ParkedCount<'a>(&'a AtomicUsize);

impl Drop for ParkedCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection, as others see it.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number, of this node.
    pub(super) number: u64,
    /// Where it comes from.
    pub(super) from: SocketAddr,
    /// Where it has reached the node.
    pub(super) to: SocketAddr,
    mode: RespMode,
    /// The certificate that it has shown.
    certificate: Option<Box<UserCertificate>>,
    since: Nanos,
    about: Mutex<About>,
    /// Its place among the connections of its user.
    place: Mutex<Option<UserPlace>>,
    /// Cancelled to close it.
    pub(super) killed: CancellationToken,
    /// Lines that it is to be told as a monitor.
    feed: Mutex<Option<BytesMut>>,
    /// Told when there are some.
    pub(super) fed: Notify,
}

/// What a client has said of itself and done last.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Its name.
    pub(super) name: Vec<u8>,
    /// Its library.
    pub(super) library: Vec<u8>,
    /// The library's version.
    pub(super) library_version: Vec<u8>,
    /// What it speaks.
    pub(super) version: RespVersion,
    /// The command that came last.
    pub(super) command: &'static str,
    /// When that was.
    pub(super) busy_at: Nanos,
    /// Bytes of the command that is being handled.
    pub(super) request_bytes: usize,
    /// How many commands a transaction has queued, if one was begun.
    pub(super) queued: Option<usize>,
    /// Keys that are watched.
    pub(super) watched: usize,
    /// Who it is.
    pub(super) principal: Principal,
    /// It has said so at some time.
    pub(super) has_logged_in: bool,
    /// The user's name, if it has said one.
    pub(super) user: String,
}

impl About {
    /// Whether it is this user, which is `default` for those that have said no name.
    fn is_user(&self, user: &[u8]) -> bool {
        user == if self.user.is_empty() { b"default" } else { self.user.as_bytes() }
    }
}

impl Clients {
    /// Takes a connection in.
    pub(super) fn enter(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        mode: RespMode,
        certificate: Option<UserCertificate>,
    ) -> Arc<Client> {
        let now = system_clock::monotonic();
        let about = About {
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
            version: RespVersion::Two,
            command: "NULL",
            busy_at: now,
            request_bytes: 0,
            queued: None,
            watched: 0,
            principal: Principal::Nobody,
            has_logged_in: false,
            user: String::new(),
        };
        let client = Arc::new(Client {
            number: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            from,
            to,
            mode,
            certificate: certificate.map(Box::new),
            since: now,
            about: Mutex::new(about),
            place: Mutex::default(),
            killed: CancellationToken::new(),
            feed: Mutex::default(),
            fed: Notify::new(),
        });
        self.all.lock().insert(client.number, Arc::clone(&client));
        client
    }

    /// Lets a connection go.
    pub(super) fn leave(&self, client: &Client) {
        self.stop_monitoring(client);
        self.all.lock().remove(&client.number);
    }

    /// Ends the connections of these. They are told apart by who the client is, and by the serial number of its certificate.
    pub(super) fn end_those_of(&self, is_nobody: impl Fn(&Principal, Option<&[u8]>) -> bool) {
        for client in self.all.lock().values() {
            if is_nobody(&client.about.lock().principal, client.certificate.as_ref().map(|shown| &shown.serial[..])) {
                client.killed.cancel();
            }
        }
    }

    /// Lines about the connections that a filter names.
    pub(super) fn list(&self, filter: ClientListFilter<'_>) -> Vec<u8> {
        let all: Vec<Arc<Client>> = match filter {
            ClientListFilter::Kind(kind) if kind != ClientKind::Normal => Vec::new(),
            ClientListFilter::All | ClientListFilter::Kind(_) => self.all.lock().values().cloned().collect(),
            ClientListFilter::Ids(ids) => {
                // Each number is looked up once, however often it is named. A request may name a million.
                let numbers: HashSet<u64> = ids.filter_map(|id| u64::try_from(id).ok()).collect();
                let all = self.all.lock();
                all.values().filter(|client| numbers.contains(&client.number)).cloned().collect()
            }
        };
        let now = system_clock::monotonic();
        all.iter().flat_map(|client| client.line(now)).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.lock().len()
    }

    /// How many of them are parked.
    pub(super) fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Counts a connection as parked until that is dropped.
    pub(super) fn park(&self) -> ParkedCount<'_> {
        self.parked.fetch_add(1, Ordering::Relaxed);
        ParkedCount(&self.parked)
    }

    /// Closes the connections that a filter names, and says how many those were, and whether the one of `asking` is among them.
    /// Nobody sees the others any more.
    pub(super) fn kill(&self, filter: &ClientFilter<'_>, asking: u64) -> (usize, bool) {
        let now = system_clock::monotonic();
        let address_is = |wanted: Option<&[u8]>, address: SocketAddr| {
            wanted.is_none_or(|wanted| wanted == address.to_string().as_bytes())
        };
        let (mut killed, mut is_asking) = (0, false);
        self.all.lock().retain(|_, client| {
            let is_meant = filter.id.is_none_or(|id| u64::try_from(id) == Ok(client.number))
                && filter.kind.is_none_or(|kind| kind == ClientKind::Normal)
                && address_is(filter.address, client.from)
                && address_is(filter.local_address, client.to)
                && filter.age_min_s.is_none_or(|age_s| client.age_s(now) >= u64::try_from(age_s).unwrap_or(0))
                && filter.user.is_none_or(|user| client.about.lock().is_user(user))
                && !(filter.skips_me && client.number == asking);
            if !is_meant {
                return true;
            }
            killed += 1;
            if client.number == asking {
                // It is answered first.
                is_asking = true;
            } else {
                client.killed.cancel();
            }
            client.number == asking
        });
        (killed, is_asking)
    }

    /// From here on a connection is told what all others ask.
    pub(super) fn begin_monitoring(&self, client: &Client) {
        if client.feed.lock().replace(BytesMut::new()).is_none() {
            self.monitors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From here on it is not.
    pub(super) fn stop_monitoring(&self, client: &Client) {
        if client.feed.lock().take().is_some() {
            self.monitors.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether anybody is told.
    pub(super) fn are_monitored(&self) -> bool {
        self.monitors.load(Ordering::Relaxed) > 0
    }

    /// Tells the monitors of a request. `wall_us`: the time, in microseconds since 1970.
    pub(super) fn tell_monitors(&self, from: &Client, request: &Request, wall_us: u64) {
        let mut line = format!("+{}.{:06} [0 {}]", wall_us / 1_000_000, wall_us % 1_000_000, from.from).into_bytes();
        for argument in request.iter() {
            line.extend_from_slice(b" \"");
            let told = &argument[..argument.len().min(MONITOR_ARGUMENT_BYTES)];
            told.iter().for_each(|byte| put_escaped(&mut line, *byte));
            line.push(b'"');
        }
        line.extend_from_slice(b"\r\n");
        for client in self.all.lock().values() {
            let mut feed = client.feed.lock();
            let Some(waiting) = feed.as_mut() else { continue };
            if waiting.len() + line.len() > MONITOR_BYTES_MAX {
                client.killed.cancel();
            } else {
                waiting.put_slice(&line);
                client.fed.notify_one();
            }
        }
    }
}

fn put_escaped(line: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
        b'\n' => line.extend_from_slice(b"\\n"),
        b'\r' => line.extend_from_slice(b"\\r"),
        b'\t' => line.extend_from_slice(b"\\t"),
        0x07 => line.extend_from_slice(b"\\a"),
        0x08 => line.extend_from_slice(b"\\b"),
        b' '..=b'~' => line.push(byte),
        byte => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
    }
}

impl Client {
    /// Takes a place among the connections of a user for this one, which gives up the one that it has.
    ///
    /// # Errors
    /// That of `take`. It has none then.
    pub(super) fn take_place<E>(&self, take: impl FnOnce(Option<UserPlace>) -> Result<UserPlace, E>) -> Result<(), E> {
        let mut place = self.place.lock();
        *place = Some(take(place.take())?);
        Ok(())
    }

    /// Gives up the place among the connections of a user.
    pub(super) fn leave_place(&self) {
        *self.place.lock() = None;
    }

    /// Looks at what it has said, or notes it.
    pub(super) fn about<T>(&self, look: impl FnOnce(&mut About) -> T) -> T {
        look(&mut self.about.lock())
    }

    /// Takes what it is to be told as a monitor.
    pub(super) fn take_feed(&self) -> BytesMut {
        self.feed.lock().as_mut().map(BytesMut::split).unwrap_or_default()
    }

    /// Who it is by the certificate that it has shown.
    pub(super) fn shown(&self) -> Option<Principal> {
        let UserCertificate { user, serial } = &**self.certificate.as_ref()?;
        Some(Principal::Certificate { user: user.clone(), serial: serial.clone() })
    }

    /// Whether it is told what others ask.
    pub(super) fn is_monitor(&self) -> bool {
        self.feed.lock().is_some()
    }

    fn age_s(&self, now: Nanos) -> u64 {
        now.ms_since(self.since) / 1000
    }

    /// Its line of CLIENT LIST.
    pub(super) fn line(&self, now: Nanos) -> Vec<u8> {
        let About {
            name,
            library,
            library_version,
            version,
            command,
            busy_at,
            request_bytes,
            queued,
            watched,
            user,
            ..
        } = self.about.lock().clone();
        let user = if user.is_empty() { "default" } else { &user };
        let (age, idle) = (self.age_s(now), now.ms_since(busy_at) / 1000);
        let Self { number, from, to, .. } = self;
        let mut line = format!("id={number} addr={from} laddr={to} fd={number} name=").into_bytes();
        line.extend_from_slice(&name);
        let flags = match (self.is_monitor(), queued) {
            (true, _) => "O",
            (false, Some(_)) => "x",
            (false, None) => "N",
        };
        let multi = queued.and_then(|queued| i64::try_from(queued).ok()).unwrap_or(-1);
        let resp = version.number();
        let rest = format!(
            " age={age} idle={idle} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={multi} qbuf={request_bytes} \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={command} user={user} redir=-1 \
             resp={resp} lib-name="
        );
        line.extend_from_slice(rest.as_bytes());
        line.extend_from_slice(&library);
        line.extend_from_slice(b" lib-ver=");
        line.extend_from_slice(&library_version);
        line.extend_from_slice(format!(" watch={watched}").as_bytes());
        if self.mode == RespMode::Cluster {
            line.extend_from_slice(b" door=cluster");
        }
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_resp::Command;
    use kvorum_resp::command::ClientCommand;

    fn client(clients: &Clients, port: u16) -> Arc<Client> {
        clients.enter(([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 7430).into(), RespMode::Standalone, None)
    }

    #[test]
    fn those_that_a_filter_names_are_killed() {
        let clients = Clients::default();
        let (first, second, third) = (client(&clients, 1), client(&clients, 2), client(&clients, 3));
        assert_eq!(
            clients.kill(&ClientFilter { address: Some(b"127.0.0.1:2"), ..ClientFilter::OTHERS }, 1),
            (1, false)
        );
        assert!(second.killed.is_cancelled() && !third.killed.is_cancelled());
        assert_eq!(clients.count(), 2, "a connection that is killed is not seen any more");
        assert_eq!(
            clients.kill(&ClientFilter { id: Some(1), ..ClientFilter::OTHERS }, 1),
            (0, false),
            "not the one that asks"
        );
        assert_eq!(clients.kill(&ClientFilter { id: Some(1), skips_me: false, ..ClientFilter::OTHERS }, 1), (1, true));
        assert!(!first.killed.is_cancelled(), "it is answered first");
        assert_eq!(
            clients.kill(&ClientFilter { kind: Some(ClientKind::PubSub), ..ClientFilter::OTHERS }, 1),
            (0, false)
        );
        assert_eq!(clients.kill(&ClientFilter { age_min_s: Some(1_000), ..ClientFilter::OTHERS }, 1), (0, false));
        let list = String::from_utf8(clients.list(ClientListFilter::All)).unwrap();
        assert_eq!(list.lines().count(), 2, "{list}");
        assert_eq!(clients.kill(&ClientFilter::OTHERS, 1), (1, false));
        assert_eq!(clients.count(), 1);
        assert!(clients.list(ClientListFilter::Kind(ClientKind::Master)).is_empty());
    }

    #[test]
    fn clients_are_listed_by_number_in_their_order_and_once() {
        let clients = Clients::default();
        let _all = [client(&clients, 1), client(&clients, 2), client(&clients, 3)];
        let listed = |ids: &str| {
            let command = ["CLIENT", "LIST", "ID"].into_iter().chain(ids.split(' ')).map(str::as_bytes);
            let request = Request::of(&command.collect::<Vec<_>>());
            let spec = kvorum_resp::table::resolve(&request).unwrap();
            let Ok(Command::Client(ClientCommand::List(filter))) = Command::parse(spec, &request) else {
                panic!("{ids}")
            };
            let lines = String::from_utf8(clients.list(filter)).unwrap();
            lines.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listed("3 1 3 9 1"), ["id=1", "id=3"]);
        assert_eq!(listed("2"), ["id=2"]);
        assert!(listed("-1 0 4").is_empty());
    }

    #[test]
    fn who_is_parked_is_counted_until_that_ends() {
        let clients = Clients::default();
        let (first, second) = (clients.park(), clients.park());
        assert_eq!(clients.parked(), 2);
        drop(first);
        assert_eq!(clients.parked(), 1);
        drop(second);
        assert_eq!(clients.parked(), 0);
    }

    #[test]
    fn a_line_has_the_fields_of_redis_in_their_order() {
        let clients = Clients::default();
        let client = client(&clients, 1);
        client.about(|about| (about.name, about.request_bytes, about.watched) = (b"me".to_vec(), 26, 2));
        let line = String::from_utf8(client.line(client.since)).unwrap();
        assert_eq!(
            line,
            "id=1 addr=127.0.0.1:1 laddr=127.0.0.1:7430 fd=1 name=me age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 \
             multi=-1 qbuf=26 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r \
             cmd=NULL user=default redir=-1 resp=2 lib-name= lib-ver= watch=2\n"
        );
    }

    #[test]
    fn a_monitor_is_told_until_it_is_too_far_behind() {
        let clients = Clients::default();
        let (monitor, other) = (client(&clients, 1), client(&clients, 2));
        assert!(!clients.are_monitored());
        clients.begin_monitoring(&monitor);
        assert!(clients.are_monitored());
        let request = Request::of(&[b"SET", b"a\"\n\xff", b"1"]);
        clients.tell_monitors(&other, &request, 1_000_002);
        assert_eq!(monitor.take_feed(), "+1.000002 [0 127.0.0.1:2] \"SET\" \"a\\\"\\n\\xff\" \"1\"\r\n");
        for _ in 0..MONITOR_BYTES_MAX / 40 {
            clients.tell_monitors(&other, &request, 0);
        }
        assert!(monitor.killed.is_cancelled());
        assert!(monitor.take_feed().len() <= MONITOR_BYTES_MAX);
        clients.leave(&monitor);
        assert!(!clients.are_monitored());
    }
}
