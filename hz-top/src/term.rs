//! The terminal: taken, and left as it was, also after a panic or a signal.

use crate::app::Msg;
use anyhow::{Context, Result};
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableMouseCapture, EnableMouseCapture, Event},
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

/// Sends keys, the mouse and signals. The threads end with the process.
pub(crate) fn listen(sender: &SyncSender<Msg>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let quit = sender.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if quit.send(Msg::Quit).is_err() {
                break;
            }
        }
    });
    let sender = sender.clone();
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
    Ok(())
}
