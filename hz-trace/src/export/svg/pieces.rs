//! Less detail: tiles shorter than a resolution are gathered, longer ones are kept.

/// Something that lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice<T> {
    pub(super) what: T,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

impl<T> Slice<T> {
    pub(super) const fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// Gathers tiles that come in order and touch. `each` gets one tile that is kept, or several that
/// together are one piece; the pieces tile the same time as the tiles.
pub(super) fn gather<T: Copy>(
    tiles: impl Iterator<Item = Slice<T>>,
    resolution_ns: u64,
    mut each: impl FnMut(&[Slice<T>]),
) {
    let mut short: Vec<Slice<T>> = Vec::new();
    let mut until_ns = 0;
    for tile in tiles {
        if tile.duration_ns() >= resolution_ns {
            emit(&mut short, &mut each);
            each(&[tile]);
            continue;
        }
        if short.is_empty() || tile.start_ns >= until_ns {
            emit(&mut short, &mut each);
            until_ns = tile.start_ns.saturating_add(resolution_ns);
        }
        short.push(tile);
    }
    emit(&mut short, &mut each);
}

/// Two tiles take no more room as they are than gathered, and say more.
fn emit<T: Copy>(short: &mut Vec<Slice<T>>, each: &mut impl FnMut(&[Slice<T>])) {
    match &short[..] {
        [] => {}
        [only] => each(&[*only]),
        [first, second] => {
            each(&[*first]);
            each(&[*second]);
        }
        many => each(many),
    }
    short.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_tile_what_the_tiles_do(
            lengths in proptest::collection::vec(1..50_u64, 0..100),
            resolution_ns in 0..60_u64,
        ) {
            let mut start_ns = 7;
            let tiles: Vec<Slice<usize>> = lengths.iter().enumerate().map(|(what, length)| {
                let slice = Slice { what, start_ns, end_ns: start_ns + length };
                start_ns += length;
                slice
            }).collect();
            let mut seen = Vec::new();
            gather(tiles.iter().copied(), resolution_ns, |piece| {
                assert!(!piece.is_empty());
                if piece.len() > 1 {
                    assert!(piece.iter().all(|tile| tile.duration_ns() < resolution_ns));
                    let span = piece[piece.len() - 1].end_ns - piece[0].start_ns;
                    assert!(span < resolution_ns * 2);
                }
                seen.extend_from_slice(piece);
            });
            prop_assert_eq!(seen, tiles);
        }
    }
}
