//! What programs say they do: requests, spans, and the buffers they hold.

use super::Folder;
use crate::model::{BufferUse, ThreadIndex, UserSpan};
use hz_probes_ebpf::{Kind, runtime::RuntimeEvent};

impl Folder {
    pub(super) fn span_begin(
        &mut self,
        runtime: u32,
        (kind, thread): (Kind, ThreadIndex),
        event: &RuntimeEvent,
    ) {
        let task = self.maybe_task(runtime, event.task);
        let model = &mut self.model.runtimes[runtime as usize];
        let (list, open) = match kind {
            Kind::RequestBegin => (&mut model.requests, &mut self.runtimes.requests),
            _ => (&mut model.user_spans, &mut self.runtimes.user_spans),
        };
        open.insert((runtime, event.value), list.len());
        let (id, text, start_ns) = (event.value, event.header.arg, event.header.time_ns);
        list.push(UserSpan { id, task, thread, text, start_ns, end_ns: None, status: 0 });
    }

    pub(super) fn span_end(&mut self, runtime: u32, kind: Kind, event: &RuntimeEvent) {
        let model = &mut self.model.runtimes[runtime as usize];
        let (list, open) = match kind {
            Kind::RequestEnd => (&mut model.requests, &mut self.runtimes.requests),
            _ => (&mut model.user_spans, &mut self.runtimes.user_spans),
        };
        let Some(place) = open.remove(&(runtime, event.value)) else { return };
        let span = &mut list[place];
        span.end_ns = Some(event.header.time_ns.max(span.start_ns));
        if kind == Kind::RequestEnd {
            span.status = event.header.arg;
        }
    }

    /// A buffer of the pool was taken or came back. One that was taken before the recording only
    /// comes back; one whose return was lost is taken again.
    pub(super) fn buffer(&mut self, runtime: u32, kind: Kind, event: &RuntimeEvent) {
        let task = self.maybe_task(runtime, event.task);
        let buffers = &mut self.model.runtimes[runtime as usize].buffers;
        let open = &mut self.runtimes.buffers;
        let (key, time_ns) = ((runtime, event.value), event.header.time_ns);
        if kind == Kind::BufferReturned {
            let taken = open.remove(&key).map(|place| &mut buffers[place]);
            if let Some(buffer) = taken {
                buffer.returned_ns = Some(time_ns.max(buffer.taken_ns));
            }
            return;
        }
        open.insert(key, buffers.len());
        buffers.push(BufferUse {
            task,
            bytes: event.header.arg,
            page_log2: u8::try_from(event.aux).unwrap_or(0),
            taken_ns: time_ns,
            returned_ns: None,
        });
    }
}
