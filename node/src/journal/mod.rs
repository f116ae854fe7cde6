//! stub
#![allow(missing_docs)]
use crate::log::*; use kvorum_protocol::*; use std::sync::Arc; use std::collections::BTreeMap;
pub trait PersistListener:Send+Sync{fn persisted(&self,t:u64);}
pub struct Submission{pub chunks:Vec<Chunk>,pub token:u64,pub listener:Arc<dyn PersistListener>}
#[derive(Clone)] pub struct JournalHandle; impl JournalHandle{pub fn submit(&self,s:Submission){s.listener.persisted(s.token)} pub fn rounds(&self)->u64{0}}
pub struct Journal; #[derive(Debug,thiserror::Error)] #[error("j")] pub struct JournalError;
pub struct JournalOptions{pub file_bytes:u64,pub files:u32}
pub struct Replayed{pub durable:BTreeMap<ShardId,Position>}
pub fn replay(_:&Arc<dyn Disk>)->Result<Replayed,JournalError>{Ok(Replayed{durable:Default::default()})}
impl Journal{pub fn start(_:Arc<dyn Disk>,_:JournalOptions,_:Durability,_:Box<dyn Fn(JournalError)+Send+Sync>)->Result<(Journal,JournalHandle),JournalError>{Ok((Journal,JournalHandle))} pub fn stop(self)->Result<(),JournalError>{Ok(())}}
