//! A TCP echo on Tokio whose tasks `hz-trace` can follow onto their CPU.
//!
//! ```text
//! cargo run --release --example tokio_service --features tokio -- 127.0.0.1:7777 &
//! hz-trace --export=svg -p $! -d 5
//! ```
//!
//! It prints the address it listens on, and runs until it is killed.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(&address))
}

async fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(hz_runtime::tokio::spawn_named("echo", connection(stream))),
            // Out of file descriptors: it gets better when connections end.
            Err(error) if error.raw_os_error() == Some(24) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn connection(mut stream: TcpStream) {
    if let Err(error) = echo(&mut stream).await {
        eprintln!("tokio_service: {error}");
    }
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}
