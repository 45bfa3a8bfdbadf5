//! What a flame graph says beside its frames.

use super::{About, amount};
use crate::{
    analyze::{Flame, FlameQuery},
    model::Model,
    text,
};

/// What a picture says beside its frames.
#[derive(Clone, Debug, Default)]
pub struct Caption {
    /// The heading.
    pub title: String,
    /// A line below: of what, when, how much.
    pub subtitle: String,
    /// Lines at the foot: what is missing.
    pub footer: Vec<String>,
    /// Pictures beside this one: what they are, and their addresses from here.
    pub links: Vec<(String, String)>,
}

impl Caption {
    /// What is to be said of any recording's.
    #[must_use]
    pub fn of(flame: &Flame, query: &FlameQuery, model: &Model, about: &About) -> Self {
        let since = |time_ns: u64| text::duration(time_ns.saturating_sub(model.start_ns));
        let end_ns = query.to_ns.min(model.end_ns);
        let task = query.task.as_ref().map_or_else(String::new, |task| format!(" · task {task}"));
        let subtitle = format!(
            "{}: {} in {} · {} to {}{task} · {} on {}",
            query.kind.title(),
            amount(flame.unit, flame.total),
            text::plural(flame.samples, "sample"),
            since(query.from_ns.max(model.start_ns)),
            since(end_ns),
            about.target,
            about.host,
        );
        let title = format!("{} of {}", query.kind.title(), about.target);
        Self { title, subtitle, footer: vec![missing(flame, about.lost)], links: Vec::new() }
    }
}

/// What is not in a flame graph as it should be.
fn missing(flame: &Flame, lost: u64) -> String {
    let part = |value: u64| text::percent(100.0 * value as f64 / flame.total.max(1) as f64);
    let missing = &flame.missing;
    let cut: u64 = missing.cut.values().sum();
    let why = missing.cut.iter();
    let why = why.map(|(why, value)| format!("{} {}", why.replace('_', " "), part(*value)));
    let why = why.collect::<Vec<_>>().join(", ");
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    let parts = [
        format!("records lost: {}", text::count(lost)),
        format!("without a stack: {}", part(missing.without_stack)),
        format!("stack cut short: {}{why}", part(cut)),
        format!("without a symbol: {}", part(missing.without_symbol)),
    ];
    parts.join(" · ")
}
