//! stub
use super::{Scene, canvas::Canvas};
use std::io;
pub(super) fn embed(_scene: &Scene<'_>, _canvas: &Canvas) -> io::Result<()> {
    Ok(())
}
