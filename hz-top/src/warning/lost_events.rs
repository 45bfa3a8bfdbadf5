use super::{Finding, Recent, Warning};
use hz_trace::text;

/// hz itself loses what it should show.
pub(super) struct LostEvents;

impl Warning for LostEvents {
    fn name(&self) -> &'static str {
        "lost-events"
    }

    fn about(&self) -> &'static str {
        "hz loses events, so its figures are too low"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let lost = recent.window.lost();
        if lost == 0 {
            return Vec::new();
        }
        let rows = recent.window.ledger.iter().filter(|row| row.lost() > 0);
        let evidence = rows.map(|row| format!("{}: {} lost of {}", row.site, row.lost(), row.seen));
        vec![Finding {
            warning: self.name(),
            weight: lost,
            sentence: format!("hz lost {}: figures are too low", text::plural(lost, "event")),
            evidence: evidence.collect(),
        }]
    }
}
