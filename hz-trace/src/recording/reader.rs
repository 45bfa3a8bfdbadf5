//! Reads a recording, whole, torn or damaged.

use super::{
    CHUNK_MAGIC, ChunkHeader, ChunkKind, FileHeader, IndexEntry, MAGIC, Meta, State, TRAILER_MAGIC,
    Trailer, VERSION,
    columns::{self, Rows},
};
use crate::{
    decode::{DecodeError, Event, decode},
    symbol::{SymbolChunk, SymbolTable},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use zerocopy::FromBytes;

/// Why a file cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system said no.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It does not begin as one.
    #[error("{} is not a recording of hz", path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
    },
    /// A newer hz wrote it.
    #[error("{} has format {version}, this hz reads up to {VERSION}; use a newer hz", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Version of its structure.
        version: u32,
    },
    /// Nothing in it says what was recorded.
    #[error("{} is damaged: its first chunk cannot be read", path.display())]
    NoMeta {
        /// The file.
        path: PathBuf,
    },
}

/// A recording that can be replayed.
#[derive(Debug)]
pub struct Recording {
    /// What was recorded, where and how.
    pub meta: Meta,
    /// The last ledger and cost that were written.
    pub state: State,
    /// Whether the recorder ended the file; else it was killed, or the file is cut.
    pub is_complete: bool,
    /// Bytes that belong to no sound chunk.
    pub damaged_bytes: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    file: File,
    chunks: Vec<IndexEntry>,
}

impl Recording {
    /// Opens a recording.
    ///
    /// # Errors
    ///
    /// [`ReadError`]. A torn or damaged file is no error as long as its first chunk is sound.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        check_header(&file, path)?;
        let (chunks, damaged_bytes) = match read_index(&file, bytes) {
            Some(chunks) => (chunks, 0),
            None => scan(&file, bytes).map_err(failed)?,
        };
        let meta = json_chunks(&file, &chunks, ChunkKind::Meta)
            .next()
            .ok_or_else(|| ReadError::NoMeta { path: path.to_owned() })?;
        let state: State = json_chunks(&file, &chunks, ChunkKind::State).last().unwrap_or_default();
        let is_complete = state.is_final;
        Ok(Self { meta, state, is_complete, damaged_bytes, bytes, file, chunks })
    }

    /// The events in the order of their time.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        self.events_between(0, u64::MAX)
    }

    /// The events of chunks that overlap `[start_ns, end_ns]`, in the order of their time.
    ///
    /// Events before the interval come too, as far as they share a chunk with some within.
    #[must_use]
    pub fn events_between(&self, start_ns: u64, end_ns: u64) -> Events<'_> {
        let mut streams: BTreeMap<u16, Stream> = BTreeMap::new();
        let wanted = self.chunks.iter().filter(|entry| {
            entry.header.kind == ChunkKind::Records as u16
                && entry.header.last_ns >= start_ns
                && entry.header.first_ns <= end_ns
        });
        for entry in wanted {
            streams.entry(entry.header.stream).or_default().chunks.push_back(*entry);
        }
        Events::new(&self.file, streams.into_values().collect())
    }

    /// The latest time in the recording, nanoseconds of `CLOCK_MONOTONIC`: that of its last state,
    /// or of its records where the recorder was killed.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        let records =
            self.chunks.iter().filter(|entry| entry.header.kind == ChunkKind::Records as u16);
        let last = records.map(|entry| entry.header.last_ns).max().unwrap_or(0);
        let last = if self.is_complete { self.state.time_ns } else { last };
        last.max(self.meta.start_ns)
    }

    /// Names of functions that were found so far.
    #[must_use]
    pub fn symbols(&self) -> SymbolTable {
        let mut table = SymbolTable::default();
        let chunks = json_chunks(&self.file, &self.chunks, ChunkKind::Symbols);
        chunks.for_each(|chunk: SymbolChunk| table.add(&chunk));
        table
    }

    pub(super) fn chunks(&self) -> &[IndexEntry] {
        &self.chunks
    }

    /// Number of records in the file, by its chunk headers.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.chunks.iter().map(|entry| u64::from(entry.header.count)).sum()
    }
}

fn check_header(file: &File, path: &Path) -> Result<(), ReadError> {
    let mut bytes = [0; size_of::<FileHeader>()];
    let not_a_recording = || ReadError::NotARecording { path: path.to_owned() };
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(not_a_recording()),
        Err(source) => return Err(ReadError::Io { path: path.to_owned(), source }),
    }
    let header = FileHeader::read_from_bytes(&bytes).map_err(|_| not_a_recording())?;
    if header.magic != MAGIC {
        return Err(not_a_recording());
    }
    if header.version > VERSION {
        return Err(ReadError::TooNew { path: path.to_owned(), version: header.version });
    }
    Ok(())
}

fn header_at(file: &File, offset: u64) -> Option<ChunkHeader> {
    let mut bytes = [0; size_of::<ChunkHeader>()];
    file.read_exact_at(&mut bytes, offset).ok()?;
    ChunkHeader::read_from_bytes(&bytes).ok().filter(ChunkHeader::is_sound)
}

/// The payload of a chunk, or `None` if it is damaged.
fn payload_at(file: &File, entry: &IndexEntry) -> Option<Vec<u8>> {
    let mut stored = vec![0; entry.header.stored_bytes as usize];
    let offset = entry.offset + size_of::<ChunkHeader>() as u64;
    file.read_exact_at(&mut stored, offset).ok()?;
    if crc32c::crc32c(&stored) != entry.header.payload_crc {
        return None;
    }
    let raw = zstd::bulk::decompress(&stored, entry.header.raw_bytes as usize).ok()?;
    (raw.len() == entry.header.raw_bytes as usize).then_some(raw)
}

/// The index of a file that was ended properly.
fn read_index(file: &File, bytes: u64) -> Option<Vec<IndexEntry>> {
    let mut trailer = [0; size_of::<Trailer>()];
    let offset = bytes.checked_sub(trailer.len() as u64)?;
    file.read_exact_at(&mut trailer, offset).ok()?;
    let trailer = Trailer::read_from_bytes(&trailer).ok()?;
    if trailer.magic != TRAILER_MAGIC {
        return None;
    }
    let header = header_at(file, trailer.index_offset)?;
    let payload = payload_at(file, &IndexEntry { offset: trailer.index_offset, header })?;
    let entries = <[IndexEntry]>::ref_from_bytes(&payload).ok()?;
    let is_sound = |entry: &IndexEntry| entry.header.is_sound() && entry.offset < bytes;
    entries.iter().all(is_sound).then(|| entries.to_vec())
}

fn is_trailer_at(file: &File, offset: u64) -> bool {
    let mut bytes = [0; size_of::<Trailer>()];
    file.read_exact_at(&mut bytes, offset).is_ok() && bytes.ends_with(&TRAILER_MAGIC)
}

/// Finds the chunks of a file without an index, and counts bytes that are in none.
fn scan(file: &File, bytes: u64) -> io::Result<(Vec<IndexEntry>, u64)> {
    let mut chunks = Vec::new();
    let mut damaged = 0;
    let mut offset = size_of::<FileHeader>() as u64;
    while offset < bytes {
        let Some(header) = header_at(file, offset) else {
            // An index that something was added behind has its trailer left.
            if is_trailer_at(file, offset) {
                offset += size_of::<Trailer>() as u64;
                continue;
            }
            let next = next_chunk(file, offset + 1, bytes)?.unwrap_or(bytes);
            damaged += next - offset;
            offset = next;
            continue;
        };
        let end = offset + (size_of::<ChunkHeader>() as u64) + u64::from(header.stored_bytes);
        if end > bytes {
            damaged += bytes - offset;
            break;
        }
        chunks.push(IndexEntry { offset, header });
        offset = end;
    }
    Ok((chunks, damaged))
}

/// Where the next sound chunk header begins, from `offset` on.
fn next_chunk(file: &File, mut offset: u64, bytes: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; 1 << 16];
    while offset < bytes {
        let length = file.read_at(&mut window, offset)?;
        if length == 0 {
            break;
        }
        for at in memchr_chunk(&window[..length]) {
            if header_at(file, offset + at as u64).is_some() {
                return Ok(Some(offset + at as u64));
            }
        }
        // The magic may lie across two windows.
        offset += (length.saturating_sub(CHUNK_MAGIC.len() - 1)).max(1) as u64;
    }
    Ok(None)
}

fn memchr_chunk(window: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let places = window.windows(CHUNK_MAGIC.len()).enumerate();
    places.filter(|(_, bytes)| *bytes == CHUNK_MAGIC).map(|(at, _)| at)
}

fn json_chunks<'a, T: serde::de::DeserializeOwned>(
    file: &'a File,
    chunks: &'a [IndexEntry],
    kind: ChunkKind,
) -> impl Iterator<Item = T> + 'a {
    let wanted = chunks.iter().filter(move |entry| entry.header.kind == kind as u16);
    wanted.filter_map(|entry| serde_json::from_slice(&payload_at(file, entry)?).ok())
}

/// One ring's records, a chunk at a time.
#[derive(Debug, Default)]
struct Stream {
    chunks: VecDeque<IndexEntry>,
    rows: Rows,
    next: usize,
    damaged_chunks: u64,
}

impl Stream {
    /// The time of the next record; loads the next chunk if need be.
    fn next_ns(&mut self, file: &File) -> Option<u64> {
        while self.next == self.rows.len() {
            let entry = self.chunks.pop_front()?;
            let rows = payload_at(file, &entry)
                .and_then(|payload| columns::decode(&payload, entry.header.first_ns));
            self.damaged_chunks += u64::from(rows.is_none());
            self.rows = rows.unwrap_or_default();
            self.next = 0;
        }
        self.rows.time_ns(self.next)
    }
}

/// Events of all streams, merged by time.
#[derive(Debug)]
pub struct Events<'a> {
    file: &'a File,
    streams: Vec<Stream>,
    /// The next time of every stream but the current one.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    /// The stream being read, and the time up to which it is the earliest.
    current: Option<(usize, u64)>,
}

impl<'a> Events<'a> {
    fn new(file: &'a File, mut streams: Vec<Stream>) -> Self {
        let times = streams.iter_mut().enumerate();
        let queue = times
            .filter_map(|(place, stream)| Some(Reverse((stream.next_ns(file)?, place))))
            .collect();
        Self { file, streams, queue, current: None }
    }

    /// Chunks whose records could not be read.
    #[must_use]
    pub fn damaged_chunks(&self) -> u64 {
        self.streams.iter().map(|stream| stream.damaged_chunks).sum()
    }

    /// The stream whose next record is the earliest of all.
    fn earliest(&mut self) -> Option<usize> {
        if let Some((place, until_ns)) = self.current {
            match self.streams[place].next_ns(self.file) {
                Some(time_ns) if time_ns <= until_ns => return Some(place),
                Some(time_ns) => self.queue.push(Reverse((time_ns, place))),
                None => {}
            }
        }
        let Reverse((_, place)) = self.queue.pop()?;
        let until_ns = self.queue.peek().map_or(u64::MAX, |Reverse((time_ns, _))| *time_ns);
        self.current = Some((place, until_ns));
        Some(place)
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.earliest()?;
        let stream = &mut self.streams[place];
        let event = decode(stream.rows.record(stream.next));
        stream.next += 1;
        Some(event)
    }
}
