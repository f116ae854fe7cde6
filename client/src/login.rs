//! Saying who the client is, once a node has answered HELLO.

use bytes::BytesMut;
use kvorum_client_core::ConnectionError;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    AuthRequest, DecodeError, ErrorCode, Request, RequestBody, RequestId, Response, ResponseBody, ServerError, frame,
};
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Who the client says that it is. Without any, a certificate says it, or nobody does.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// By a token, as `USER TOKEN` of kvorum-cli shows it. Without TLS whoever listens can read it.
    Token(String),
    /// By a user's name and password. The password does not leave the client: SCRAM-SHA-256 proves that it is known, within the
    /// TLS connection if there is one. Each new connection costs about 30 ms of processor time.
    #[cfg(feature = "passwords")]
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(…)"),
            #[cfg(feature = "passwords")]
            Self::Password { user, .. } => write!(f, "Password({user:?}, …)"),
        }
    }
}

/// A stream on which the node has answered HELLO, and what has come behind that.
pub(crate) struct Greeted<'a, S> {
    pub(crate) address: &'a str,
    pub(crate) stream: &'a mut S,
    pub(crate) buffer: &'a mut BytesMut,
    /// What both ends see of the channel alone, if TLS is spoken.
    #[cfg_attr(not(feature = "passwords"), allow(dead_code, reason = "logins by password are bound to it"))]
    pub(crate) binding: Option<[u8; 32]>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeted<'_, S> {
    /// Says who the client is.
    ///
    /// # Errors
    /// `Refused` if the node does not let it in, or can't prove that it knows the user; else as any connection.
    pub(crate) async fn log_in(&mut self, credentials: &Credentials) -> Result<(), ConnectionError> {
        match credentials {
            Credentials::Token(token) => {
                let request = AuthRequest::Token(token.clone().into_bytes().into());
                match self.ask(request).await? {
                    ResponseBody::Authenticated { .. } => Ok(()),
                    _ => Err(self.unexpected()),
                }
            }
            #[cfg(feature = "passwords")]
            Credentials::Password { user, password } => self.log_in_by_password(user, password).await,
        }
    }

    #[cfg(feature = "passwords")]
    async fn log_in_by_password(&mut self, user: &str, password: &str) -> Result<(), ConnectionError> {
        let (scram, first) = kvorum_scram::Client::begin(user, rand::random(), self.binding);
        let ResponseBody::Challenge(challenge) = self.ask(AuthRequest::Scram(first.into_bytes().into())).await? else {
            return Err(self.unexpected());
        };
        let password = password.to_owned().into_bytes();
        // Tens of milliseconds, which nobody else should wait for.
        let proving = tokio::task::spawn_blocking(move || scram.prove(&challenge, &password)).await;
        let (scram, proof) =
            proving.map_err(|_| self.unexpected())?.map_err(|error| self.refused(&error.to_string()))?;
        let ResponseBody::Authenticated { proof, .. } = self.ask(AuthRequest::Proof(proof.into_bytes().into())).await?
        else {
            return Err(self.unexpected());
        };
        scram.check(&proof).map_err(|error| self.refused(&error.to_string()))
    }

    async fn ask(&mut self, request: AuthRequest) -> Result<ResponseBody, ConnectionError> {
        let mut out = BytesMut::new();
        Request { id: LOGIN_ID, deadline_ms: 0, body: RequestBody::Auth(request) }.encode(&mut out);
        let sent = self.stream.write_all(&out).await;
        sent.map_err(|error| self.failed(error))?;
        loop {
            let body = frame::decode(self.buffer, FRAME_BYTES_MAX).map_err(|source| self.malformed(source))?;
            if let Some(body) = body {
                let response = Response::decode(body).map_err(|source| self.malformed(source))?;
                match response.body {
                    ResponseBody::Error(source) => {
                        return Err(ConnectionError::Refused { address: self.address.to_owned(), source });
                    }
                    // What nobody asked for may come at any time.
                    _ if response.id.0 == 0 => {}
                    body => return Ok(body),
                }
            } else {
                let read = self.stream.read_buf(self.buffer).await;
                if read.map_err(|error| self.failed(error))? == 0 {
                    return Err(self.refused("the node has closed the connection during the login"));
                }
            }
        }
    }

    fn failed(&self, error: std::io::Error) -> ConnectionError {
        ConnectionError::Io { address: self.address.to_owned(), source: Arc::new(error) }
    }

    fn malformed(&self, source: DecodeError) -> ConnectionError {
        ConnectionError::Malformed { address: self.address.to_owned(), source }
    }

    fn unexpected(&self) -> ConnectionError {
        self.malformed(DecodeError::UnknownValue { field: "answer to a login", value: 0 })
    }

    fn refused(&self, detail: &str) -> ConnectionError {
        let source = ServerError::new(ErrorCode::Unauthenticated, detail);
        ConnectionError::Refused { address: self.address.to_owned(), source }
    }
}

/// One that HELLO does not have. Requests come later, and count from the next one.
const LOGIN_ID: RequestId = RequestId(2);
