//! Writes a recording.

use super::reader::Recording;
use super::{
    CHUNK_MAGIC, ChunkHeader, ChunkKind, FileHeader, IndexEntry, MAGIC, Meta, PAYLOAD_MAX_BYTES,
    State, TRAILER_MAGIC, Trailer, VERSION, columns::Encoder,
};
use crate::symbol::SymbolTable;
use serde::Serialize;
use std::{
    fmt,
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
};
use zerocopy::IntoBytes;

/// Records that fill a chunk.
pub const RECORDS_PER_CHUNK: usize = 8192;

/// Level of compression. After the transposition, higher ones cost time and gain little.
const ZSTD_LEVEL: i32 = 1;

/// Chunks that the index names. A longer recording has none, and is scanned when it is read.
const INDEXED_CHUNKS_MAX: usize = 250_000;

/// Raw records of one stream, in the order they were read.
#[derive(Debug, Default)]
pub struct Batch {
    /// Which ring they came from.
    pub stream: u16,
    pub(super) bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Batch {
    /// An empty batch of `stream`.
    #[must_use]
    pub const fn new(stream: u16) -> Self {
        Self { stream, bytes: Vec::new(), ends: Vec::new() }
    }

    /// Adds a record. What is no record (no header, or no multiple of 8 bytes) is refused.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> bool {
        let is_record =
            record.len() >= 24 && record.len().is_multiple_of(8) && record.len() < 1 << 16;
        if is_record {
            self.bytes.extend_from_slice(record);
            self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        }
        is_record
    }

    /// Forgets the records and keeps their memory for those of another stream.
    pub fn reuse(&mut self, stream: u16) {
        self.stream = stream;
        self.bytes.clear();
        self.ends.clear();
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Length of all records, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let record = &self.bytes[start..*end as usize];
            start = *end as usize;
            record
        })
    }

    /// Earliest and latest time of the records, nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn range_ns(&self) -> (u64, u64) {
        let times = self.records().map(time_of);
        let (first, last) =
            times.fold((u64::MAX, 0), |(first, last), time| (time.min(first), time.max(last)));
        (first.min(last), last)
    }
}

/// A record's time, nanoseconds of `CLOCK_MONOTONIC`.
#[inline]
pub(super) fn time_of(record: &[u8]) -> u64 {
    let mut time = [0; 8];
    time.copy_from_slice(&record[..8]);
    u64::from_le_bytes(time)
}

/// Writes chunks to a file, or to anything else that takes bytes.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    offset: u64,
    index: Vec<IndexEntry>,
    encoder: Encoder,
    zstd: Zstd,
}

/// Compresses; kept for its memory.
struct Zstd {
    compressor: zstd::bulk::Compressor<'static>,
    /// Of the last chunk.
    stored: Vec<u8>,
}

impl Zstd {
    fn new() -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        Ok(Self { compressor, stored: Vec::new() })
    }

    /// Compresses `payload`.
    fn compress(&mut self, payload: &[u8]) -> io::Result<&[u8]> {
        self.stored.clear();
        self.stored.reserve(zstd::zstd_safe::compress_bound(payload.len()));
        self.compressor.compress_to_buffer(payload, &mut self.stored)?;
        Ok(&self.stored)
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("stored", &self.stored.len()).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(mut out: W, meta: &Meta) -> io::Result<Self> {
        out.write_all(FileHeader { magic: MAGIC, version: VERSION, reserved: 0 }.as_bytes())?;
        let offset = size_of::<FileHeader>() as u64;
        let mut writer = Self::at(offset, out, Vec::new())?;
        writer.json(ChunkKind::Meta, meta, meta.start_ns)?;
        Ok(writer)
    }

    /// Goes on at `offset`, behind the chunks of `index`.
    fn at(offset: u64, out: W, index: Vec<IndexEntry>) -> io::Result<Self> {
        Ok(Self { out, offset, index, encoder: Encoder::default(), zstd: Zstd::new()? })
    }

    /// Writes one batch as a chunk.
    ///
    /// # Errors
    ///
    /// Those of `out`. The recording is whole up to the chunk before.
    pub fn records(&mut self, batch: &Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.bytes() > PAYLOAD_MAX_BYTES {
            return Err(too_long());
        }
        let (first_ns, last_ns) = batch.range_ns();
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let header = ChunkHeader {
            kind: ChunkKind::Records as u16,
            stream: batch.stream,
            count,
            first_ns,
            last_ns,
            ..blank()
        };
        let payload = self.encoder.encode(batch, first_ns);
        let chunk = seal(header, payload, &mut self.zstd)?;
        self.push(&chunk)
    }

    /// Writes the ledger and the cost so far.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn state(&mut self, state: &State) -> io::Result<()> {
        self.json(ChunkKind::State, state, state.time_ns)
    }

    /// Ends the recording with its index and gives the file back.
    ///
    /// # Errors
    ///
    /// Those of `out`. Without an index the recording is whole too.
    pub fn finish(mut self, state: &State) -> io::Result<W> {
        self.state(state)?;
        if self.index.len() > INDEXED_CHUNKS_MAX {
            self.out.flush()?;
            return Ok(self.out);
        }
        self.write_index()?;
        Ok(self.out)
    }

    fn write_index(&mut self) -> io::Result<()> {
        let index_offset = self.offset;
        let entries = std::mem::take(&mut self.index);
        let header = ChunkHeader { kind: ChunkKind::Index as u16, ..blank() };
        self.chunk(header, entries.as_bytes())?;
        self.out.write_all(Trailer { index_offset, magic: TRAILER_MAGIC }.as_bytes())?;
        self.out.flush()
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.offset
    }

    fn json<T: Serialize>(&mut self, kind: ChunkKind, value: &T, time_ns: u64) -> io::Result<()> {
        let payload = serde_json::to_vec(value)?;
        let header =
            ChunkHeader { kind: kind as u16, first_ns: time_ns, last_ns: time_ns, ..blank() };
        self.chunk(header, &payload)
    }

    fn chunk(&mut self, header: ChunkHeader, payload: &[u8]) -> io::Result<()> {
        let chunk = seal(header, payload, &mut self.zstd)?;
        self.push(&chunk)
    }

    /// Writes header and payload in one call, so that a kill leaves a whole chunk or a torn one,
    /// never one that looks whole.
    fn push(&mut self, (header, bytes): &(ChunkHeader, Vec<u8>)) -> io::Result<()> {
        self.out.write_all(bytes)?;
        if self.index.len() <= INDEXED_CHUNKS_MAX {
            self.index.push(IndexEntry { offset: self.offset, header: *header });
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A chunk: its header, and all its bytes.
fn seal(
    header: ChunkHeader,
    payload: &[u8],
    zstd: &mut Zstd,
) -> io::Result<(ChunkHeader, Vec<u8>)> {
    let raw_bytes = length(payload)?;
    let stored = zstd.compress(payload)?;
    let payload_crc = crc32c::crc32c(stored);
    let header =
        ChunkHeader { raw_bytes, stored_bytes: length(stored)?, payload_crc, ..header }.seal();
    Ok((header, [header.as_bytes(), stored].concat()))
}

/// Adds symbols to the end of a recording, with a new index: what was there stays as it is, so that a
/// kill leaves the recording without the symbols, no less.
///
/// # Errors
///
/// Those of the file; a recording that was not ended properly gets no index.
pub fn add_symbols(recording: &Recording, file: &File, symbols: &SymbolTable) -> io::Result<()> {
    let offset = file.metadata()?.len();
    let mut out = file;
    out.seek(SeekFrom::Start(offset))?;
    let mut writer = Writer::at(offset, out, recording.chunks().to_vec())?;
    for chunk in symbols.chunks() {
        writer.json(ChunkKind::Symbols, &chunk, recording.meta.start_ns)?;
    }
    if recording.is_complete && writer.index.len() <= INDEXED_CHUNKS_MAX {
        writer.write_index()?;
    }
    Ok(())
}

fn length(payload: &[u8]) -> io::Result<u32> {
    if payload.len() > PAYLOAD_MAX_BYTES {
        return Err(too_long());
    }
    u32::try_from(payload.len()).map_err(|_| too_long())
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "chunk of more than 16 MiB")
}

const fn blank() -> ChunkHeader {
    ChunkHeader {
        magic: CHUNK_MAGIC,
        kind: 0,
        stream: 0,
        count: 0,
        raw_bytes: 0,
        stored_bytes: 0,
        payload_crc: 0,
        first_ns: 0,
        last_ns: 0,
        header_crc: 0,
        reserved: 0,
    }
}
