//! One request at a time.

use std::io;
use std::path::Path;

use containerd_shim_protos::protobuf::{EnumOrUnknown, Message};
use containerd_shim_protos::ttrpc::{Code, Request, Response};
use tokio::net::UnixStream;

use super::frame::{self, Frame, REQUEST, RESPONSE};
use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Client {
    connection: UnixStream,
    /// The number of the last request; a client's are odd.
    stream: u32,
}

impl Client {
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { connection: UnixStream::connect(path).await?, stream: 0 })
    }

    /// The answer. After an error of the outer kind the connection is of no more use.
    pub(crate) async fn call(
        &mut self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> io::Result<Result<Vec<u8>, Failure>> {
        self.stream = if self.stream == 0 { 1 } else { self.stream.wrapping_add(2) };
        let request = Request { service: service.into(), method: method.into(), payload, ..Request::default() };
        let payload = request.write_to_bytes().map_err(io::Error::other)?;
        frame::write(&mut self.connection, &Frame { stream: self.stream, kind: REQUEST, payload }).await?;
        loop {
            let frame = frame::read(&mut self.connection).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if frame.kind == RESPONSE && frame.stream == self.stream {
                let response = Response::parse_from_bytes(&frame.payload).map_err(io::Error::other)?;
                return Ok(match response.status.into_option() {
                    Some(status) if status.code != EnumOrUnknown::new(Code::OK) => {
                        Err(Failure::new(status.code.enum_value_or(Code::UNKNOWN), status.message))
                    }
                    _ => Ok(response.payload),
                });
            }
        }
    }
}
