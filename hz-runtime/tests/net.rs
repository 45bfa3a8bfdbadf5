//! Sockets against the kernel's own, each test with a limit of its own.

#![cfg(feature = "executor")]

use hz_runtime::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use hz_runtime::{Runtime, spawn, time};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn run<T>(test: impl Future<Output = io::Result<T>>) -> T {
    let runtime = Runtime::builder().worker_threads(2).build().expect("a runtime");
    let result = runtime.block_on(time::timeout(LIMIT, test));
    result.expect("within the test's limit").expect("the test's sockets work")
}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(ANY)?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    Ok((client, server))
}

#[test]
fn a_megabyte_comes_back_over_tcp() {
    run(async {
        let (client, server) = pair().await?;
        let echo = spawn(async move {
            let mut bytes = vec![0; 10_000];
            loop {
                match server.read(&mut bytes).await? {
                    0 => return io::Result::Ok(()),
                    count => server.write_all(&bytes[..count]).await?,
                }
            }
        });
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut read, mut write) = client.into_split();
        let expected = sent.clone();
        let writer = spawn(async move { write.write_all(&sent).await });
        let mut received = vec![0; expected.len()];
        read.read_exact(&mut received).await?;
        assert!(received == expected, "the bytes differ");
        writer.await.unwrap()?;
        // The writing half is gone by now: the echo read the end.
        assert_eq!(read.read(&mut received).await?, 0);
        echo.await.unwrap()
    });
}

#[test]
fn half_closed_it_still_reads() {
    run(async {
        let (client, server) = pair().await?;
        client.write_all(b"question").await?;
        client.shutdown(Shutdown::Write)?;
        let mut bytes = [0; 64];
        assert_eq!(server.read(&mut bytes).await?, 8);
        assert_eq!(server.read(&mut bytes).await?, 0);
        server.write_all(b"answer").await?;
        assert_eq!(client.read(&mut bytes).await?, 6);
        Ok(())
    });
}

#[test]
fn a_port_without_listener_refuses() {
    run(async {
        let listener = TcpListener::bind(ANY)?;
        let address = listener.local_addr()?;
        drop(listener);
        let error = TcpStream::connect(address).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        Ok(())
    });
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    run(async {
        let listener = TcpListener::bind(ANY)?;
        let error = TcpListener::bind(listener.local_addr()?).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        Ok(())
    });
}

#[test]
fn a_read_that_was_given_up_loses_nothing() {
    run(async {
        let (client, server) = pair().await?;
        let mut bytes = [0; 16];
        let given_up = time::timeout(Duration::from_millis(2), server.read(&mut bytes)).await;
        assert!(given_up.is_err(), "nothing was sent: {given_up:?}");
        client.write_all(b"late").await?;
        assert_eq!(server.read(&mut bytes).await?, 4);
        assert_eq!(&bytes[..4], b"late");
        Ok(())
    });
}

#[test]
fn a_descriptor_that_is_used_again_starts_anew() {
    run(async {
        let mut fds = Vec::new();
        for round in 0..50_u8 {
            let (client, server) = pair().await?;
            fds.push(server.as_fd().as_raw_fd());
            client.write_all(&[round]).await?;
            let mut bytes = [0; 4];
            assert_eq!(server.read(&mut bytes).await?, 1);
            assert_eq!(bytes[0], round);
        }
        fds.sort_unstable();
        fds.dedup();
        assert!(fds.len() < 50, "no descriptor was used again: {fds:?}");
        Ok(())
    });
}

#[test]
fn five_hundred_clients_at_once_are_all_accepted() {
    run(async {
        let listener = TcpListener::bind(ANY)?;
        let address = listener.local_addr()?;
        let connect = move || async move {
            let stream = TcpStream::connect(address).await?;
            stream.write_all(b"x").await?;
            let mut bytes = [0; 1];
            stream.read_exact(&mut bytes).await
        };
        let clients: Vec<_> = (0..500).map(|_| spawn(connect())).collect();
        for _ in 0..500 {
            let (stream, _) = listener.accept().await?;
            drop(spawn(async move {
                let mut bytes = [0; 1];
                stream.read_exact(&mut bytes).await?;
                stream.write_all(&bytes).await
            }));
        }
        for client in clients {
            client.await.unwrap()?;
        }
        Ok(())
    });
}

#[test]
fn datagrams_come_back() {
    run(async {
        let server = UdpSocket::bind(ANY)?;
        let client = UdpSocket::bind(ANY)?;
        client.connect(server.local_addr()?)?;
        let echo = spawn(async move {
            let mut bytes = [0; 64];
            let (count, from) = server.receive_from(&mut bytes).await?;
            server.send_to(&bytes[..count], from).await
        });
        client.send(b"ping").await?;
        let mut bytes = [0; 64];
        assert_eq!(client.receive(&mut bytes).await?, 4);
        assert_eq!(echo.await.unwrap()?, 4);
        Ok(())
    });
}

#[test]
fn a_unix_socket_echoes() {
    let path = std::env::temp_dir().join(format!("hz-runtime-net-{}", std::process::id()));
    run(async {
        let listener = UnixListener::bind(&path)?;
        let client = UnixStream::connect(&path).await?;
        let server = listener.accept().await?;
        client.write_all(b"hello").await?;
        let mut bytes = [0; 8];
        assert_eq!(server.read(&mut bytes).await?, 5);
        drop(server);
        assert_eq!(client.read(&mut bytes).await?, 0);
        std::fs::remove_file(&path)
    });
}

#[test]
fn a_worker_that_blocks_does_not_hold_up_other_connections() {
    run(async {
        let (ours, theirs) = std::sync::mpsc::channel::<()>();
        let blocked = spawn(async move { theirs.recv_timeout(LIMIT).is_ok() });
        // Of several connections some belong to the worker that blocks.
        for _ in 0..8 {
            let (client, server) = pair().await?;
            let answer = spawn(async move {
                let mut bytes = [0; 1];
                server.read_exact(&mut bytes).await?;
                server.write_all(&bytes).await
            });
            client.write_all(b"x").await?;
            let mut bytes = [0; 1];
            client.read_exact(&mut bytes).await?;
            answer.await.unwrap()?;
        }
        ours.send(()).unwrap();
        assert!(blocked.await.unwrap(), "it blocked until all were served");
        Ok(())
    });
}

#[test]
fn outside_a_runtime_a_socket_says_so() {
    let error = UdpSocket::bind(SocketAddr::from(ANY)).expect_err("there is no runtime");
    assert!(error.to_string().contains("no runtime on this thread"), "{error}");
}

#[test]
fn slices_arrive_in_their_order_whether_they_are_few_bytes_or_many() {
    use futures_lite::AsyncWriteExt;
    use std::io::IoSlice;
    run(async {
        let (mut client, server) = pair().await?;
        // Together below what is sent as one, at it, and above it.
        for (head, body) in [(0, 1), (200, 1024), (1024, 1024), (1024, 1025), (3000, 5000)] {
            let (head, body) = (vec![b'h'; head], vec![b'b'; body]);
            let slices = [IoSlice::new(&head), IoSlice::new(&body)];
            let written = client.write_vectored(&slices).await?;
            let all = [head, body].concat();
            assert_eq!(written, all.len(), "the socket has room for it");
            let mut bytes = vec![0; all.len()];
            server.read_exact(&mut bytes).await?;
            assert_eq!(bytes, all);
        }
        Ok(())
    });
}
