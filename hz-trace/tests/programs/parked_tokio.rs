//! Tasks on Tokio that are parked where their comments say.

use std::{
    io::{self, Read as _, Write as _},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

async fn naps() {
    sleep(Duration::from_secs(3_600)).await; // at: naps
}

async fn sleeper() {
    naps().await; // at: sleeper
}

fn main() -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (sender, mut receiver) = mpsc::channel::<u32>(1);
    runtime.block_on(async {
        // Compiles only where hz-runtime's Tokio is the one that is linked.
        let _: JoinHandle<()> = hz_runtime::tokio::spawn_named("sleeper", sleeper());
        hz_runtime::tokio::spawn_named("receiver", async move {
            let _ = receiver.recv().await; // at: receiver
        });
        sleep(Duration::from_millis(50)).await;
    });
    println!("ready");
    io::stdout().flush()?;
    let _ = io::stdin().read(&mut [0]);
    drop(sender);
    std::process::exit(0);
}
