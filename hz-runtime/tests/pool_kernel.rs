//! The buffer pool against the machine's reserve of huge pages, which only root may change.

#![cfg(feature = "executor")]

use hz_runtime::pool::{Backing, Buffer, CHUNK_BYTES, Pool};
use std::fs;

const RESERVE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// The machine's reserve as it was before.
struct Reserve {
    before: String,
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let _ = fs::write(RESERVE, &self.before);
    }
}

fn free_pages() -> usize {
    let text = fs::read_to_string(FREE).expect("sysfs is there");
    text.trim().parse().expect("a number")
}

/// A reserve with one free page, `None`: not here.
fn one_free_page() -> Option<Reserve> {
    let before = fs::read_to_string(RESERVE).ok()?;
    let reserve = Reserve { before };
    let pages: usize = reserve.before.trim().parse().ok()?;
    fs::write(RESERVE, (pages - free_pages() + 1).to_string()).ok()?;
    (free_pages() == 1).then_some(reserve)
}

#[test]
#[ignore = "needs CAP_BPF"]
fn the_reserve_of_huge_pages_is_used_and_when_it_is_empty_the_next_best() {
    let Some(_reserve) = one_free_page() else {
        println!("skipped: no huge page can be reserved on this host");
        return;
    };
    let pool = Pool::builder().bytes(2 * CHUNK_BYTES).build().unwrap();
    assert_eq!(pool.backing(), Backing::Hugetlb);
    let mut all: Vec<Buffer> =
        (0..2).map(|_| pool.try_take(CHUNK_BYTES).unwrap().unwrap()).collect();
    all.iter_mut().for_each(|buffer| buffer.fill(1));
    let stats = pool.stats();
    assert_eq!((stats.chunks, stats.chunks_hugetlb), (2, 1), "{stats:?}");
    assert!(stats.huge_bytes.is_some_and(|bytes| bytes >= CHUNK_BYTES as u64), "{stats:?}");
    assert!(pool.backing() < Backing::Hugetlb);
    drop((pool, all));
    assert_eq!(free_pages(), 1, "a huge page leaks");
}
