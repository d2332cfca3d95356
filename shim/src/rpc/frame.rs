//! Ten bytes of header, then a message.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const REQUEST: u8 = 1;
pub(super) const RESPONSE: u8 = 2;

/// The longest message of the protocol.
pub(super) const MAX: usize = 4 << 20;

const HEADER: usize = 10;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stream: u32,
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
}

/// None: the other side has closed the connection.
///
/// # Errors
/// read(2); a message that is too long.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    if let Err(error) = from.read_exact(&mut header).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = number(0) as usize;
    if length > MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    // what was announced may never come: memory is taken for what has
    let mut payload = Vec::with_capacity(length.min(64 << 10));
    from.take(length as u64).read_to_end(&mut payload).await?;
    if payload.len() < length {
        return Ok(None);
    }
    Ok(Some(Frame { stream: number(4), kind: header[8], payload }))
}

pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let length = u32::try_from(frame.payload.len()).ok().filter(|&length| length as usize <= MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut bytes = Vec::with_capacity(HEADER + frame.payload.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(frame.stream.to_be_bytes());
    bytes.extend([frame.kind, 0]);
    bytes.extend(&frame.payload);
    to.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
    }

    #[test]
    fn there_and_back() {
        let frame = Frame { stream: 3, kind: REQUEST, payload: b"abc".to_vec() };
        let mut bytes = Vec::new();
        run(write(&mut bytes, &frame)).expect("written");
        assert_eq!(bytes, b"\0\0\0\x03\0\0\0\x03\x01\0abc");
        assert_eq!(run(read(&mut &*bytes)).expect("read"), Some(frame));
        for length in 0..bytes.len() {
            assert_eq!(run(read(&mut &bytes[..length])).expect("read"), None, "{length}");
        }
        assert!(run(read(&mut &b"\xff\0\0\0\0\0\0\x01\x01\0"[..])).is_err());
    }
}
