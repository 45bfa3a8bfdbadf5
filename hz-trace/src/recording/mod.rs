//! The `.hzt` file: a magic number, then chunks. `docs/format.md` describes it byte by byte.
//!
//! A chunk is whole or it is not there: its header and its payload each carry a checksum, so a
//! file that ends anywhere, or is damaged anywhere, reads up to and after the damage.

mod columns;
mod meta;
mod reader;
mod schema;
mod schema_net;
mod schema_net_host;
mod writer;

pub use meta::{BpfCost, LedgerRow, Meta, OwnCost, RuntimeProcess, State, Target, UsdtName};
pub use reader::{Events, ReadError, Recording};
pub use schema::{Field, RecordSchema, schema};
pub use writer::{Batch, RECORDS_PER_CHUNK, Writer, add_symbols};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first eight bytes of every recording.
const MAGIC: [u8; 8] = *b"hz-trace";

/// Version of the file's structure. Kinds of chunks and records may be added without a new one.
/// Version 1 left no columns out.
const VERSION: u32 = 2;

/// The first four bytes of every chunk.
const CHUNK_MAGIC: [u8; 4] = *b"hzc1";

/// The last eight bytes of a recording that was ended properly.
const TRAILER_MAGIC: [u8; 8] = *b"hz-index";

/// No payload is larger, stored or raw: a damaged length cannot ask for more memory.
const PAYLOAD_MAX_BYTES: usize = 16 << 20;

/// What a file begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHeader {
    magic: [u8; 8],
    version: u32,
    reserved: u32,
}

/// What a chunk begins with. Little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ChunkHeader {
    magic: [u8; 4],
    /// A [`ChunkKind`] as it travels.
    kind: u16,
    /// Which of the recording's rings the records came from.
    stream: u16,
    /// Records in the chunk.
    count: u32,
    /// Length of the payload once decompressed.
    raw_bytes: u32,
    /// Length of the payload in the file.
    stored_bytes: u32,
    /// CRC32C of the payload as stored.
    payload_crc: u32,
    /// Earliest time in the chunk, nanoseconds of `CLOCK_MONOTONIC`.
    first_ns: u64,
    /// Latest time in the chunk.
    last_ns: u64,
    /// CRC32C of the 40 bytes before this field.
    header_crc: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<ChunkHeader>() == 48);

impl ChunkHeader {
    fn seal(mut self) -> Self {
        self.header_crc = crc32c::crc32c(&self.as_bytes()[..40]);
        self
    }

    fn is_sound(&self) -> bool {
        self.magic == CHUNK_MAGIC
            && self.header_crc == crc32c::crc32c(&self.as_bytes()[..40])
            && self.raw_bytes as usize <= PAYLOAD_MAX_BYTES
            && self.stored_bytes as usize <= PAYLOAD_MAX_BYTES
    }
}

/// What a chunk holds. A reader skips kinds it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkKind {
    /// [`Meta`] as JSON: the first chunk.
    Meta = 1,
    /// Records of one stream, in columns.
    Records = 2,
    /// [`State`] as JSON: the ledger and the cost so far, once a second and at the end.
    State = 3,
    /// Place and header of every chunk before it.
    Index = 4,
    /// A [`SymbolChunk`](crate::symbol::SymbolChunk) as JSON: names of functions in stacks. It may be
    /// added to a recording that was ended, behind its index.
    Symbols = 5,
}

/// What a file that was ended properly ends with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Trailer {
    index_offset: u64,
    magic: [u8; 8],
}

/// A chunk's place in the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IndexEntry {
    offset: u64,
    header: ChunkHeader,
}
const _: () = assert!(size_of::<IndexEntry>() == 56);

/// Compresses what is kept in memory for a while; [`decompress`] gives it back.
#[must_use]
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut packed = zstd::bulk::compress(bytes, 1).unwrap_or_default();
    // It was made as long as the worst case.
    packed.shrink_to_fit();
    packed
}

/// What [`compress`] was given; `None` if that is not what these bytes are.
#[must_use]
pub fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::decompress(bytes, PAYLOAD_MAX_BYTES).ok()
}

#[cfg(test)]
mod tests;
