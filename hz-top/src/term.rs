//! The terminal: taken, and left as it was, also after a panic or a signal.

use crate::app::Msg;
use anyhow::{Context, Result};
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableMouseCapture, EnableMouseCapture, Event, KeyCode, KeyEvent},
        execute,
    },
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};
use std::{io::stdout, sync::mpsc::SyncSender};

/// A terminal that is ours until this is dropped.
pub(crate) struct Screen {
    pub(crate) terminal: DefaultTerminal,
}

impl Screen {
    pub(crate) fn take() -> Result<Self> {
        // Its panic hook leaves the screen before the panic is told.
        let terminal = ratatui::try_init()
            .context("no terminal to draw on; hz-top --once prints one screen as text")?;
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = execute!(stdout(), DisableMouseCapture);
            hook(info);
        }));
        // A terminal without a mouse is none less.
        let _ = execute!(stdout(), EnableMouseCapture);
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), DisableMouseCapture);
        ratatui::restore();
    }
}

/// Sends the wish to leave that a signal is. The thread ends with the process.
pub(crate) fn listen_for_signals(sender: &SyncSender<Msg>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let quit = sender.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if quit.send(Msg::Quit).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// Sends keys and the mouse. The thread ends with the process.
pub(crate) fn listen_for_keys(sender: SyncSender<Msg>) {
    std::thread::spawn(move || {
        loop {
            let msg = match event::read() {
                Ok(Event::Key(key)) => Msg::Key(key),
                Ok(Event::Mouse(mouse)) => Msg::Mouse(mouse),
                Ok(Event::Resize(width, height)) => Msg::Resize(width, height),
                Ok(_) => continue,
                // The terminal is gone.
                Err(_) => Msg::Quit,
            };
            let is_last = matches!(msg, Msg::Quit);
            if sender.send(msg).is_err() || is_last {
                break;
            }
        }
    });
}

/// Lets a test see what a panic leaves of the terminal: in debug builds `!` panics where
/// `HZ_TOP_PANIC` is set.
#[expect(clippy::panic, reason = "it is what is asked for")]
pub(crate) fn panic_if_asked(msg: &Msg) {
    let is_asked = |key: &KeyEvent| key.code == KeyCode::Char('!');
    if cfg!(debug_assertions)
        && matches!(msg, Msg::Key(key) if is_asked(key))
        && std::env::var_os("HZ_TOP_PANIC").is_some()
    {
        panic!("as a test asked for");
    }
}
