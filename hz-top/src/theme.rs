//! Colours by what they mean, for every kind of terminal. Nothing is told by colour alone.

use ratatui::style::{Color, Modifier, Style};

/// How many colours a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// None, or none wanted.
    None,
    /// The 16 that every terminal names.
    Sixteen,
    /// 256.
    Many,
    /// Any.
    True,
}

impl Colours {
    /// What the environment says: `NO_COLOR`, `COLORTERM`, `TERM`.
    #[must_use]
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let term = variable("TERM").unwrap_or_default();
        let depth = variable("COLORTERM").unwrap_or_default();
        match () {
            () if is_set("NO_COLOR") || term == "dumb" => Self::None,
            () if depth == "truecolor" || depth == "24bit" => Self::True,
            () if term.contains("256color") => Self::Many,
            () => Self::Sixteen,
        }
    }
}

/// Styles by meaning.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    colours: Colours,
}

/// Blue over grey to orange: told apart by all common kinds of colour vision.
const HEAT: [(u8, u8, u8); 5] =
    [(0, 50, 90), (0, 114, 178), (120, 140, 150), (230, 159, 0), (255, 110, 20)];
const HEAT_MANY: [u8; 5] = [17, 25, 246, 214, 208];

impl Theme {
    /// For a terminal of so many colours.
    #[must_use]
    pub const fn new(colours: Colours) -> Self {
        Self { colours }
    }

    fn of(self, true_colour: (u8, u8, u8), many: u8, sixteen: Color) -> Style {
        let (red, green, blue) = true_colour;
        match self.colours {
            Colours::None => Style::new(),
            Colours::Sixteen => Style::new().fg(sixteen),
            Colours::Many => Style::new().fg(Color::Indexed(many)),
            Colours::True => Style::new().fg(Color::Rgb(red, green, blue)),
        }
    }

    /// What is beside the point.
    #[must_use]
    pub fn dim(self) -> Style {
        match self.colours {
            Colours::None => Style::new(),
            _ => self.of((140, 150, 160), 246, Color::DarkGray),
        }
    }

    /// Titles.
    #[must_use]
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What needs attention.
    #[must_use]
    pub fn alarm(self) -> Style {
        self.of((255, 150, 40), 208, Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What the eye may follow.
    #[must_use]
    pub fn accent(self) -> Style {
        self.of((86, 180, 233), 74, Color::Cyan)
    }

    /// The row that is chosen.
    #[must_use]
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A frame of a flame graph that takes this share of it: what takes more is warmer, the kernel's is
    /// cold.
    #[must_use]
    pub fn frame(self, share: f64, is_kernel: bool) -> Style {
        if self.colours == Colours::None {
            return Style::new();
        }
        let warm = [
            (Color::Rgb(240, 196, 120), 222),
            (Color::Rgb(230, 159, 0), 214),
            (Color::Rgb(235, 120, 40), 208),
        ];
        let (rich, many) = if is_kernel {
            (Color::Rgb(120, 180, 220), 110)
        } else {
            warm[((share.clamp(0.0, 1.0) * 3.0) as usize).min(2)]
        };
        let back = match self.colours {
            Colours::True => rich,
            Colours::Many => Color::Indexed(many),
            _ if is_kernel => Color::Cyan,
            _ => Color::Yellow,
        };
        Style::new().fg(Color::Black).bg(back)
    }

    /// What is marked where there are no colours.
    #[must_use]
    pub fn marked(self) -> Style {
        match self.colours {
            Colours::None => Style::new().add_modifier(Modifier::UNDERLINED),
            _ => Style::new(),
        }
    }

    /// A share from 0 to 1 as a colour.
    #[must_use]
    pub fn heat(self, share: f64) -> Style {
        let step = ((share.clamp(0.0, 1.0) * 4.0).round() as usize).min(4);
        let sixteen = [Color::Blue, Color::Blue, Color::Gray, Color::Yellow, Color::LightYellow];
        self.of(HEAT[step], HEAT_MANY[step], sixteen[step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_and_no_color_wins() {
        let of = |pairs: &[(&str, &str)]| {
            Colours::of_environment(|name| {
                let pair = pairs.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[("TERM", "xterm")]), Colours::Sixteen);
        assert_eq!(of(&[("TERM", "xterm-256color")]), Colours::Many);
        assert_eq!(of(&[("TERM", "xterm"), ("COLORTERM", "truecolor")]), Colours::True);
        assert_eq!(of(&[("NO_COLOR", "1"), ("COLORTERM", "truecolor")]), Colours::None);
        assert_eq!(of(&[("NO_COLOR", ""), ("TERM", "linux")]), Colours::Sixteen);
    }
}
