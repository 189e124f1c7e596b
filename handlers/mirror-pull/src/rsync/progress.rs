//! How far it is (`--info=progress2,stats2`). Pure.

/// At which parts of the whole something is said, in per cent.
const SAID: [u8; 3] = [25, 50, 75];

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Progress {
    said: u8,
    /// Files that came whole.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What came over the wire.
    pub received: u64,
}

impl Progress {
    /// Takes a line; answers with the per cent that are to be said now. Only when the list is whole (`to-chk`): before that
    /// per cent go up and down.
    pub fn hear(&mut self, line: &[u8]) -> Option<u8> {
        let text = std::str::from_utf8(line).ok()?.trim();
        for (label, number) in [
            ("Number of regular files transferred: ", &mut self.files),
            ("Total transferred file size: ", &mut self.bytes),
            ("Total bytes received: ", &mut self.received),
        ] {
            if let Some(rest) = text.strip_prefix(label) {
                let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
                *number = number.saturating_add(digits.parse().unwrap_or(0));
            }
        }
        if text.contains("ir-chk=") {
            return None;
        }
        let mut words = text.split_ascii_whitespace();
        words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit() || b == b','))?;
        let percent: u8 = words.next()?.strip_suffix('%')?.parse().ok()?;
        words.next().filter(|word| word.ends_with("/s"))?;
        let reached = SAID.into_iter().rev().find(|at| percent >= *at && percent < 100)?;
        (reached > self.said).then(|| self.said = reached)?;
        Some(reached)
    }
}

/// A size as people write it.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quarter_is_said_once_and_totals_are_read() {
        let mut progress = Progress::default();
        let said: Vec<u8> = [
            "              0   0%    0.00kB/s    0:00:00 (xfr#0, to-chk=6/8)",
            "      1,000,000  60%    0.00kB/s    0:00:00 (xfr#0, ir-chk=6/8)",
            "        1000000  26%    9.00MB/s    0:00:01  ",
            "        1000001  27%    9.00MB/s    0:00:01  ",
            "        1000001  80%    9.00MB/s    0:00:01 (xfr#1, to-chk=0/8)",
            "        1000001 100%    9.00MB/s    0:00:01 (xfr#1, to-chk=0/8)",
            "Number of regular files transferred: 1,204",
            "Total transferred file size: 50 bytes",
            "Total bytes received: 101",
            "sent 367 bytes  received 101 bytes  936.00 bytes/sec",
        ]
        .iter()
        .filter_map(|line| progress.hear(line.as_bytes()))
        .collect();
        assert_eq!(said, [25, 75]);
        assert_eq!((progress.files, progress.bytes, progress.received), (1_204, 50, 101));
        assert_eq!((size(999), size(1_250_000)), ("999 bytes".to_owned(), "1.2 MB".to_owned()));
    }
}
