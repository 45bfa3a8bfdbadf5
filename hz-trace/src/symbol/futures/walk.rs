//! From a future in a process's memory to what it awaits, and what that awaits.
//!
//! The memory may be anything: what is read is used as a discriminant, which is looked up, or as an
//! address, which is read again. The number of steps has a bound.

use super::{
    names::{bare, readable},
    types::{Field, Shape, Type, TypeId, Types, Variant},
};
use serde::Serialize;
use std::{cell::RefCell, collections::HashMap};

/// Futures of a task that are told.
const FRAMES_MAX: usize = 64;

/// Futures within each other.
const DEPTH_MAX: u32 = 48;

/// Pointers and wrappers between two futures: a damaged type may point to itself.
const HOPS_MAX: u32 = 32;

/// Structs within each other in which a future is looked for.
const NESTED_MAX: u32 = 6;

/// Memory of a process.
pub trait Memory {
    /// Reads as many bytes as `into` has from `address`; gives back whether they were there.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
}

/// A future that a task is suspended in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FutureFrame {
    /// How many futures it is within. Those of one that awaits several at once are side by side.
    pub depth: u32,
    /// Its function, or its type if it is none.
    pub future: String,
    /// The field of the future above that it is, if that is no `.await`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Source file of the `.await` that it waits at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Why there is nothing below, if there should be; or that it has not begun, or is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What one walk knows.
pub(super) struct Walk<'w, 'd> {
    types: &'w Types<'d>,
    memory: &'w dyn Memory,
    /// What to take from an address of the process for one of the file.
    bias: u64,
    /// Whether values of a type may hold futures.
    holds: &'w RefCell<HashMap<TypeId, bool>>,
    frames: Vec<FutureFrame>,
}

/// A value that may be a future.
#[derive(Clone, Copy, Debug)]
struct Value<'f> {
    of: TypeId,
    address: u64,
    depth: u32,
    /// Pointers and wrappers on the way from the future above.
    hops: u32,
    field: Option<&'f str>,
}

impl<'w, 'd> Walk<'w, 'd> {
    pub(super) const fn new(
        types: &'w Types<'d>,
        (memory, bias): (&'w dyn Memory, u64),
        holds: &'w RefCell<HashMap<TypeId, bool>>,
    ) -> Self {
        Self { types, memory, bias, holds, frames: Vec::new() }
    }

    /// The futures that one of this type and at this address is suspended in, itself first.
    pub(super) fn from(mut self, of: TypeId, address: u64) -> Vec<FutureFrame> {
        self.value(Value { of, address, depth: 0, hops: 0, field: None });
        self.frames
    }

    fn value(&mut self, value: Value<'_>) {
        if value.depth > DEPTH_MAX || value.hops > HOPS_MAX || self.frames.len() >= FRAMES_MAX {
            self.note_last("and more: too deep to follow");
            return;
        }
        let its = self.types.of(value.of);
        match &its.shape {
            Shape::Enum { .. } if its.is_coroutine() => self.coroutine(value, &its),
            Shape::Pointer(to) => self.pointer(value, *to),
            Shape::Struct(fields) if is_wrapper(&its) => match fields.first() {
                Some(field) => {
                    let address = add(value.address, field.at);
                    self.value(Value { of: field.of, address, hops: value.hops + 1, ..value });
                }
                None => self.leaf(value, &its),
            },
            Shape::Struct(fields) => match trait_object(fields) {
                Some((pointer, table)) => self.object(value, &its, (pointer, table)),
                None => self.leaf(value, &its),
            },
            Shape::Enum { .. } | Shape::Other => self.leaf(value, &its),
        }
    }

    /// A state machine: its discriminant says at which `.await` it is.
    fn coroutine(&mut self, value: Value<'_>, its: &Type) {
        let mut frame = self.frame(value, readable(&its.path));
        let variant = match self.variant(value.address, its) {
            Ok(variant) => variant,
            Err(note) => {
                frame.note = Some(note.to_owned());
                self.frames.push(frame);
                return;
            }
        };
        let state = self.types.of(variant.of);
        match state.name() {
            "Unresumed" => frame.note = Some("not polled yet".to_owned()),
            "Returned" => frame.note = Some("over".to_owned()),
            "Panicked" => frame.note = Some("panicked".to_owned()),
            _ => {
                (frame.file, frame.line) = variant.place.clone().unzip();
                let Shape::Struct(fields) = &state.shape else { return self.frames.push(frame) };
                let awaited = fields.iter().find(|field| field.name == "__awaitee");
                self.frames.push(frame);
                if let Some(field) = awaited {
                    let address = add(add(value.address, variant.at), field.at);
                    let depth = value.depth + 1;
                    self.value(Value { of: field.of, address, depth, hops: 0, field: None });
                }
                return;
            }
        }
        self.frames.push(frame);
    }

    /// Which variant a value is.
    fn variant(&self, address: u64, its: &Type) -> Result<Variant, &'static str> {
        let Shape::Enum { discriminant, variants } = &its.shape else { return Err("no states") };
        let value = match discriminant {
            Some(field) => {
                let bytes = self.types.of(field.of).bytes.clamp(1, 8);
                Some((self.number(add(address, field.at), bytes).ok_or("cannot be read")?, bytes))
            }
            None => None,
        };
        let fits = |variant: &&Variant| match (variant.value, value) {
            (Some(wanted), Some((value, bytes))) => {
                let mask = u64::MAX >> (64 - 8 * bytes);
                wanted & mask == value & mask
            }
            _ => false,
        };
        let found = variants.iter().find(fits);
        let found = found.or_else(|| variants.iter().find(|variant| variant.value.is_none()));
        found.cloned().ok_or("in no state that its debug info knows")
    }

    fn number(&self, address: u64, bytes: u64) -> Option<u64> {
        let mut number = [0; 8];
        let length = usize::try_from(bytes).ok()?;
        self.memory.read(address, number.get_mut(..length)?).then(|| u64::from_le_bytes(number))
    }

    fn pointer(&mut self, value: Value<'_>, to: TypeId) {
        match self.number(value.address, 8) {
            Some(address) => self.value(Value { of: to, address, hops: value.hops + 1, ..value }),
            None => self.unread(value, "a pointer"),
        }
    }

    /// A boxed future of any type: the table of its functions says which, where debug info knows the
    /// table.
    fn object(&mut self, value: Value<'_>, its: &Type, (pointer, table): (&Field, &Field)) {
        let data = self.number(add(value.address, pointer.at), 8);
        let table = self.number(add(value.address, table.at), 8);
        let (Some(data), Some(table)) = (data, table) else {
            return self.unread(value, &short(its.name()));
        };
        match self.types.of_table(table.wrapping_sub(self.bias)) {
            Some(of) => self.value(Value { of, address: data, hops: value.hops + 1, ..value }),
            None => {
                let mut frame = self.frame(value, short(its.name()));
                frame.note = Some("boxed: debug info does not say what is in it".to_owned());
                self.frames.push(frame);
            }
        }
    }

    /// A future that somebody wrote by hand: below it are the futures that it holds.
    fn leaf(&mut self, value: Value<'_>, its: &Type) {
        let frame = self.frame(value, readable_type(its));
        self.frames.push(frame);
        self.within(Value { depth: value.depth + 1, hops: 0, field: None, ..value }, its, 0);
    }

    /// Looks for futures in the fields of a value.
    fn within(&mut self, value: Value<'_>, its: &Type, nested: u32) {
        if nested > NESTED_MAX {
            return;
        }
        let (fields, address) = match &its.shape {
            Shape::Struct(fields) => (fields.clone(), value.address),
            Shape::Enum { .. } if !its.is_coroutine() => {
                let Ok(variant) = self.variant(value.address, its) else { return };
                match &self.types.of(variant.of).shape {
                    Shape::Struct(fields) => (fields.clone(), add(value.address, variant.at)),
                    _ => return,
                }
            }
            _ => return,
        };
        for field in &fields {
            if !self.may_hold(field.of, 0) {
                continue;
            }
            let name = value.field.unwrap_or(&field.name);
            let of = self.types.of(field.of);
            let here =
                Value { of: field.of, address: add(address, field.at), field: Some(name), ..value };
            if is_future(&of) || is_wrapper(&of) || self.is_pointer_to_future(&of) {
                self.value(here);
            } else {
                self.within(here, &of, nested + 1);
            }
        }
    }

    fn is_pointer_to_future(&self, its: &Type) -> bool {
        match &its.shape {
            Shape::Pointer(to) => is_future(&self.types.of(*to)),
            Shape::Struct(fields) => {
                trait_object(fields).is_some() && its.name().contains("Future<")
            }
            _ => false,
        }
    }

    /// Whether values of a type may hold a future, themselves or behind a pointer to one.
    fn may_hold(&self, id: TypeId, nested: u32) -> bool {
        if let Some(known) = self.holds.borrow().get(&id) {
            return *known;
        }
        if nested > NESTED_MAX {
            return false;
        }
        // Until it is known: no type holds itself.
        self.holds.borrow_mut().insert(id, false);
        let its = self.types.of(id);
        let holds = is_future(&its)
            || self.is_pointer_to_future(&its)
            || match &its.shape {
                Shape::Struct(fields) => {
                    fields.iter().any(|field| self.may_hold(field.of, nested + 1))
                }
                Shape::Enum { variants, .. } => {
                    variants.iter().any(|variant| self.may_hold(variant.of, nested + 1))
                }
                _ => false,
            };
        self.holds.borrow_mut().insert(id, holds);
        holds
    }

    fn frame(&self, value: Value<'_>, future: String) -> FutureFrame {
        let field = value.field.map(str::to_owned);
        FutureFrame { depth: value.depth, future, field, ..FutureFrame::default() }
    }

    fn unread(&mut self, value: Value<'_>, what: &str) {
        let mut frame = self.frame(value, what.to_owned());
        frame.note = Some("cannot be read".to_owned());
        self.frames.push(frame);
    }

    fn note_last(&mut self, note: &str) {
        if let Some(last) = self.frames.last_mut() {
            last.note.get_or_insert_with(|| note.to_owned());
        }
    }
}

fn add(address: u64, offset: u64) -> u64 {
    address.wrapping_add(offset)
}

fn is_future(its: &Type) -> bool {
    its.is_coroutine()
}

/// Types that are nothing but what is in them.
fn is_wrapper(its: &Type) -> bool {
    let Shape::Struct(fields) = &its.shape else { return false };
    let name = bare(its.name());
    fields.len() == 1
        && matches!(
            &*name,
            "Pin" | "ManuallyDrop" | "MaybeDangling" | "UnsafeCell" | "Box" | "Unique" | "NonNull"
        )
}

/// The two words of a pointer to a trait object.
fn trait_object(fields: &[Field]) -> Option<(&Field, &Field)> {
    let named = |name: &str| fields.iter().find(|field| field.name == name);
    Some((named("pointer")?, named("vtable")?))
}

fn readable_type(its: &Type) -> String {
    short(&readable(&its.path))
}

/// A name of which what is generic is cut where it gets long.
fn short(name: &str) -> String {
    const LONGEST: usize = 60;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    match name.find('<') {
        Some(end) if end > 0 => format!("{}<…>", &name[..end]),
        _ => name.chars().take(LONGEST).chain(['…']).collect(),
    }
}
