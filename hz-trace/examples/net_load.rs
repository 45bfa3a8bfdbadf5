//! Connections over loopback, for measuring what looking at them costs and whether it keeps up.
//!
//! `net_load` says its process id, then does what each line of its input says and answers with a figure:
//!
//! - `bulk SECONDS`: one connection at full load; gigabytes a second.
//! - `echo SECONDS`: small requests, one at a time; answers a second.
//! - `many CONNECTIONS SECONDS`: so many connections to another process, on all of which something is
//!   asked and answered again and again; answers a second.
//! - `short SECONDS [RATE]`: connections that end at once, at most `RATE` a second; how many a second.
#![expect(clippy::unwrap_used, reason = "a measurement: what fails, ends it")]

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _, stdin},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

fn bulk(lasts: Duration) -> f64 {
    let (mut client, mut server) = pair();
    let began = Instant::now();
    let bytes = std::thread::scope(|scope| {
        scope.spawn(move || {
            let buffer = vec![7; 262_144];
            while began.elapsed() < lasts {
                client.write_all(&buffer).unwrap();
            }
        });
        let mut buffer = vec![0; 262_144];
        let mut bytes = 0;
        loop {
            match server.read(&mut buffer).unwrap() {
                0 => return bytes,
                read => bytes += read as u64,
            }
        }
    });
    bytes as f64 / began.elapsed().as_secs_f64() / 1e9
}

fn echo(lasts: Duration) -> f64 {
    let (mut client, mut server) = pair();
    let began = Instant::now();
    let mut count = 0_u64;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 128];
            while server.read_exact(&mut buffer).is_ok() {
                server.write_all(&buffer).unwrap();
            }
        });
        let mut buffer = [7; 128];
        while began.elapsed() < lasts {
            client.write_all(&buffer).unwrap();
            client.read_exact(&mut buffer).unwrap();
            count += 1;
        }
        client.shutdown(Shutdown::Both).unwrap();
    });
    count as f64 / began.elapsed().as_secs_f64()
}

/// Another process of this program, that is told `arguments`, and what it says first.
fn other_process(arguments: &[String]) -> (Child, SocketAddr) {
    let mut other = Command::new(env::current_exe().unwrap())
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().parse().unwrap();
    (other, address)
}

/// The other process of [`many`]: accepts so many, and answers them in turn until they end.
fn answer(count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut streams: Vec<TcpStream> =
        (0..count).map(|_| listener.accept().map(|(stream, _)| stream).unwrap()).collect();
    let mut byte = [0];
    loop {
        for stream in &mut streams {
            if stream.read_exact(&mut byte).is_err() || stream.write_all(&byte).is_err() {
                return;
            }
        }
    }
}

fn many(count: usize, lasts: Duration) -> f64 {
    let (mut other, address) = other_process(&["answer".to_owned(), count.to_string()]);
    let mut streams: Vec<TcpStream> =
        (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    let began = Instant::now();
    let mut answers = 0_u64;
    while began.elapsed() < lasts {
        for stream in &mut streams {
            stream.write_all(&[1]).unwrap();
        }
        for stream in &mut streams {
            stream.read_exact(&mut [0]).unwrap();
            answers += 1;
        }
    }
    let rate = answers as f64 / began.elapsed().as_secs_f64();
    drop(streams);
    other.wait().unwrap();
    rate
}

/// Lets a socket end by a reset: in `TIME_WAIT` it would soon have all ports.
fn end_by_reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = u32::try_from(size_of_val(&linger)).unwrap();
    // SAFETY: the pointer and the length are those of a structure that lives meanwhile.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// The other process of [`short`]: accepts and closes.
fn accept() -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        drop(listener.accept().unwrap());
    }
}

/// Two threads connect, each only when its last connection has been accepted and closed: the queue of the
/// listener never overflows.
fn short(lasts: Duration, most: f64) -> f64 {
    let (mut other, address) = other_process(&["accept".to_owned()]);
    let began = Instant::now();
    let client = || {
        let mut made = 0_u64;
        while began.elapsed() < lasts {
            let mut stream = TcpStream::connect(address).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            end_by_reset(&stream);
            made += 1;
            // Each thread makes half of them.
            let due = Duration::from_secs_f64(2.0 * made as f64 / most);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        made
    };
    let made: u64 = std::thread::scope(|scope| {
        [scope.spawn(client), scope.spawn(client)].map(|each| each.join().unwrap()).iter().sum()
    });
    let rate = made as f64 / began.elapsed().as_secs_f64();
    other.kill().unwrap();
    other.wait().unwrap();
    rate
}

fn measure(words: &[&str]) -> Option<f64> {
    let seconds = |text: &str| Duration::from_secs_f64(text.parse().unwrap());
    match words {
        ["bulk", lasts] => Some(bulk(seconds(lasts))),
        ["echo", lasts] => Some(echo(seconds(lasts))),
        ["many", count, lasts] => Some(many(count.parse().unwrap(), seconds(lasts))),
        ["short", lasts] => Some(short(seconds(lasts), f64::INFINITY)),
        ["short", lasts, most] => Some(short(seconds(lasts), most.parse().unwrap())),
        _ => None,
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["answer", count] => {
            answer(count.parse().unwrap());
            return ExitCode::SUCCESS;
        }
        ["accept"] => accept(),
        _ => {
            eprintln!("net_load: takes no arguments, but lines on its input");
            return ExitCode::from(2);
        }
    }
    println!("{}", std::process::id());
    for line in stdin().lock().lines().map(Result::unwrap) {
        let Some(figure) = measure(&line.split_whitespace().collect::<Vec<_>>()) else {
            eprintln!(
                "net_load: a line is bulk|echo SECONDS, short SECONDS [RATE] or many CONNECTIONS SECONDS, not {line}"
            );
            return ExitCode::from(2);
        };
        println!("{figure:.3}");
    }
    ExitCode::SUCCESS
}
