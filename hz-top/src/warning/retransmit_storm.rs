use super::{Finding, Recent, Warning};
use crate::view::sockets::user;
use hz_trace::{
    model::window::{LimitedBy, Network, Socket},
    text,
};

/// Segments sent again in a look that are remarkable, if they are a share of all too.
const LEAST: u64 = 10;

/// Percent of all segments that is remarkable.
const SHARE_PCT: u64 = 2;

/// Timeouts in a row of one connection that are remarkable.
const BACKOFF: u32 = 3;

/// Much is sent again.
pub(super) struct RetransmitStorm;

impl Warning for RetransmitStorm {
    fn name(&self) -> &'static str {
        "retransmit-storm"
    }

    fn about(&self) -> &'static str {
        "TCP sends much again"
    }

    fn check(&self, recent: &Recent<'_>) -> Vec<Finding> {
        let Some(network) = &recent.window.network else { return Vec::new() };
        let counts = &network.counts;
        let (again, sent) = (counts.retransmitted, counts.sent);
        let mut found = Vec::new();
        if again >= LEAST && again * 100 >= (sent + again) * SHARE_PCT {
            found.push(self.storm(network, recent));
        }
        let stuck = network
            .sockets
            .iter()
            .filter(|socket| socket.backoff >= BACKOFF && socket.limited == LimitedBy::Loss);
        found.extend(stuck.map(|socket| self.stuck(socket)));
        found
    }
}

impl RetransmitStorm {
    fn storm(&self, network: &Network, recent: &Recent<'_>) -> Finding {
        let counts = &network.counts;
        let rate = network.per_second(counts.retransmitted);
        let share = text::share(counts.retransmitted, counts.sent + counts.retransmitted);
        let worst = network.sockets.iter().max_by_key(|socket| socket.retransmits);
        let worst = worst.filter(|socket| socket.retransmits > 0);
        let most = worst.map_or_else(
            || "by connections that are not the target's or are gone".to_owned(),
            |socket| {
                let who = user(&socket.task, &socket.owner, socket.pid, socket.tid);
                let again = text::count(socket.retransmits);
                format!("most to {} by {who} ({again})", socket.peer)
            },
        );
        let mut evidence = vec![format!(
            "{} timeouts, {} fast retransmits, {} tail loss probes, {} SYNs",
            text::count(counts.timeouts),
            text::count(counts.fast_retransmits),
            text::count(counts.loss_probes),
            text::count(counts.syn_retransmits),
        )];
        let reasons = worst.map(|socket| socket.reasons.words()).filter(|words| !words.is_empty());
        evidence.extend(reasons.map(|words| format!("of that connection: {words}")));
        let before = recent.retransmits.iter().rev().skip(1).take(60);
        let (sum, windows) = before.fold((0.0, 0), |(sum, count), rate| (sum + rate, count + 1));
        if windows > 0 {
            let usual = sum / f64::from(windows);
            evidence.push(format!("{usual:.1} a second in the {windows} windows before"));
        }
        Finding {
            warning: self.name(),
            weight: counts.retransmitted,
            sentence: format!("{rate:.0} segments a second are sent again, {share} of all: {most}"),
            evidence,
        }
    }

    fn stuck(&self, socket: &Socket) -> Finding {
        let who = user(&socket.task, &socket.owner, socket.pid, socket.tid);
        let waits = text::bytes(socket.send_queue);
        Finding {
            warning: self.name(),
            weight: u64::from(socket.backoff),
            sentence: format!(
                "{who} gets nothing through to {}: {} timeouts in a row, {waits} wait",
                socket.peer, socket.backoff
            ),
            evidence: vec![
                format!(
                    "{} segments sent again in its life",
                    text::count(socket.retransmits_total)
                ),
                format!(
                    "cwnd {}, round trip {} µs",
                    socket.cwnd,
                    text::count(socket.srtt_us.into())
                ),
            ],
        }
    }
}
