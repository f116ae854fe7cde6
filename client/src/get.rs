//! Reads of one key and of many.

use crate::client::Client;
use crate::core::unexpected;
use crate::entry::Entry;
use crate::grouped::{Member, run_grouped};
use crate::key::check_key;
use crate::setters::read_setters;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::{ReadMode, RequestBody, ResponseBody};
use std::future::IntoFuture;
use std::time::Duration;

/// A read of one key; see [`Client::get`]. It resolves to the entry, or to `None` if there is no such key.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Get {
    client: Client,
    key: Bytes,
    mode: ReadMode,
    deadline: Option<Duration>,
}

impl Get {
    pub(crate) fn new(client: &Client, key: &[u8]) -> Self {
        let mode = client.core.options.read_mode;
        Self { client: client.clone(), key: Bytes::copy_from_slice(key), mode, deadline: None }
    }

    read_setters!("client.get(\"key\")");

    async fn run(self) -> Result<Option<Entry>, Error> {
        check_key(&self.key)?;
        let need = self.client.need_read(&self.key, self.mode);
        let body = RequestBody::Get { key: self.key.clone(), mode: self.mode };
        match self.client.call(need, Kind::Read, body, self.deadline).await? {
            ResponseBody::Value(entry) => Ok(entry.map(|entry| Entry::from_wire(self.key, entry))),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }
}

impl IntoFuture for Get {
    type Output = Result<Option<Entry>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A read of many keys; see [`Client::get_many`]. It resolves to a result per key, in the order asked.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct GetMany {
    client: Client,
    keys: Vec<Bytes>,
    mode: ReadMode,
    deadline: Option<Duration>,
}

impl GetMany {
    pub(crate) fn new(client: &Client, keys: Vec<Bytes>) -> Self {
        Self { client: client.clone(), keys, mode: client.core.options.read_mode, deadline: None }
    }

    read_setters!("client.get_many([\"a\", \"b\"])");

    async fn run(self) -> Vec<Result<Option<Entry>, Error>> {
        let deadline = self.client.deadline(self.deadline);
        let mut results: Vec<Option<Result<Option<Entry>, Error>>> = Vec::with_capacity(self.keys.len());
        let mut members = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.iter().enumerate() {
            let refused = check_key(key).err();
            if refused.is_none() {
                members.push(Member::new(index, key.clone(), key.len() + 8));
            }
            results.push(refused.map(Err));
        }
        let build = |members: &[Member]| RequestBody::MultiGet {
            keys: members.iter().map(|member| member.key.clone()).collect(),
            mode: self.mode,
        };
        let unpack = |body: ResponseBody| match body {
            ResponseBody::Values(values) => Ok(values),
            other => Err(unexpected(&other, Kind::Read)),
        };
        for (index, result) in run_grouped(&self.client, Kind::Read, deadline, members, build, unpack).await {
            let key = self.keys[index].clone();
            results[index] = Some(result.map(|entry| entry.map(|entry| Entry::from_wire(key, entry))));
        }
        results.into_iter().map(|result| result.expect("every key was refused or answered")).collect()
    }
}

impl IntoFuture for GetMany {
    type Output = Vec<Result<Option<Entry>, Error>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
