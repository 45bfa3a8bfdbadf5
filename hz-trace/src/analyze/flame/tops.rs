//! The functions, stacks and places that took most, as lists.

use super::{Flame, FlameKind, FlameQuery, Folding, FrameIndex, FrameKind};
use crate::{
    model::{Model, StackIndex},
    symbol::SymbolTable,
};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

/// Standard deviations on each side that hold 95 % of all cases.
const CONFIDENT: f64 = 1.96;

/// What a function took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionUse {
    /// Its name.
    pub name: String,
    /// Whose code it is.
    pub kind: FrameKind,
    /// What it took itself, in the flame graph's unit.
    pub own: u64,
    /// What it and all it called took; once, however often it stands in a stack.
    pub total: u64,
}

/// A stack that threads left their CPU with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockingStack {
    /// Why they were off.
    pub reason: &'static str,
    /// How long in all, without waiting for a CPU, nanoseconds.
    pub blocked_ns: u64,
    /// How often.
    pub count: u64,
    /// The stack, root first.
    pub frames: Vec<String>,
    /// Who ended most of that, if anybody was seen to.
    pub waker: Option<String>,
    /// The stack of that one then, root first.
    pub waker_frames: Vec<String>,
}

/// A place in the program that allocates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// The function: the program's own nearest to the allocator.
    pub function: String,
    /// `file:line` there, empty: not known.
    pub place: String,
    /// Estimate of the bytes allocated.
    pub bytes: u64,
    /// Of that by second.
    pub bytes_per_second: u64,
    /// Estimate of the bytes that are there still, of those allocated in the range.
    pub live_bytes: u64,
    /// On each side of `live_bytes`, 95 % of all estimates.
    pub live_error_bytes: u64,
    /// Bytes that were there more at the end of the range than in its middle.
    pub growth_bytes: i64,
    /// On each side of `growth_bytes`, 95 % of all estimates.
    pub growth_error_bytes: u64,
    /// Mean life of those that were freed, nanoseconds.
    pub mean_life_ns: Option<u64>,
    /// Samples.
    pub samples: u64,
}

impl Site {
    /// Whether it grew for sure, as far as sampling tells.
    #[must_use]
    pub const fn is_growing(&self) -> bool {
        self.growth_bytes > self.growth_error_bytes.cast_signed() && self.samples >= 3
    }
}

/// What took most.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tops {
    /// Functions, those that took most themselves first.
    pub functions: Vec<FunctionUse>,
    /// Stacks that threads were off with, the longest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocking: Vec<BlockingStack>,
    /// Places that allocate: for live bytes those with most of them first, else those that allocated
    /// most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<Site>,
}

/// What took most, of what `query` asks for.
#[must_use]
pub fn tops(model: &Model, symbols: &SymbolTable, query: &FlameQuery, flame: &Flame) -> Tops {
    let mut folding = Folding::new(model, symbols, query);
    let mut tops = Tops { functions: functions(flame), ..Tops::default() };
    match query.kind {
        FlameKind::OffCpu => tops.blocking = folding.blocking(),
        FlameKind::Alloc | FlameKind::Live => tops.sites = folding.sites(),
        _ => {}
    }
    tops
}

fn functions(flame: &Flame) -> Vec<FunctionUse> {
    let mut uses: FxHashMap<FrameIndex, (u64, u64)> = FxHashMap::default();
    let mut seen = FxHashSet::default();
    for (stack, weight) in &flame.stacks {
        let is_code = |frame: &&FrameIndex| flame.frames.get(**frame).kind != FrameKind::Root;
        if let Some(leaf) = stack.last().filter(is_code) {
            let own = &mut uses.entry(*leaf).or_default().0;
            *own = own.saturating_add(*weight);
        }
        seen.clear();
        for frame in stack.iter().filter(is_code).filter(|frame| seen.insert(**frame)) {
            let total = &mut uses.entry(*frame).or_default().1;
            *total = total.saturating_add(*weight);
        }
    }
    let mut functions: Vec<FunctionUse> = uses
        .into_iter()
        .map(|(frame, (own, total))| {
            let frame = flame.frames.get(frame);
            FunctionUse { name: frame.name.clone(), kind: frame.kind, own, total }
        })
        .collect();
    functions.sort_by(|a, b| (b.own, b.total, &a.name).cmp(&(a.own, a.total, &b.name)));
    functions
}

#[derive(Debug, Default)]
struct Blocked {
    blocked_ns: u64,
    count: u64,
    by_waker: FxHashMap<(String, Option<StackIndex>), u64>,
}

#[derive(Debug, Default)]
struct SiteSum {
    bytes: f64,
    live: f64,
    live_variance: f64,
    growth: f64,
    growth_variance: f64,
    lives_ns: f64,
    freed: f64,
    samples: u64,
}

impl Folding<'_> {
    fn blocking(&mut self) -> Vec<BlockingStack> {
        let mut sums: FxHashMap<_, Blocked> = FxHashMap::default();
        for off in &self.model.stacks.off_cpu {
            let length = self.overlap(off.start_ns, off.end_ns.saturating_sub(off.runq_ns));
            let Some(stack) = off.stack.filter(|_| length > 0) else { continue };
            let reason = self.reason(off);
            let sum = sums.entry((stack, reason)).or_default();
            let blocked_ns = length.saturating_mul(off.weight.into());
            sum.blocked_ns = sum.blocked_ns.saturating_add(blocked_ns);
            sum.count += u64::from(off.weight);
            let waker = match (off.is_by_interrupt, off.waker) {
                (true, _) => Some("an interrupt".to_owned()),
                (_, waker) => waker.map(|waker| self.model.thread(waker).name()),
            };
            if let Some(waker) = waker {
                let ended = sum.by_waker.entry((waker, off.waker_stack)).or_default();
                *ended = ended.saturating_add(blocked_ns);
            }
        }
        let mut stacks: Vec<BlockingStack> = Vec::new();
        for ((stack, reason), sum) in sums {
            let waker = sum
                .by_waker
                .into_iter()
                .max_by_key(|((name, stack), ns)| (*ns, name.clone(), *stack));
            let (waker, waker_stack) =
                waker.map_or((None, None), |((name, stack), _)| (Some(name), stack));
            stacks.push(BlockingStack {
                reason: reason.name(),
                blocked_ns: sum.blocked_ns,
                count: sum.count,
                frames: self.words(stack),
                waker,
                waker_frames: waker_stack.map_or_else(Vec::new, |stack| self.words(stack)),
            });
        }
        stacks.sort_by(|a, b| (b.blocked_ns, &a.frames).cmp(&(a.blocked_ns, &b.frames)));
        stacks
    }

    pub(super) fn words(&mut self, stack: StackIndex) -> Vec<String> {
        if !self.model.stacks.stack(stack).is_known() {
            return Vec::new();
        }
        let named = self.namer.name(stack, &mut self.frames);
        named.frames.iter().map(|frame| self.frames.get(*frame).name.clone()).collect()
    }

    fn sites(&self) -> Vec<Site> {
        let from_ns = self.query.from_ns.max(self.model.start_ns);
        let to_ns = self.query.to_ns.min(self.model.end_ns);
        let middle_ns = from_ns + to_ns.saturating_sub(from_ns) / 2;
        let mut sums: FxHashMap<(String, String), SiteSum> = FxHashMap::default();
        for allocation in &self.model.stacks.allocations {
            if !self.is_within(allocation.time_ns) {
                continue;
            }
            let site = allocation.stack.and_then(|stack| self.namer.own_site(stack));
            let key = site.map_or_else(Default::default, |(function, name)| {
                let source = self.namer.text(function.source);
                let place = if source.is_empty() {
                    String::new()
                } else {
                    format!("{source}:{}", function.line)
                };
                (name.to_owned(), place)
            });
            let weight = allocation.weight_bytes;
            let variance = weight * (weight - allocation.bytes as f64).max(0.0);
            let is_there = |at_ns| allocation.time_ns < at_ns && allocation.is_live_at(at_ns);
            let sum = sums.entry(key).or_default();
            sum.samples += 1;
            sum.bytes += weight;
            if is_there(to_ns) {
                sum.live += weight;
                sum.live_variance += variance;
            }
            let change = f64::from(i8::from(is_there(to_ns)) - i8::from(is_there(middle_ns)));
            sum.growth += change * weight;
            sum.growth_variance += change.abs() * variance;
            if let Some(freed_ns) = allocation.freed_ns {
                let count = weight / (allocation.bytes as f64).max(1.0);
                sum.lives_ns += count * freed_ns.saturating_sub(allocation.time_ns) as f64;
                sum.freed += count;
            }
        }
        let seconds = (to_ns.saturating_sub(from_ns) as f64 / 1e9).max(1e-9);
        let mut sites: Vec<Site> =
            sums.into_iter().map(|(key, sum)| site(key, &sum, seconds)).collect();
        let is_live = self.query.kind == FlameKind::Live;
        let order = |site: &Site| (if is_live { site.live_bytes } else { site.bytes }, site.bytes);
        sites.sort_by(|a, b| order(b).cmp(&order(a)).then_with(|| a.function.cmp(&b.function)));
        sites
    }
}

fn site((function, place): (String, String), sum: &SiteSum, seconds: f64) -> Site {
    let function = if function.is_empty() { "[no symbol]".to_owned() } else { function };
    Site {
        function,
        place,
        bytes: sum.bytes as u64,
        bytes_per_second: (sum.bytes / seconds) as u64,
        live_bytes: sum.live as u64,
        live_error_bytes: (CONFIDENT * sum.live_variance.sqrt()) as u64,
        growth_bytes: sum.growth as i64,
        growth_error_bytes: (CONFIDENT * sum.growth_variance.sqrt()) as u64,
        mean_life_ns: (sum.freed > 0.0).then(|| (sum.lives_ns / sum.freed) as u64),
        samples: sum.samples,
    }
}
