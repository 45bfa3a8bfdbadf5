use super::{
    families::FAMILIES,
    figures::Figures,
    serve::{Exporter, address, page},
};
use crate::view::tests::window;
use hz_trace::model::window::{RuntimeRow, Window, WorkerRow};
use openmetrics_parser::{MetricNumber, OpenMetricsValue, openmetrics::parse_openmetrics};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

fn figures(windows: usize) -> Figures {
    let mut figures = Figures::default();
    let workers = vec![WorkerRow { worker: 1, depth: [0, 0, 3, 1], ..WorkerRow::default() }];
    let runtime = RuntimeRow { name: "hz-runtime".into(), workers, ..RuntimeRow::default() };
    let window = Window { runtimes: vec![runtime], ..window() };
    (0..windows).for_each(|_| figures.add(&window));
    figures
}

/// The value of a series that has these label values.
fn value(page: &str, family: &str, labels: &[&str]) -> f64 {
    let parsed = parse_openmetrics(page).unwrap();
    let family = parsed.families.get(family).unwrap_or_else(|| panic!("no {family} in {page}"));
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let sample = family.get_sample_by_label_values(&labels).unwrap();
    let number = match &sample.value {
        OpenMetricsValue::Counter(counter) => &counter.value,
        OpenMetricsValue::Gauge(number) => number,
        other => panic!("{other:?}"),
    };
    match number {
        MetricNumber::Int(number) => *number as f64,
        MetricNumber::Float(number) => *number,
    }
}

#[test]
fn a_strict_reader_understands_every_figure() {
    let page = page(Arc::new(figures(1)));
    let parsed = parse_openmetrics(&page).unwrap();
    assert!(page.ends_with("# EOF\n"));
    assert!(parsed.families.len() > 30, "{}", parsed.families.len());
    assert!(parsed.families.contains_key("hz_run_queue_wait_seconds"));
}

#[test]
fn counters_grow_by_each_window_and_gauges_are_the_last() {
    let page = page(Arc::new(figures(3)));
    assert_eq!(value(&page, "hz_cpu_busy_seconds", &["0"]), 3.0 * 0.78);
    assert_eq!(value(&page, "hz_process_cpu_seconds", &["hz-runtime"]), 3.0 * (0.080 + 0.081));
    assert_eq!(value(&page, "hz_threads", &[]), 7.0);
    assert_eq!(value(&page, "hz_runtime_queue_depth", &["hz-runtime", "1"]), 4.0);
    assert_eq!(value(&page, "hz_tcp_segments_retransmitted", &[]), 12.0);
    assert_eq!(value(&page, "hz_accept_queue_depth", &["0.0.0.0:8080", "hz-runtime"]), 118.0);
    assert!(page.contains("hz_run_queue_wait_seconds_count 1200\n"), "{page}");
}

#[test]
fn names_with_quotes_and_line_ends_break_nothing() {
    let mut window = window();
    window.groups[0].name = "a\"b\\c\nd".into();
    let mut figures = Figures::default();
    figures.add(&window);
    parse_openmetrics(&page(Arc::new(figures))).unwrap();
}

#[test]
fn many_names_are_summed_as_others() {
    let mut figures = Figures::default();
    let mut window = window();
    let row = window.threads[0].clone();
    window.threads = (0..1_000)
        .map(|number| {
            let mut row = row.clone();
            (row.process, row.run_ns) = (format!("p{number}"), 1_000_000_000);
            row
        })
        .collect();
    figures.add(&window);
    let page = page(Arc::new(figures));
    assert_eq!(value(&page, "hz_process_cpu_seconds", &["(others)"]), 800.0);
}

/// The dashboard asks for what is served, and under its name.
#[test]
fn the_dashboard_names_figures_that_are_there() {
    let text = include_str!("../../../fixtures/grafana/hz-top.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let served = page(Arc::new(figures(1)));
    let mut asked = 0;
    for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
        for name in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if let Some(name) = name.strip_prefix("hz_") {
                asked += 1;
                let starts = [format!("\nhz_{name} "), format!("\nhz_{name}{{")];
                assert!(
                    starts.iter().any(|start| served.contains(start)),
                    "no hz_{name} in {served}"
                );
            }
        }
    }
    assert!(asked > 20, "{asked}");
}

#[test]
fn every_family_has_a_name_of_its_own() {
    for (place, family) in FAMILIES.iter().enumerate() {
        assert!(FAMILIES[..place].iter().all(|other| other.name != family.name), "{family:?}");
        assert!(!family.name.ends_with("_total") && !family.name.starts_with("hz_"));
    }
}

fn get(exporter: &Exporter, request: &str) -> String {
    let mut stream = TcpStream::connect(exporter.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_scrape_gets_what_was_added_last() {
    let mut exporter = Exporter::start(address("127.0.0.1:0").unwrap()).unwrap();
    exporter.add(&window());
    let text = get(&exporter, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert_eq!(value(body, "hz_threads", &[]), 7.0);
    assert!(get(&exporter, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(get(&exporter, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(get(&exporter, "\x01\x02\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn a_client_that_says_nothing_holds_nothing_up() {
    let mut exporter = Exporter::start(address("127.0.0.1:0").unwrap()).unwrap();
    let silent = TcpStream::connect(exporter.address()).unwrap();
    let begin = Instant::now();
    exporter.add(&window());
    assert!(begin.elapsed() < Duration::from_secs(1));
    let text = get(&exporter, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.contains("# EOF"));
    drop(silent);
}

#[test]
fn a_port_alone_is_of_this_host_only() {
    assert_eq!(address("9469").unwrap().to_string(), "127.0.0.1:9469");
    assert_eq!(address(":9469").unwrap().to_string(), "127.0.0.1:9469");
    assert_eq!(address("[::1]:9469").unwrap().to_string(), "[::1]:9469");
    assert!(address("nonsense").unwrap_err().contains("127.0.0.1:9469"));
}
