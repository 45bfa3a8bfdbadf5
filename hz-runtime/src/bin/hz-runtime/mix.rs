//! What a load asks for: routes by weight.

/// A request and how often it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// As the user wrote it.
    pub(crate) name: String,
    weight: u32,
    method: &'static str,
    path: String,
}

/// Requests by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix(Vec<Part>);

impl Mix {
    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Which part `random` chooses.
    pub(crate) fn choose(&self, random: u64) -> usize {
        let total: u64 = self.0.iter().map(|part| u64::from(part.weight)).sum();
        let mut left = random % total.max(1);
        self.0
            .iter()
            .position(|part| {
                let is_chosen = left < u64::from(part.weight);
                left = left.saturating_sub(u64::from(part.weight));
                is_chosen
            })
            .unwrap_or(0)
    }
}

impl Part {
    /// The request as it is sent.
    pub(crate) fn request(&self, host: &str, body_bytes: usize) -> Vec<u8> {
        let (method, path) = (self.method, &self.path);
        let bytes = if method == "POST" { body_bytes } else { 0 };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\n\r\n");
        let mut request = head.into_bytes();
        request.resize(request.len() + bytes, b'x');
        request
    }
}

/// Parses `ROUTE[:NUMBER][=WEIGHT],…`.
pub(crate) fn parse_mix(text: &str) -> Result<Mix, String> {
    let parts: Result<Vec<Part>, String> = text.split(',').map(parse_part).collect();
    let parts = parts?;
    if parts.iter().all(|part| part.weight == 0) {
        return Err("all weights are 0".to_owned());
    }
    Ok(Mix(parts))
}

fn parse_part(text: &str) -> Result<Part, String> {
    let (what, weight) = text.split_once('=').unwrap_or((text, "1"));
    let weight = weight.parse().map_err(|_| format!("\"{weight}\" is no weight"))?;
    let (route, number) = match what.split_once(':') {
        Some((route, number)) => (route, Some(number)),
        None => (what, None),
    };
    if let Some(number) = number.filter(|number| number.parse::<u64>().is_err()) {
        return Err(format!("\"{number}\" is no number"));
    }
    let key = match route {
        "echo" | "healthz" => None,
        "cpu" | "block" | "sleep" => Some("us"),
        "spawn" => Some("n"),
        _ => return Err(format!("\"{route}\" is none of echo, cpu, block, sleep, spawn, healthz")),
    };
    let path = match (key, number) {
        (None, None) => format!("/{route}"),
        (Some(key), Some(number)) => format!("/{route}?{key}={number}"),
        (None, Some(_)) => return Err(format!("{route} takes no number")),
        (Some(_), None) => return Err(format!("{route} needs a number, as in {route}:1000")),
    };
    let method = if route == "echo" { "POST" } else { "GET" };
    Ok(Part { name: what.to_owned(), weight, method, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_chosen_by_weight() {
        let mix = parse_mix("echo=90,cpu:500=9,block:20000=1").unwrap();
        let mut chosen = [0; 3];
        for random in 0..1000 {
            chosen[mix.choose(random)] += 1;
        }
        assert_eq!(chosen, [900, 90, 10]);
    }

    #[test]
    fn requests_are_what_the_service_understands() {
        let mix = parse_mix("echo,spawn:10").unwrap();
        let echo = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nxxx";
        assert_eq!(mix.parts()[0].request("here", 3), echo);
        let spawn = b"GET /spawn?n=10 HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(mix.parts()[1].request("here", 3), spawn);
    }

    #[test]
    fn what_is_wrong_with_a_mix_is_said() {
        let said = |text| parse_mix(text).unwrap_err();
        assert_eq!(said("cpu=1"), "cpu needs a number, as in cpu:1000");
        assert_eq!(said("echo:1"), "echo takes no number");
        assert_eq!(said("ping"), "\"ping\" is none of echo, cpu, block, sleep, spawn, healthz");
        assert_eq!(said("echo=x"), "\"x\" is no weight");
        assert_eq!(said("cpu:x"), "\"x\" is no number");
        assert_eq!(said("echo=0"), "all weights are 0");
    }
}
