//! The dashboard in a real terminal: driven by keys, resized, detached from, and left in every way.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test dies where it fails, its helpers too"
)]

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What a terminal that is ours may still be after a program has left it.
const FLAGS: &str = "alternate #{alternate_on} mouse #{mouse_any_flag} cursor #{cursor_flag}";

/// A terminal of its own, with a shell in it.
struct Terminal {
    server: String,
}

impl Terminal {
    fn open(name: &str) -> Self {
        let terminal = Self { server: format!("hz-{name}-{}", std::process::id()) };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "36", "sh"]);
        terminal.shows("$ ", "#");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.server])
            .args(arguments)
            .env("PS1", "$ ")
            .env_remove("TMUX")
            .output()
            .unwrap_or_else(|error| panic!("tmux: {error}; scripts/setup --test installs it"));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn run(&self, command: &str) {
        self.keys(&["-l", command]);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen has one of two texts.
    fn shows(&self, text: &str, or: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.screen();
            if screen.contains(text) || screen.contains(or) {
                return screen;
            }
            assert!(Instant::now() < until, "no `{text}` in\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn start(&self, environment: &str) {
        let program = env!("CARGO_BIN_EXE_hz-top");
        self.run(&format!(
            "clear; stty -g; {environment} {program} -p $$; echo left with $?; stty -g"
        ));
        self.shows("Run-queue wait", "Run-queue wait");
    }

    /// Its process.
    fn pid(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let path = format!("/proc/{0}/task/{0}/children", shell.trim());
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// The terminal is as it was before, and the shell in it goes on.
    fn is_clean(&self, status: &str) {
        let screen = self.shows(&format!("left with {status}"), "left with");
        assert!(screen.contains(&format!("left with {status}")), "{screen}");
        let flags = self.tmux(&["display-message", "-p", FLAGS]);
        assert_eq!(flags.trim(), "alternate 0 mouse 0 cursor 1");
        // Modes as stty tells them: hexadecimal numbers with colons.
        let lines = screen.lines().map(str::trim);
        let modes: Vec<&str> = lines.filter(|line| line.matches(':').count() > 10).collect();
        let modes = if modes.len() < 2 { self.modes() } else { modes.join("\n") };
        let told: BTreeSet<&str> = modes.lines().collect();
        assert_eq!(told.len(), 1, "{screen}");
        self.run("echo $((6 * 7)) is");
        self.shows("42 is", "42 is");
    }

    fn modes(&self) -> String {
        let screen = self.shows("left with", "left with");
        screen.lines().filter(|line| line.matches(':').count() > 10).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = Command::new("tmux")
            .args(["-L", &self.server, "display-message", "-p", "#{socket_path}"])
            .output();
        let _ = Command::new("tmux").args(["-L", &self.server, "kill-server"]).status();
        // tmux leaves it there.
        if let Ok(path) = socket {
            let _ = std::fs::remove_file(String::from_utf8_lossy(&path.stdout).trim());
        }
    }
}

/// Somebody who looks at a terminal, until dropped.
struct Viewer(Child);

impl Viewer {
    fn attach(terminal: &Terminal) -> Self {
        let mut command = Command::new("tmux");
        command.args(["-L", &terminal.server, "-C", "attach"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let viewer = Self(child);
        viewer.wait(terminal, 1);
        viewer
    }

    fn wait(&self, terminal: &Terminal, viewers: usize) {
        let until = Instant::now() + Duration::from_secs(10);
        while terminal.tmux(&["list-clients"]).lines().count() != viewers {
            assert!(Instant::now() < until, "{viewers} viewers of {:?}", self.0);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs CAP_BPF"]
fn every_panel_is_a_key_away_and_q_leaves_the_terminal_as_it_was() {
    let terminal = Terminal::open("panels");
    terminal.start("");
    let panels = [
        ("2", "┌ Tasks"),
        ("3", "┌ Threads"),
        ("4", "× CPU"),
        ("5", "┌ Sockets"),
        ("6", "┌ Queues"),
        ("7", "Memory"),
        ("8", "┌ Flame"),
        ("9", "hz"),
        ("1", "┌ CPU"),
    ];
    for (key, title) in panels {
        terminal.keys(&[key]);
        terminal.shows(title, title);
    }
    terminal.keys(&["?"]);
    terminal.shows("leave", "quit");
    terminal.keys(&["Escape"]);
    terminal.keys(&["3"]);
    terminal.keys(&["/"]);
    terminal.run("no-such-thread");
    terminal.shows("0 of", "0 active");
    for (width, height) in [("80", "24"), ("200", "50"), ("20", "5"), ("120", "36")] {
        terminal.tmux(&["resize-window", "-x", width, "-y", height]);
        std::thread::sleep(Duration::from_millis(300));
    }
    terminal.keys(&["5"]);
    terminal.shows("┌ Sockets", "┌ Sockets");
    terminal.keys(&["q"]);
    terminal.is_clean("0");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn it_goes_on_while_nobody_looks() {
    let terminal = Terminal::open("detached");
    terminal.start("");
    let viewer = Viewer::attach(&terminal);
    terminal.tmux(&["detach-client", "-a"]);
    terminal.tmux(&["detach-client"]);
    viewer.wait(&terminal, 0);
    let clock = |screen: &str| {
        let line = screen.lines().next().unwrap_or_default().trim_end().to_owned();
        line.rsplit(' ').nth(1).unwrap_or_default().to_owned()
    };
    let before = clock(&terminal.screen());
    let until = Instant::now() + Duration::from_secs(10);
    while clock(&terminal.screen()) == before {
        assert!(Instant::now() < until, "{}", terminal.screen());
        std::thread::sleep(Duration::from_millis(100));
    }
    let again = Viewer::attach(&terminal);
    terminal.keys(&["2"]);
    terminal.shows("┌ Tasks", "┌ Tasks");
    drop(again);
    terminal.keys(&["q"]);
    terminal.is_clean("0");
}

#[test]
#[ignore = "needs CAP_BPF"]
fn a_signal_and_a_panic_leave_the_terminal_as_it_was() {
    for signal in ["TERM", "INT", "HUP"] {
        let terminal = Terminal::open(signal);
        terminal.start("");
        let status =
            Command::new("kill").args([format!("-{signal}"), terminal.pid().to_string()]).status();
        assert!(status.unwrap().success());
        terminal.is_clean("0");
    }
    let terminal = Terminal::open("panic");
    terminal.start("HZ_TOP_PANIC=1");
    terminal.keys(&["!"]);
    terminal.is_clean("101");
}

/// Ids of the programs that the kernel has.
fn programs() -> BTreeSet<u64> {
    let shown = Command::new("bpftool").args(["-j", "prog", "show"]).output().unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&shown.stdout).unwrap();
    all.iter().filter_map(|program| program["id"].as_u64()).collect()
}

#[test]
#[ignore = "needs CAP_BPF"]
fn what_is_killed_leaves_no_program_in_the_kernel() {
    let terminal = Terminal::open("killed");
    let before = programs();
    terminal.start("");
    terminal.keys(&["8"]);
    terminal.shows("┌ Flame", "┌ Flame");
    let pid = terminal.pid();
    let held = &programs() - &before;
    assert!(held.len() > 3, "{held:?}");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let until = Instant::now() + Duration::from_secs(2);
    while programs().intersection(&held).next().is_some() {
        assert!(Instant::now() < until, "still there: {held:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
