//! Where a suspended future is: the chain of what it awaits, from debug information and memory.
//!
//! The compiler makes a state machine of an `async` function. Its debug information says how the
//! state is stored, which line of the source each state waits at, and where in the machine the
//! future is that it waits for. So the chain can be followed in the memory of the process, down to
//! a future that somebody wrote by hand.

mod file;
mod names;
mod types;
mod walk;

pub use file::{DebugInfo, DebugInfoError};
pub use walk::{FutureFrame, Memory};

use names::Told;
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
};
use types::{Candidate, Shape, TypeId, Types};
use walk::Walk;

/// What a program says of a future that it spawned as a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FutureName {
    /// Its type, as `std::any::type_name` has it; it ends with `…` if it was cut.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it was spawned, `FILE:LINE`.
    pub spawned_at: String,
}

/// The futures of a program, of which debug information knows the types.
pub struct Futures<'a> {
    types: Types<'a>,
    known: BTreeMap<FutureName, Result<TypeId, String>>,
    holds: RefCell<HashMap<TypeId, bool>>,
}

impl fmt::Debug for Futures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Futures").field("known", &self.known).finish_non_exhaustive()
    }
}

impl<'a> Futures<'a> {
    /// Of a program's debug information.
    #[must_use]
    pub fn new(info: &'a DebugInfo) -> Self {
        Self { types: Types::new(info), known: BTreeMap::new(), holds: RefCell::default() }
    }

    /// Finds the types of these futures. It looks at all of the debug information, once for all that
    /// are not known yet.
    ///
    /// # Errors
    ///
    /// [`DebugInfoError::Absent`] if it says nothing of any future.
    pub fn learn(
        &mut self,
        info: &DebugInfo,
        names: impl IntoIterator<Item = FutureName>,
    ) -> Result<(), DebugInfoError> {
        let is_new = |name: &FutureName| !self.known.contains_key(name);
        let mut new: Vec<FutureName> = names.into_iter().filter(is_new).collect();
        new.sort();
        new.dedup();
        if new.is_empty() {
            return Ok(());
        }
        let told: Vec<Told> = new.iter().map(|name| Told::of(&name.name)).collect();
        let found = self.types.search(&told);
        if self.types.coroutines() == 0 {
            return Err(DebugInfoError::Absent { path: info.path().to_owned() });
        }
        for ((name, told), candidates) in new.into_iter().zip(&told).zip(found) {
            let chosen = self.choose(&name, told, candidates);
            self.known.insert(name, chosen);
        }
        Ok(())
    }

    /// The futures that one is suspended in, itself first, or why that is not known. It is at
    /// `address` in `memory`, where everything is `bias` bytes further than the file expects.
    ///
    /// # Errors
    ///
    /// Its type is not known, in words.
    pub fn stack(
        &self,
        name: &FutureName,
        address: u64,
        (memory, bias): (&dyn Memory, u64),
    ) -> Result<Vec<FutureFrame>, String> {
        match self.known.get(name) {
            Some(Ok(of)) => {
                Ok(Walk::new(&self.types, (memory, bias), &self.holds).from(*of, address))
            }
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("its type was not looked for".to_owned()),
        }
    }

    /// The type that is meant: one of the size that the program says, of what is generic as it says,
    /// and of several `async` blocks of a function the one nearest to where it was spawned.
    fn choose(
        &self,
        name: &FutureName,
        told: &Told,
        mut candidates: Vec<Candidate>,
    ) -> Result<TypeId, String> {
        candidates.retain(|candidate| candidate.bytes == name.bytes);
        if candidates.is_empty() {
            return Err(format!("no debug info of {}", name.name));
        }
        if candidates.iter().any(|candidate| told.has_generics_of(&candidate.path)) {
            candidates.retain(|candidate| told.has_generics_of(&candidate.path));
        }
        let distance = |candidate: &Candidate| self.distance(candidate, &name.spawned_at);
        let nearest = candidates.iter().map(distance).min().unwrap_or(u32::MAX);
        candidates.retain(|candidate| distance(candidate) == nearest);
        // A type is told again in every unit that uses it.
        candidates.sort_by(|a, b| (&a.path, a.id).cmp(&(&b.path, b.id)));
        candidates.dedup_by(|a, b| a.path == b.path);
        match &candidates[..] {
            [one] => Ok(one.id),
            several => {
                Err(format!("debug info has {} futures that {} may be", several.len(), name.name))
            }
        }
    }

    /// Lines between where a coroutine's source begins and where it was spawned.
    fn distance(&self, candidate: &Candidate, spawned_at: &str) -> u32 {
        let Some((file, line)) = spawned_at.rsplit_once(':') else { return u32::MAX };
        let Ok(line) = line.parse::<u32>() else { return u32::MAX };
        let its = self.types.of(candidate.id);
        let Shape::Enum { variants, .. } = &its.shape else { return u32::MAX };
        // The state before the first poll is where its source begins.
        let begin = variants.iter().find_map(|variant| variant.place.as_ref());
        match begin {
            Some((path, begin)) if path.ends_with(file) || file.ends_with(path.as_str()) => {
                begin.abs_diff(line)
            }
            _ => u32::MAX,
        }
    }
}
