//! The thread that compresses and writes, behind a channel that never grows.

use crate::recording::{Batch, Meta, State, Writer};
use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

/// Batches that may wait for the disk: 16 MiB at the most.
const WAITING_MAX: usize = 48;

enum Message {
    Batch(Batch),
    State(State),
    Finish(State),
}

/// Batches that are kept for their memory: fresh memory is cleared by the kernel, page by page, which
/// took a tenth of the recorder's time.
const SPARE_MAX: usize = 4;

/// Smaller ones are not worth keeping.
const SPARE_FROM_BYTES: usize = 128 << 10;

/// Writes batches as they come.
#[derive(Debug)]
pub(super) struct Disk {
    sender: Option<SyncSender<Message>>,
    spares: Receiver<Batch>,
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl Disk {
    /// Writes the beginning of the recording, then starts the thread.
    pub(super) fn start<W: Write + Send + 'static>(out: W, meta: &Meta) -> io::Result<Self> {
        let writer = Writer::new(out, meta)?;
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let (written, spares) = sync_channel(SPARE_MAX);
        let thread = std::thread::Builder::new()
            .name("hz-disk".to_owned())
            .spawn(move || write_all(writer, &receiver, &written))?;
        Ok(Self { sender: Some(sender), spares, thread: Some(thread) })
    }

    /// A batch that was written, to be used again.
    pub(super) fn spare(&self) -> Option<Batch> {
        self.spares.try_recv().ok()
    }

    /// Hands a batch over, or gives it back if the disk is too slow for it.
    pub(super) fn write(&self, batch: Batch) -> Option<Batch> {
        match self.sender.as_ref()?.try_send(Message::Batch(batch)) {
            Err(TrySendError::Full(Message::Batch(batch))) => Some(batch),
            _ => None,
        }
    }

    /// Hands a batch over, however long the disk takes.
    pub(super) fn write_waiting(&self, batch: Batch) {
        if let Some(sender) = &self.sender {
            // Fails only if the thread has ended, and then `check` says why.
            let _ = sender.send(Message::Batch(batch));
        }
    }

    /// Hands the ledger over; if the disk is too slow, the next one will do.
    pub(super) fn write_state(&self, state: State) {
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::State(state));
        }
    }

    /// Whether writing still works.
    ///
    /// # Errors
    ///
    /// That which ended the thread.
    pub(super) fn check(&mut self) -> io::Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join().map(|_| ())
        } else {
            Ok(())
        }
    }

    /// Ends the recording; its length in bytes.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub(super) fn finish(mut self, state: State) -> io::Result<u64> {
        if let Some(sender) = self.sender.take() {
            // Fails only if the thread has ended, and then `join` says why.
            let _ = sender.send(Message::Finish(state));
        }
        self.join()
    }

    fn join(&mut self) -> io::Result<u64> {
        let Some(thread) = self.thread.take() else { return Ok(0) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
    }
}

fn write_all<W: Write>(
    mut writer: Writer<W>,
    receiver: &Receiver<Message>,
    written: &SyncSender<Batch>,
) -> io::Result<u64> {
    for message in receiver {
        match message {
            Message::Batch(batch) => {
                writer.records(&batch)?;
                if batch.bytes() >= SPARE_FROM_BYTES {
                    // If there are enough, its memory is given back.
                    let _ = written.try_send(batch);
                }
            }
            Message::State(state) => writer.state(&state)?,
            Message::Finish(state) => {
                let bytes = writer.bytes();
                writer.finish(&state)?;
                return Ok(bytes);
            }
        }
    }
    Ok(writer.bytes())
}
