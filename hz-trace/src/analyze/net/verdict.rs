//! Why a pool churns, and which of its settings would stop that.

use super::{
    life::End,
    pools::{Evidence, Pool},
};
use crate::text;
use serde::Serialize;

/// Connections a pool has to open before anything is said of it.
const OPENED_MIN: u64 = 20;

/// Connections that are used less often than this on the average are hardly used again.
const REUSED_WELL: f64 = 10.0;

/// A connection that was idle for less than this when it was closed was closed because its work was done, not
/// because it was idle.
const AT_ONCE_NS: u64 = 20_000_000;

/// How long the kernel keeps a port in `TIME_WAIT`, seconds (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT_S: f64 = 60.0;

/// A setting that a pool of connections has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Setting {
    /// Whether connections are used again at all, or how often.
    KeepAlive,
    /// How long an idle connection is kept.
    IdleTimeout,
    /// How long any connection is kept.
    MaximumLife,
    /// How many idle connections are kept.
    PoolSize,
}

/// What is wrong with a pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The setting that would stop it.
    pub setting: Setting,
    /// Whether it is the peer's setting, not the pool's own.
    pub is_peers: bool,
    /// Connections that need not have been opened, at the most: all but as many as were open at once.
    pub avoidable: u64,
    /// What is wrong, with the numbers that say so.
    pub why: String,
    /// What would stop it.
    pub remedy: String,
    /// What it costs in ports, if that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

/// Judges a pool; `None`: nothing is wrong with it, or too little is known.
pub(super) fn judge(pool: &Pool, evidence: &Evidence) -> Option<Verdict> {
    let ended = &evidence.ended;
    if pool.opened < OPENED_MIN || (ended.len() as u64) < OPENED_MIN / 2 {
        return None;
    }
    let (setting, is_peers, why, remedy) = cause(pool, evidence)?;
    Some(Verdict {
        setting,
        is_peers,
        avoidable: pool.opened.saturating_sub(pool.open_max),
        why,
        remedy,
        ports: ports(pool),
    })
}

type Cause = (Setting, bool, String, String);

fn cause(pool: &Pool, evidence: &Evidence) -> Option<Cause> {
    let ended = &evidence.ended;
    let by_peer = ended.iter().filter(|each| is_by_peer(each.end)).count();
    let is_peers = by_peer * 2 > ended.len();
    let idle = spread(ended.iter().filter_map(|each| each.idle_ns).collect());
    let life = spread(ended.iter().map(|each| each.life_ns).collect());
    let requests = spread(ended.iter().map(|each| u64::from(each.requests)).collect());
    let is_idle = idle.middle >= AT_ONCE_NS && idle.is_narrow();
    let is_well_used = pool.requests_mean >= REUSED_WELL;
    if is_idle {
        return Some(idle_timeout(is_peers, &idle, pool));
    }
    if life.middle >= 2 * AT_ONCE_NS && life.is_narrow() && requests.middle > 1 {
        return Some(maximum_life(is_peers, &life, pool));
    }
    if is_well_used {
        return None;
    }
    if !is_peers && evidence.kept > 0 && idle.middle < AT_ONCE_NS {
        return Some(pool_size(pool, evidence));
    }
    (idle.middle < AT_ONCE_NS).then(|| keep_alive(is_peers, &requests, &idle, pool))
}

const fn is_by_peer(end: End) -> bool {
    matches!(end, End::ClosedByPeer | End::ResetByPeer)
}

fn who_closes(is_peers: bool) -> &'static str {
    if is_peers { "the peer closes" } else { "it closes" }
}

fn idle_timeout(is_peers: bool, idle: &Spread, pool: &Pool) -> Cause {
    let after = text::duration(idle.middle);
    let why = format!(
        "{} connections that were idle for {after} ({} to {}), after {} each",
        who_closes(is_peers),
        text::duration(idle.low),
        text::duration(idle.high),
        requests_words(pool),
    );
    let remedy = if is_peers {
        format!("a longer idle timeout at the peer than {after}, or requests that come more often")
    } else {
        format!("an idle timeout longer than {after}")
    };
    (Setting::IdleTimeout, is_peers, why, remedy)
}

fn maximum_life(is_peers: bool, life: &Spread, pool: &Pool) -> Cause {
    let after = text::duration(life.middle);
    let why = format!(
        "{} connections that are in use when they are {after} old ({} to {}), after {} each",
        who_closes(is_peers),
        text::duration(life.low),
        text::duration(life.high),
        requests_words(pool),
    );
    let whose = if is_peers { " at the peer" } else { "" };
    (Setting::MaximumLife, is_peers, why, format!("a maximum life{whose} longer than {after}"))
}

fn pool_size(pool: &Pool, evidence: &Evidence) -> Cause {
    let why = format!(
        "up to {} were in use at once, {} kept; it closes the others at once, after {} each",
        pool.open_max,
        if evidence.kept == 1 { "1 is".to_owned() } else { format!("{} are", evidence.kept) },
        requests_words(pool),
    );
    let remedy = format!("a pool that keeps {} idle connections", pool.open_max);
    (Setting::PoolSize, false, why, remedy)
}

fn keep_alive(is_peers: bool, requests: &Spread, idle: &Spread, pool: &Pool) -> Cause {
    let why = format!(
        "{} each connection {} after the last answer, after {}",
        who_closes(is_peers),
        text::duration(idle.middle),
        requests_words(pool),
    );
    let is_limited = requests.middle > 1 && requests.low == requests.high;
    let remedy = match (is_peers, is_limited) {
        (true, true) => {
            format!("more than {} requests per connection at the peer", requests.middle)
        }
        (false, true) => format!("more than {} requests per connection", requests.middle),
        (true, false) => "keep-alive at the peer".to_owned(),
        (false, false) => "keep-alive: one client or pool for all requests".to_owned(),
    };
    (Setting::KeepAlive, is_peers, why, remedy)
}

fn requests_words(pool: &Pool) -> String {
    let mean = pool.requests_mean;
    if (mean - 1.0).abs() < 0.05 { "1 request".to_owned() } else { format!("{mean:.1} requests") }
}

/// What it costs in ports, where that comes near to what there is.
fn ports(pool: &Pool) -> Option<String> {
    let available = f64::from(pool.ports_available);
    let closed_here = pool.ends.get(&End::ClosedHere).copied().unwrap_or(0) as f64;
    let share = closed_here / pool.ends.values().sum::<u64>().max(1) as f64;
    let held = pool.opened_per_s * share * TIME_WAIT_S;
    if pool.no_port > 0 {
        return Some(format!(
            "{} connects found no port: {} of {} to {} are in use, {} of them in TIME_WAIT",
            text::count(pool.no_port),
            text::count(pool.ports_in_use_max.into()),
            text::count(pool.ports_available.into()),
            pool.destination,
            text::count(pool.time_wait_max.into()),
        ));
    }
    (available > 0.0 && held > available / 2.0).then(|| {
        let rate = pool.opened_per_s * share;
        let words = if held > available {
            format!(
                "the {} there are last {:.0} s",
                text::count(available as u64),
                available / rate
            )
        } else {
            format!("of {}", text::count(available as u64))
        };
        format!(
            "at {rate:.0} a second, kept for 60 s in TIME_WAIT, it takes {} ports; {words}",
            text::count(held as u64)
        )
    })
}

/// Where most of some numbers are.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    /// A tenth is below.
    low: u64,
    /// The median.
    middle: u64,
    /// A tenth is above.
    high: u64,
}

impl Spread {
    /// Whether something decides them: most are within a quarter of the median.
    const fn is_narrow(&self) -> bool {
        self.high - self.low <= self.middle / 4
    }
}

fn spread(mut numbers: Vec<u64>) -> Spread {
    numbers.sort_unstable();
    let at = |tenths: usize| numbers.get(numbers.len() * tenths / 10).copied().unwrap_or(0);
    let high = numbers.len().saturating_sub(1 + numbers.len() / 10);
    Spread { low: at(1), middle: at(5), high: numbers.get(high).copied().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::{Owner, distribution::distribution, net::pools::Ended};
    use std::collections::BTreeMap;

    const MS: u64 = 1_000_000;

    fn pool(ended: &[Ended], opened: u64, open_max: u64) -> Pool {
        let mut ends = BTreeMap::new();
        for each in ended {
            *ends.entry(each.end).or_default() += 1;
        }
        let requests: u64 = ended.iter().map(|each| u64::from(each.requests)).sum();
        Pool {
            owner: Owner::default(),
            destination: "10.0.0.2:80".to_owned(),
            netns: 1,
            namespace: "host".to_owned(),
            were_open: 0,
            opened,
            opened_per_s: opened as f64,
            open_max,
            ends,
            no_port: 0,
            requests,
            requests_p50: 0,
            requests_mean: requests as f64 / ended.len().max(1) as f64,
            life: distribution(Vec::new()),
            idle: distribution(Vec::new()),
            time_wait_max: 0,
            ports_in_use_max: 0,
            ports_available: 28_232,
            verdict: None,
        }
    }

    /// Connections with these requests, lives and idle times, each with a little of chance.
    fn ended(count: u64, requests: u32, life_ns: u64, idle_ns: u64, end: End) -> Vec<Ended> {
        let each = |number: u64| Ended {
            requests,
            life_ns: life_ns + number % 7 * life_ns / 100,
            idle_ns: Some(idle_ns + number % 5 * idle_ns / 50),
            end,
        };
        (0..count).map(each).collect()
    }

    fn judged(ended: Vec<Ended>, kept: u64, open_max: u64) -> Option<Verdict> {
        let opened = ended.len() as u64;
        judge(&pool(&ended, opened, open_max), &Evidence { ended, kept })
    }

    #[test]
    fn each_cause_has_its_setting() {
        use End::{ClosedByPeer, ClosedHere};
        let cases = [
            // One request each, closed at once: no keep-alive; here or at the peer.
            (ended(500, 1, 2 * MS, MS / 20, ClosedHere), 0, Setting::KeepAlive, false),
            (ended(500, 1, 2 * MS, MS / 20, ClosedByPeer), 0, Setting::KeepAlive, true),
            // Closed at once after 5 each: a limit.
            (ended(500, 5, 9 * MS, MS / 20, ClosedByPeer), 0, Setting::KeepAlive, true),
            // Idle for about as long each time.
            (ended(60, 1, 110 * MS, 100 * MS, ClosedHere), 0, Setting::IdleTimeout, false),
            (ended(60, 30, 900 * MS, 100 * MS, ClosedByPeer), 0, Setting::IdleTimeout, true),
            // In use, and about as old each time.
            (ended(60, 200, 1_000 * MS, MS, ClosedHere), 0, Setting::MaximumLife, false),
            // Some are kept and used, the others are closed at once.
            (ended(500, 1, 2 * MS, MS / 20, ClosedHere), 2, Setting::PoolSize, false),
        ];
        for (connections, kept, setting, is_peers) in cases {
            let first = connections[0];
            let verdict = judged(connections, kept, 8).unwrap_or_else(|| panic!("{first:?}"));
            assert_eq!((verdict.setting, verdict.is_peers), (setting, is_peers), "{verdict:?}");
            assert!(verdict.avoidable >= 52, "{verdict:?}");
        }
    }

    #[test]
    fn a_sound_pool_and_one_of_which_little_is_known_are_not_judged() {
        assert_eq!(judged(ended(5, 1, 2 * MS, 0, End::ClosedHere), 0, 1), None, "too few");
        let mut varied = ended(60, 50, 500 * MS, MS, End::ClosedHere);
        for (number, each) in (1..).zip(&mut varied) {
            each.life_ns *= number;
        }
        assert_eq!(judged(varied, 3, 3), None, "used 50 times each");
    }

    #[test]
    fn the_words_have_the_numbers() {
        let verdict = judged(ended(4_000, 1, 2 * MS, MS / 20, End::ClosedHere), 0, 3).unwrap();
        assert!(verdict.why.starts_with("it closes each connection 5"), "{}", verdict.why);
        assert!(verdict.why.ends_with("after 1 request"), "{}", verdict.why);
        assert_eq!(verdict.avoidable, 3_997);
        let ports = verdict.ports.unwrap();
        assert_eq!(
            ports,
            "at 4000 a second, kept for 60 s in TIME_WAIT, it takes 240,000 ports; the 28,232 there are last 7 s"
        );
    }

    #[test]
    fn ports_that_ran_out_are_said_first() {
        let ended = ended(400, 1, 2 * MS, MS / 20, End::ClosedHere);
        let exhausted = Pool {
            no_port: 7,
            ports_in_use_max: 900,
            ports_available: 900,
            time_wait_max: 899,
            ..pool(&ended, 400, 2)
        };
        let verdict = judge(&exhausted, &Evidence { ended, kept: 0 }).unwrap();
        assert_eq!(
            verdict.ports.as_deref(),
            Some(
                "7 connects found no port: 900 of 900 to 10.0.0.2:80 are in use, 899 of them in TIME_WAIT"
            )
        );
    }
}
