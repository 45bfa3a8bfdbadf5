//! A program of which one kind of task becomes more and more, and another comes and goes.

use hz_runtime::{Runtime, TaskMeta, spawn_with, time::sleep};
use std::{
    future::pending,
    io::{self, Write as _},
    time::Duration,
};

async fn forgotten() {
    let kept = [0_u8; 64];
    pending::<()>().await; // at: leak
    drop(kept);
}

async fn leak() {
    forgotten().await;
}

async fn short() {
    sleep(Duration::from_millis(5)).await;
}

fn main() -> io::Result<()> {
    let runtime = Runtime::builder().worker_threads(2).build().map_err(io::Error::other)?;
    runtime.block_on(async {
        spawn_with(TaskMeta::named("leak"), leak());
        println!("ready");
        io::stdout().flush()?;
        loop {
            spawn_with(TaskMeta::named("leak"), leak());
            for _ in 0..5 {
                spawn_with(TaskMeta::named("short"), short());
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
}
