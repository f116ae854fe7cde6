//! The end of the nodes that are there: reads one question, and answers it.

use super::JoinHost;
use crate::peers::Shared;
use crate::peers::close::{CloseCode, LinkError};
use crate::peers::limits::{HANDSHAKE_TIMEOUT, JOIN_TIMEOUT};
use bytes::BytesMut;
use kvorum_protocol::limits::{FRAME_HEADER_BYTES, JOIN_FRAME_BYTES_MAX};
use kvorum_protocol::{DecodeError, JoinRequest, frame};
use quinn::Connection;
use std::sync::Arc;
use tokio::time::timeout;

/// Answers the node at the other end, if there is a place, and closes the connection.
pub(in crate::peers) async fn serve(shared: &Shared, connection: &Connection) -> Result<(), LinkError> {
    let refused = |code: CloseCode, detail: &str| Err(LinkError::Refused { code, detail: detail.to_owned() });
    let served = match (shared.join_places.take(connection.remote_address().ip()), shared.joins.get()) {
        (Ok(_place), Some(host)) => timeout(JOIN_TIMEOUT, answer(connection, Arc::clone(host)))
            .await
            .unwrap_or_else(|_| refused(CloseCode::Busy, "it takes too long: ask again")),
        (Err(why), _) => refused(CloseCode::Busy, &why.to_string()),
        (_, None) => refused(CloseCode::Busy, "the node has only just started: ask again"),
    };
    match &served {
        Ok(()) => CloseCode::Shutdown.close(connection, ""),
        Err(LinkError::Refused { code, detail }) => code.close(connection, detail),
        Err(error) => error.close_code().close(connection, ""),
    }
    served
}

async fn answer(connection: &Connection, host: Arc<dyn JoinHost>) -> Result<(), LinkError> {
    let broken = |detail: String| LinkError::Refused { code: CloseCode::Protocol, detail };
    let asked = timeout(HANDSHAKE_TIMEOUT, async {
        let (send, mut receive) = connection.accept_bi().await?;
        // It grows with what has come.
        let read = receive.read_to_end(FRAME_HEADER_BYTES + JOIN_FRAME_BYTES_MAX).await;
        Ok::<_, LinkError>((send, read.map_err(|error| broken(error.to_string()))?))
    });
    let (mut send, bytes) = asked.await.unwrap_or(Err(LinkError::HelloTimeout))?;
    let request = decode(&bytes).map_err(|error| broken(error.to_string()))?;
    let binding = super::binding(connection).map_err(|_| broken("the connection gives no keys".to_owned()))?;
    let reply = host.join(request, binding).await;
    let mut out = BytesMut::new();
    frame::encode(&mut out, |out| reply.encode(out));
    send.write_chunk(out.freeze()).await?;
    // Until the node has all of it; how it says so does not count.
    if send.finish().is_ok() {
        let _ = send.stopped().await;
    }
    Ok(())
}

/// The one question that a stream holds.
fn decode(bytes: &[u8]) -> Result<JoinRequest, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let body = frame::decode(&mut buffer, JOIN_FRAME_BYTES_MAX)?.ok_or(DecodeError::Truncated)?;
    if !buffer.is_empty() {
        return Err(DecodeError::TrailingBytes(buffer.len()));
    }
    JoinRequest::from_bytes(body)
}
