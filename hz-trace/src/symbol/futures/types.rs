//! Types of a program's debug information: found by their names, and read when they are needed.
//!
//! Nothing in it is trusted: what does not fit is not there, and every loop has a bound.

use super::{file::DebugInfo, names::Told};
use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Operation, Unit,
    UnitOffset,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

pub(super) type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = DebuggingInformationEntry<Bytes<'a>>;

/// Fields of a struct and variants of an enum that are read.
const PARTS_MAX: usize = 4_096;

/// Namespaces within each other.
const DEPTH_MAX: usize = 64;

/// A type: its unit and where it is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TypeId {
    unit: usize,
    offset: usize,
}

/// A part of a value.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) at: u64,
    pub(super) of: TypeId,
}

/// What a value may be.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// Its discriminant; `None`: any other.
    pub(super) value: Option<u64>,
    pub(super) of: TypeId,
    pub(super) at: u64,
    /// Where in the source it is, for the states of a coroutine.
    pub(super) place: Option<(String, u32)>,
}

/// How a value is laid out.
#[derive(Clone, Debug, Default)]
pub(super) enum Shape {
    Struct(Vec<Field>),
    Enum {
        discriminant: Option<Field>,
        variants: Vec<Variant>,
    },
    Pointer(TypeId),
    #[default]
    Other,
}

/// A type.
#[derive(Clone, Debug, Default)]
pub(super) struct Type {
    /// Its namespaces and its name.
    pub(super) path: Vec<String>,
    pub(super) bytes: u64,
    pub(super) shape: Shape,
}

impl Type {
    pub(super) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Whether the compiler made it of an `async` function, block or closure.
    pub(super) fn is_coroutine(&self) -> bool {
        is_coroutine_name(&self.path) && matches!(self.shape, Shape::Enum { .. })
    }
}

/// A type that was looked for.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: TypeId,
    pub(super) path: Vec<String>,
    pub(super) bytes: u64,
}

/// Namespaces and names of the types of a unit, by where they are.
type Spaces = BTreeMap<usize, Vec<String>>;

/// The types of a program.
pub(super) struct Types<'a> {
    dwarf: Dwarf<Bytes<'a>>,
    units: Vec<Unit<Bytes<'a>>>,
    known: RefCell<HashMap<TypeId, Rc<Type>>>,
    /// By unit, the namespaces of the types in it, by offset.
    spaces: RefCell<HashMap<usize, Rc<Spaces>>>,
    /// Types whose trait objects have their table of functions at an address.
    tables: HashMap<u64, TypeId>,
    /// Coroutines that were seen when it was searched.
    coroutines: u64,
}

impl<'a> Types<'a> {
    /// Reads which units there are.
    pub(super) fn new(info: &'a DebugInfo) -> Self {
        let dwarf = info.sections.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut units = Vec::new();
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            // A unit that cannot be read is none.
            units.extend(dwarf.unit(header));
        }
        Self {
            dwarf,
            units,
            known: RefCell::default(),
            spaces: RefCell::default(),
            tables: HashMap::new(),
            coroutines: 0,
        }
    }

    /// Coroutines that the last search saw: without any, nothing is known of futures.
    pub(super) const fn coroutines(&self) -> u64 {
        self.coroutines
    }

    /// The type whose table of functions, as it is linked, is at `address`.
    pub(super) fn of_table(&self, address: u64) -> Option<TypeId> {
        self.tables.get(&address).copied()
    }

    /// Looks at everything for types that may be called so, and for the tables of trait objects.
    pub(super) fn search(&mut self, wanted: &[Told]) -> Vec<Vec<Candidate>> {
        let mut found: Vec<Vec<Candidate>> = vec![Vec::new(); wanted.len()];
        let (mut tables, mut coroutines) = (Vec::new(), 0);
        for unit in 0..self.units.len() {
            // What comes after damage is left out.
            let _ = self.scan(unit, &mut |seen| match seen {
                Seen::Type { offset, path, bytes } => {
                    coroutines += u64::from(is_coroutine_name(path));
                    for (told, found) in wanted.iter().zip(&mut found) {
                        if told.fits(path) {
                            let id = TypeId { unit, offset };
                            found.push(Candidate { id, path: path.to_vec(), bytes });
                        }
                    }
                }
                Seen::Table { address, of } => tables.push((address, unit, of)),
            });
        }
        self.coroutines = coroutines;
        for (address, unit, of) in tables {
            if let Some(of) = self.containing(unit, of) {
                self.tables.insert(address, of);
            }
        }
        found
    }

    /// The type that a table's type says it is of.
    fn containing(&self, unit: usize, offset: usize) -> Option<TypeId> {
        let entry = self.units[unit].entry(UnitOffset(offset)).ok()?;
        let of = entry.attr_value(gimli::DW_AT_containing_type)?;
        self.reference(unit, of)
    }

    /// Goes through a unit, with the namespaces of what it finds.
    fn scan(&self, unit: usize, each: &mut dyn FnMut(Seen<'_>)) -> gimli::Result<()> {
        let its = &self.units[unit];
        let mut entries = its.entries_raw(None)?;
        let mut path: Vec<String> = Vec::new();
        // How deep each part of the path is.
        let mut depths: Vec<isize> = Vec::new();
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset());
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            while depths.last().is_some_and(|last| *last >= depth) {
                depths.pop();
                path.pop();
            }
            let tag = abbreviation.tag();
            let is_space = tag == gimli::DW_TAG_namespace;
            let is_type = tag == gimli::DW_TAG_structure_type;
            let is_variable = tag == gimli::DW_TAG_variable && depth <= 1;
            if !(is_space || is_type || is_variable) {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let (mut name, mut bytes, mut address, mut of) = (None, 0, None, None);
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute(*spec)?;
                let value = attribute.value();
                match attribute.name() {
                    gimli::DW_AT_name => name = self.dwarf.attr_string(its, value).ok(),
                    gimli::DW_AT_byte_size => bytes = value.udata_value().unwrap_or(0),
                    gimli::DW_AT_location => address = self.address(its, value),
                    gimli::DW_AT_type => of = local(value),
                    _ => {}
                }
            }
            let Some(name) = name else { continue };
            if is_variable {
                if name.slice().ends_with(b"::{vtable}")
                    && let (Some(address), Some(of)) = (address, of)
                {
                    each(Seen::Table { address, of });
                }
                continue;
            }
            if depths.len() >= DEPTH_MAX {
                continue;
            }
            path.push(name.to_string_lossy().into_owned());
            depths.push(depth);
            if is_type {
                each(Seen::Type { offset: offset.0, path: &path, bytes });
            }
        }
        Ok(())
    }

    /// The address that a location is, if it is one.
    fn address(&self, unit: &Unit<Bytes<'a>>, value: AttributeValue<Bytes<'a>>) -> Option<u64> {
        let mut operations = value.exprloc_value()?.operations(unit.encoding());
        match operations.next().ok()?? {
            Operation::Address { address } => Some(address),
            Operation::AddressIndex { index } => self.dwarf.address(unit, index).ok(),
            _ => None,
        }
    }

    /// A type, whole.
    pub(super) fn of(&self, id: TypeId) -> Rc<Type> {
        if let Some(known) = self.known.borrow().get(&id) {
            return Rc::clone(known);
        }
        let read = Rc::new(self.read(id).unwrap_or_default());
        self.known.borrow_mut().insert(id, Rc::clone(&read));
        read
    }

    fn read(&self, id: TypeId) -> Option<Type> {
        let unit = self.units.get(id.unit)?;
        let offset = UnitOffset(id.offset);
        let mut tree = unit.entries_tree(Some(offset)).ok()?;
        let root = tree.root().ok()?;
        let entry = root.entry();
        let bytes = entry.attr_value(gimli::DW_AT_byte_size).and_then(|size| size.udata_value());
        let bytes = bytes.unwrap_or(0);
        match entry.tag() {
            gimli::DW_TAG_pointer_type => {
                let of = self.reference(id.unit, entry.attr_value(gimli::DW_AT_type)?)?;
                let path = vec![self.name(unit, entry).unwrap_or_default()];
                Some(Type { path, bytes: 8, shape: Shape::Pointer(of) })
            }
            gimli::DW_TAG_structure_type => {
                let path = self.path(id).or_else(|| Some(vec![self.name(unit, entry)?]));
                let shape = self.shape(id.unit, root)?;
                Some(Type { path: path.unwrap_or_default(), bytes, shape })
            }
            _ => {
                let path = vec![self.name(unit, entry).unwrap_or_default()];
                Some(Type { path, bytes, shape: Shape::Other })
            }
        }
    }

    /// Namespaces and name of a type.
    fn path(&self, id: TypeId) -> Option<Vec<String>> {
        let known = self.spaces.borrow().get(&id.unit).map(Rc::clone);
        let spaces = known.unwrap_or_else(|| {
            let mut spaces = BTreeMap::new();
            let _ = self.scan(id.unit, &mut |seen| {
                if let Seen::Type { offset, path, .. } = seen {
                    spaces.insert(offset, path.to_vec());
                }
            });
            let spaces = Rc::new(spaces);
            self.spaces.borrow_mut().insert(id.unit, Rc::clone(&spaces));
            spaces
        });
        spaces.get(&id.offset).cloned()
    }

    fn shape(&self, unit: usize, root: gimli::EntriesTreeNode<'_, '_, Bytes<'a>>) -> Option<Shape> {
        let mut fields = Vec::new();
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            match child.entry().tag() {
                gimli::DW_TAG_variant_part => return self.variants(unit, child),
                gimli::DW_TAG_member if fields.len() < PARTS_MAX => {
                    fields.extend(self.field(unit, child.entry()));
                }
                _ => {}
            }
        }
        Some(Shape::Struct(fields))
    }

    fn variants(
        &self,
        unit: usize,
        part: gimli::EntriesTreeNode<'_, '_, Bytes<'a>>,
    ) -> Option<Shape> {
        let (mut discriminant, mut variants) = (None, Vec::new());
        let mut children = part.children();
        while let Ok(Some(child)) = children.next() {
            match child.entry().tag() {
                gimli::DW_TAG_member => discriminant = self.field(unit, child.entry()),
                gimli::DW_TAG_variant if variants.len() < PARTS_MAX => {
                    let value = child.entry().attr_value(gimli::DW_AT_discr_value);
                    let value = value.and_then(|value| unsigned(value));
                    let mut members = child.children();
                    if let Ok(Some(member)) = members.next()
                        && let Some(field) = self.field(unit, member.entry())
                    {
                        let place = self.place(unit, member.entry());
                        variants.push(Variant { value, of: field.of, at: field.at, place });
                    }
                }
                _ => {}
            }
        }
        Some(Shape::Enum { discriminant, variants })
    }

    fn field(&self, unit: usize, entry: &Entry<'a>) -> Option<Field> {
        let of = self.reference(unit, entry.attr_value(gimli::DW_AT_type)?)?;
        let at = entry.attr_value(gimli::DW_AT_data_member_location);
        let at = at.and_then(|at| at.udata_value()).unwrap_or(0);
        Some(Field { name: self.name(&self.units[unit], entry).unwrap_or_default(), at, of })
    }

    fn name(&self, unit: &Unit<Bytes<'a>>, entry: &Entry<'a>) -> Option<String> {
        let name = entry.attr_value(gimli::DW_AT_name)?;
        Some(self.dwarf.attr_string(unit, name).ok()?.to_string_lossy().into_owned())
    }

    /// File and line of an entry.
    fn place(&self, unit: usize, entry: &Entry<'a>) -> Option<(String, u32)> {
        let unit = &self.units[unit];
        let number = |name| entry.attr_value(name).and_then(|value| value.udata_value());
        let line = u32::try_from(number(gimli::DW_AT_decl_line)?).ok()?;
        let file = match entry.attr_value(gimli::DW_AT_decl_file)? {
            AttributeValue::FileIndex(index) => index,
            value => value.udata_value()?,
        };
        let header = unit.line_program.as_ref()?.header();
        let file = header.file(file)?;
        let text = |value| {
            self.dwarf.attr_string(unit, value).ok().map(|text| text.to_string_lossy().into_owned())
        };
        let name = text(file.path_name())?;
        let directory = file.directory(header).and_then(text).filter(|each| !each.is_empty());
        let path = match directory {
            Some(directory) if !name.starts_with('/') => format!("{directory}/{name}"),
            _ => name,
        };
        Some((path, line))
    }

    fn reference(&self, unit: usize, value: AttributeValue<Bytes<'a>>) -> Option<TypeId> {
        match value {
            AttributeValue::UnitRef(offset) => Some(TypeId { unit, offset: offset.0 }),
            AttributeValue::DebugInfoRef(offset) => {
                let is_in = |unit: &&Unit<Bytes<'a>>| offset.to_unit_offset(&unit.header).is_some();
                let unit = self.units.iter().position(|each| is_in(&each))?;
                let offset = offset.to_unit_offset(&self.units[unit].header)?;
                Some(TypeId { unit, offset: offset.0 })
            }
            _ => None,
        }
    }
}

/// What a scan sees.
enum Seen<'s> {
    Type {
        offset: usize,
        path: &'s [String],
        bytes: u64,
    },
    /// The table of functions of a trait object, and where its type is.
    Table {
        address: u64,
        of: usize,
    },
}

fn local(value: AttributeValue<Bytes<'_>>) -> Option<usize> {
    match value {
        AttributeValue::UnitRef(offset) => Some(offset.0),
        _ => None,
    }
}

/// A discriminant's value as its bytes are.
fn unsigned(value: AttributeValue<Bytes<'_>>) -> Option<u64> {
    value.udata_value().or_else(|| value.sdata_value().map(i64::cast_unsigned))
}

fn is_coroutine_name(path: &[String]) -> bool {
    path.last().is_some_and(|name| name.starts_with("{async_"))
}
