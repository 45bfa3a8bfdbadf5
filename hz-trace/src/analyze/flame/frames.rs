//! Frames of stacks as people read them: a name, and whose code it is.

use super::owners::{file_name, kind_of};
use crate::{
    model::{Place, StackIndex, Stacks},
    symbol::{Function, SymbolTable},
};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::rc::Rc;

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// No code: what the stacks below are of.
    Root,
    /// The kernel's.
    Kernel,
    /// An allocator's.
    Allocator,
    /// A runtime's, or the language's or system's library.
    Runtime,
    /// The program's, inlined into the function below.
    Inlined,
    /// The program's.
    User,
    /// Not known.
    Unknown,
}

impl FrameKind {
    /// Every kind, in the order of a legend.
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Inlined,
        Self::Runtime,
        Self::Allocator,
        Self::Kernel,
        Self::Unknown,
        Self::Root,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "task, thread",
            Self::Kernel => "kernel",
            Self::Allocator => "allocator",
            Self::Runtime => "runtime and libraries",
            Self::Inlined => "inlined",
            Self::User => "program",
            Self::Unknown => "no symbol",
        }
    }
}

/// A frame's place in [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameIndex(pub u32);

/// A frame: all calls of a function, in whatever stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Its name, as it is shown.
    pub name: String,
    /// Whose code it is.
    pub kind: FrameKind,
}

/// Frames, each once.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    frames: Vec<Frame>,
    by_frame: FxHashMap<Frame, FrameIndex>,
}

impl Frames {
    /// The frame at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is of others.
    #[must_use]
    pub fn get(&self, index: FrameIndex) -> &Frame {
        &self.frames[index.0 as usize]
    }

    /// The place of a frame, which is made if need be.
    pub(super) fn index(&mut self, name: String, kind: FrameKind) -> FrameIndex {
        let frame = Frame { name, kind };
        if let Some(index) = self.by_frame.get(&frame) {
            return *index;
        }
        let index = FrameIndex(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
        self.frames.push(frame.clone());
        self.by_frame.insert(frame, index);
        index
    }

    /// Every frame.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }
}

/// A stack with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Root first.
    pub(super) frames: Vec<FrameIndex>,
    /// Whether its leaf has a name.
    pub(super) has_leaf: bool,
}

/// Names the frames of stacks, each stack once.
#[derive(Debug)]
pub(super) struct Namer<'a> {
    stacks: &'a Stacks,
    symbols: &'a SymbolTable,
    by_place: FxHashMap<Place, Rc<[FrameIndex]>>,
    by_stack: FxHashMap<StackIndex, Rc<Named>>,
}

impl<'a> Namer<'a> {
    pub(super) fn new(stacks: &'a Stacks, symbols: &'a SymbolTable) -> Self {
        let (by_place, by_stack) = (FxHashMap::default(), FxHashMap::default());
        Self { stacks, symbols, by_place, by_stack }
    }

    /// The stack's frames, root first.
    pub(super) fn name(&mut self, index: StackIndex, frames: &mut Frames) -> Rc<Named> {
        if let Some(named) = self.by_stack.get(&index) {
            return Rc::clone(named);
        }
        let places: Vec<Place> = self.stacks.places(index).collect();
        let leaf = places.first().copied();
        let has_leaf = leaf.is_some_and(|leaf| self.symbols.functions(leaf).is_some());
        let all = places.iter().rev().flat_map(|place| self.at(*place, frames).to_vec());
        let named = Rc::new(Named { frames: all.collect(), has_leaf });
        self.by_stack.insert(index, Rc::clone(&named));
        named
    }

    fn at(&mut self, place: Place, frames: &mut Frames) -> Rc<[FrameIndex]> {
        if let Some(found) = self.by_place.get(&place) {
            return Rc::clone(found);
        }
        let made: Rc<[FrameIndex]> = match self.symbols.functions(place) {
            Some(functions) => {
                let with_place = functions.iter().enumerate();
                with_place
                    .map(|(depth, function)| {
                        let name = self.symbols.text(function.name);
                        let kind = self.kind(place, function, depth > 0);
                        frames.index(with_file(name, self.symbols.text(function.source)), kind)
                    })
                    .collect()
            }
            None => [frames.index(self.unknown(place), FrameKind::Unknown)].into(),
        };
        self.by_place.insert(place, Rc::clone(&made));
        made
    }

    fn kind(&self, place: Place, function: &Function, is_inlined: bool) -> FrameKind {
        let (name, source) = (self.symbols.text(function.name), self.symbols.text(function.source));
        let file = match place {
            Place::Kernel(_) => return FrameKind::Kernel,
            Place::File(number, _) => self.stacks.files.get(&number).map(|file| file.path.as_str()),
            Place::Process(..) => None,
        };
        match kind_of(name, source, file.unwrap_or_default()) {
            FrameKind::User if is_inlined => FrameKind::Inlined,
            kind => kind,
        }
    }

    /// A text of the symbols.
    pub(super) fn text(&self, number: u32) -> &'a str {
        self.symbols.text(number)
    }

    fn unknown(&self, place: Place) -> String {
        match place {
            Place::Kernel(_) => "[kernel]".to_owned(),
            Place::File(number, _) => {
                let path = self.stacks.files.get(&number).map_or("?", |file| &file.path);
                format!("[{}]", file_name(path))
            }
            Place::Process(..) => "[no file]".to_owned(),
        }
    }

    /// Source file and line of the innermost function at a stack's frame that is the program's.
    pub(super) fn own_site(&self, index: StackIndex) -> Option<(&'a Function, &'a str)> {
        let mut found = None;
        for place in self.stacks.places(index) {
            let Place::File(number, _) = place else { continue };
            let file = self.stacks.files.get(&number).map_or("", |file| file.path.as_str());
            for function in self.symbols.functions(place).unwrap_or_default().iter().rev() {
                let name = self.symbols.text(function.name);
                match kind_of(name, self.symbols.text(function.source), file) {
                    FrameKind::User => return Some((function, name)),
                    FrameKind::Runtime if found.is_none() => found = Some((function, name)),
                    _ => {}
                }
            }
        }
        found
    }
}

/// A name that says nothing alone, with the file it is in.
fn with_file(name: &str, source: &str) -> String {
    let tail = source.rmatch_indices('/').nth(1).map_or(source, |(at, _)| &source[at + 1..]);
    if name.starts_with('{') && !tail.is_empty() {
        format!("{name} ({tail})")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_is_told_by_its_file() {
        assert_eq!(with_file("{closure#0}", "/a/shop/src/cart.rs"), "{closure#0} (src/cart.rs)");
        assert_eq!(with_file("shop::cart", "/a/shop/src/cart.rs"), "shop::cart");
    }
}
