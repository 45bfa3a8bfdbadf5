//! As much of HTTP as it takes to read the service's own answers. A whole client would cost the load more
//! CPU time than the service needs to answer.

use hz_runtime::net::TcpStream;
use std::io;

/// No answer's head is longer.
const HEAD_MAX_BYTES: usize = 16 << 10;

/// Reads answers, one after the other.
#[derive(Debug)]
pub(crate) struct Answers {
    buffer: Vec<u8>,
    /// Bytes in it that have been received and belong to no answer yet.
    filled: usize,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; HEAD_MAX_BYTES], filled: 0 }
    }

    /// Receives one answer; returns its status.
    ///
    /// # Errors
    ///
    /// If the connection ends before the answer does, or what came is no answer.
    pub(crate) async fn next(&mut self, stream: &TcpStream) -> io::Result<u16> {
        let (status, bytes) = loop {
            if let Some((status, head, body)) = parse(&self.buffer[..self.filled])? {
                break (status, head.saturating_add(body));
            }
            self.receive(stream).await?;
        };
        let mut left = bytes;
        while left > self.filled {
            // The body is of no interest.
            left -= self.filled;
            self.filled = 0;
            self.receive(stream).await?;
        }
        self.buffer.copy_within(left..self.filled, 0);
        self.filled -= left;
        Ok(status)
    }

    async fn receive(&mut self, stream: &TcpStream) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head has no end"));
        }
        let received = stream.read(&mut self.buffer[self.filled..]).await?;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += received;
        Ok(())
    }
}

/// Status, length of the head and of the body, once the head is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no answer in HTTP/1.1");
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|line| line.get(..3)?.parse().ok()).ok_or_else(invalid)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((status, end + 4, length.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_once_it_is_whole() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 12\r\n\r\nnothing here";
        assert_eq!(parse(&answer[..44]).unwrap(), None);
        assert_eq!(parse(answer).unwrap(), Some((404, 46, 12)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"HTTP/1.1 2\r\n\r\n", b"\xff\xff\r\n\r\n"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
