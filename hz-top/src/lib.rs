//! The live dashboard of hz. It shows what `hz-trace` records, while it happens; nothing is built
//! yet.
#![forbid(unsafe_code)]
