//! A netlink socket: asks for a dump and hands out its messages.

use super::{
    error::LookError,
    message::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, dump_request, messages, padded},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send,
        socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{os::fd::OwnedFd, time::Duration};

/// Bytes of one answer: the kernel never fills more than 32 KiB, and takes what it is offered.
const BUFFER_BYTES: usize = 64 << 10;

/// How long the kernel may take for one answer. It works in this thread's own system call.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// A phrase, for errors.
    pub(super) what: &'static str,
    /// The module that answers it.
    pub(super) module: &'static str,
    /// The type of the request.
    pub(super) request: u16,
    /// The type of the messages that answer it.
    pub(super) answer: u16,
    /// The request behind its header.
    pub(super) body: &'a [u8],
}

/// A netlink socket. It stays in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open(protocol: Option<Protocol>) -> rustix::io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Hands the payload of every answer to `each`; whether nothing changed meanwhile.
    pub(super) fn ask(
        &mut self,
        question: Question<'_>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool, LookError> {
        let Question { what, module, .. } = question;
        let failed = |error| LookError::of(what, module, error);
        self.sequence = self.sequence.wrapping_add(1);
        let request = dump_request(question.request, self.sequence, question.body);
        send(&self.fd, &request, SendFlags::empty()).map_err(failed)?;
        let mut is_steady = true;
        loop {
            let (_, length) =
                retry(|| recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC)).map_err(failed)?;
            let datagram = self.buffer.get(..length).ok_or(LookError::Cut { what })?;
            if datagram.is_empty() {
                return Err(LookError::Cut { what });
            }
            // What an earlier question left, if it was given up.
            let own = messages(datagram).filter(|(header, _)| header.sequence == self.sequence);
            for (header, payload) in own {
                is_steady &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        // A negated errno; 0 for a dump that ended well.
                        let result: i32 = padded(payload);
                        return match result {
                            0.. => Ok(is_steady),
                            error => Err(failed(Errno::from_raw_os_error(error.saturating_neg()))),
                        };
                    }
                    kind if kind == question.answer => each(payload),
                    _ => {}
                }
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
