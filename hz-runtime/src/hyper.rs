//! hyper on this runtime: its traits for [`Stream`], and what it spawns and times with.
//!
//! ```no_run
//! # async fn serve(listener: hz_runtime::net::TcpListener) -> std::io::Result<()> {
//! use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
//! use hz_runtime::hyper::HyperTimer;
//!
//! loop {
//!     let (stream, _) = listener.accept().await?;
//!     let echo = |request: Request<Incoming>| async {
//!         Ok::<_, hyper::Error>(Response::new(request.into_body()))
//!     };
//!     let mut http = http1::Builder::new();
//!     http.timer(HyperTimer);
//!     hz_runtime::spawn(http.serve_connection(stream, service_fn(echo)));
//! }
//! # }
//! ```

#![forbid(unsafe_code)]

use crate::net::{Socket, Stream};
use crate::task::{TaskMeta, spawn_with};
use crate::time::{self, Sleep};
use hyper::rt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

impl<S: Socket> rt::Read for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // To clear all of hyper's buffer before each read would cost more than to copy what came.
        let len = buffer.remaining();
        let append = |bytes: &[u8]| buffer.put_slice(bytes);
        ready!(self.poll_receive_into(context, len, append))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> rt::Write for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

/// Spawns what hyper wants to run beside a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperExecutor;

impl<F> rt::Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(spawn_with(TaskMeta::named("hyper"), future));
    }
}

/// Times hyper's timeouts.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl rt::Sleep for Sleep {}

impl rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(time::sleep(duration))
    }

    fn now(&self) -> Instant {
        time::now()
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(time::sleep_until(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}
