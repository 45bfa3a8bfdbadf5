//! A headless browser that uses a picture as a person would.

use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

/// Runs what every driver calls `run`.
const DRIVER_END: &str = include_str!("drive_end.js");

/// Whether there is a browser; says so if not.
pub(crate) fn has_browser() -> bool {
    let found = Command::new("chromium")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let has_browser = found.is_ok_and(|status| status.success());
    if !has_browser {
        eprintln!("skipped: chromium is not installed, scripts/setup installs it");
    }
    has_browser
}

/// Opens a page with `body` and returns what `driver` saw, which is told `facts`.
pub(crate) fn drive(files: &[(&str, &str)], body: &str, (driver, facts): (&str, &str)) -> Value {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let page = folder.path().join("page.html");
    let html = format!(
        "<!DOCTYPE html><html><body style='margin:0'><script>{driver}{DRIVER_END}</script>{body}\
         <script>start({facts})</script></body></html>"
    );
    fs::write(&page, html).unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let seen = dom.split_once("<pre id=\"seen\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let Some((seen, _)) = seen else { panic!("the driver did not finish: {dom:.2000}") };
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&seen).unwrap()
}

pub(crate) fn text<'a>(seen: &'a Value, path: &str) -> &'a str {
    seen.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {seen:#}"))
}
