//! What the service answers.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hz_runtime::{TaskMeta, probe, spawn_with, time::sleep, yield_now};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest body that `/echo` sends back.
const BODY_MAX_BYTES: usize = 16 << 20;

/// The longest that a request may compute, block or sleep.
const TIME_MAX_US: u64 = 10_000_000;

/// The most tasks that a request may spawn.
const TASKS_MAX: u64 = 100_000;

static KILOBYTE: [u8; 1024] = [b'x'; 1024];

/// A response with its status.
type Answer = (StatusCode, Bytes);

/// Answers a request, and tells whoever observes it when it began and ended.
pub(super) async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let route = route(request.uri().path());
    probe::request_begin(id, route);
    let (status, body) = dispatch(route, request).await;
    probe::request_end(id, u32::from(status.as_u16()));
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    Ok(response)
}

/// The route of a path, by its name.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 6] = ["/echo", "/cpu", "/block", "/sleep", "/spawn", "/healthz"];
    ROUTES.into_iter().find(|route| *route == path).unwrap_or("unknown")
}

async fn dispatch(route: &str, request: Request<Incoming>) -> Answer {
    match route {
        "/echo" if request.method() == Method::POST => echo(request.into_body()).await,
        "/echo" => (StatusCode::OK, Bytes::from_static(&KILOBYTE)),
        "/cpu" => for_time(&request, compute),
        // What async code must not do: this worker's other tasks wait meanwhile.
        "/block" => for_time(&request, std::thread::sleep),
        "/sleep" => match number(&request, "us", TIME_MAX_US) {
            Ok(us) => {
                sleep(Duration::from_micros(us)).await;
                ok(format!("slept for {us} us\n"))
            }
            Err(answer) => answer,
        },
        "/spawn" => match number(&request, "n", TASKS_MAX) {
            Ok(tasks) => spawn_and_join(tasks).await,
            Err(answer) => answer,
        },
        "/healthz" => ok("ok\n".to_owned()),
        _ => {
            let known = "no such route; there are /echo, /cpu?us=N, /block?us=N, /sleep?us=N, /spawn?n=N and /healthz\n";
            (StatusCode::NOT_FOUND, Bytes::from_static(known.as_bytes()))
        }
    }
}

fn ok(text: String) -> Answer {
    (StatusCode::OK, Bytes::from(text))
}

fn bad(text: String) -> Answer {
    (StatusCode::BAD_REQUEST, Bytes::from(text))
}

async fn echo(body: Incoming) -> Answer {
    match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => (StatusCode::OK, body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("a body of more than {BODY_MAX_BYTES} bytes is not echoed\n");
            (StatusCode::PAYLOAD_TOO_LARGE, Bytes::from(text))
        }
        Err(error) => bad(format!("the body cannot be read: {error}\n")),
    }
}

/// Spends the time that the request asks for.
fn for_time(request: &Request<Incoming>, spend: impl FnOnce(Duration)) -> Answer {
    match number(request, "us", TIME_MAX_US) {
        Ok(us) => {
            spend(Duration::from_micros(us));
            ok(format!("spent {us} us\n"))
        }
        Err(answer) => answer,
    }
}

fn compute(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        std::hint::spin_loop();
    }
}

async fn spawn_and_join(tasks: u64) -> Answer {
    let work = || async {
        yield_now().await;
        1_u64
    };
    let spawned: Vec<_> = (0..tasks).map(|_| spawn_with(TaskMeta::named("part"), work())).collect();
    let mut done = 0;
    for task in spawned {
        done += task.await.unwrap_or(0);
    }
    ok(format!("joined {done} tasks\n"))
}

/// The number that the query gives `name`, up to `most`.
fn number(request: &Request<Incoming>, name: &str, most: u64) -> Result<u64, Answer> {
    let query = request.uri().query().unwrap_or("");
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    });
    let Some(value) = value else {
        return Err(bad(format!("{} needs {name}=N\n", request.uri().path())));
    };
    value
        .parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| bad(format!("{name}={value} is no number from 0 to {most}\n")))
}
