//! hyper's client and server on this runtime.

#![cfg(feature = "hyper")]

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hz_runtime::hyper::{HyperExecutor, HyperTimer};
use hz_runtime::net::{TcpListener, TcpStream};
use hz_runtime::{Runtime, spawn, time};
use std::net::Ipv4Addr;
use std::time::Duration;

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, hyper::Error> {
    let mut response = Response::new(request.into_body());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Reads a body to its end without the crate that offers it.
async fn collect(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    use hyper::body::Body;
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

async fn round_trips() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(HyperTimer).header_read_timeout(Duration::from_secs(10));
        http.serve_connection(stream, service_fn(echo)).await?;
        Ok::<_, Failure>(())
    });
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    hyper::rt::Executor::execute(&HyperExecutor, async move { connection.await.is_ok() });
    for size in [0, 1, 1024, 100_000] {
        let sent = "x".repeat(size);
        sender.ready().await?;
        let request = Request::post("/echo").header("host", "localhost").body(sent.clone())?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert!(collect(response.into_body()).await? == sent.as_bytes(), "{size} bytes");
    }
    drop(sender);
    server.await?
}

#[test]
fn requests_come_back_over_one_connection() {
    let runtime = Runtime::builder().worker_threads(2).build().expect("a runtime");
    let limit = Duration::from_secs(20);
    runtime.block_on(time::timeout(limit, round_trips())).expect("in time").unwrap();
}
