//! What a bench found out, and how it is shown: what, figure, the thing beside it, ratio.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    bench: &'static str,
    what: String,
    figure: f64,
    unit: &'static str,
    beside: Option<(String, f64)>,
    note: String,
    sane: Option<RangeInclusive<f64>>,
}

impl Row {
    /// A figure of `bench`. `unit` ends in `/s` where more is better; elsewhere less is.
    pub fn new(bench: &'static str, what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self { bench, what: what.into(), figure, unit, beside: None, note: String::new(), sane: None }
    }

    /// What was run beside it, in the same unit.
    #[must_use]
    pub fn beside(mut self, what: impl Into<String>, figure: f64) -> Self {
        self.beside = Some((what.into(), figure));
        self
    }

    /// A few words more.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Where the ratio must be on any machine. Wide: it is there to find what is broken, not what is slow.
    #[must_use]
    pub const fn sane(mut self, ratio: RangeInclusive<f64>) -> Self {
        self.sane = Some(ratio);
        self
    }

    /// The figure.
    #[must_use]
    pub const fn figure(&self) -> f64 {
        self.figure
    }

    /// Ours divided by what was beside it; `None` where that was too small to measure.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|(_, figure)| self.figure / figure).filter(|ratio| ratio.is_finite())
    }

    /// What is out of its bounds, if anything.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        let (ratio, sane) = (self.ratio()?, self.sane.as_ref()?);
        let Self { bench, what, .. } = self;
        (!sane.contains(&ratio))
            .then(|| format!("{bench}: {what}: the ratio is {ratio:.3}, it must be within {sane:?}"))
    }

    /// As a line of a Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let beside = self.beside.as_ref().map(|(what, figure)| format!("{what}: {} {}", shown(*figure), self.unit));
        let ratio = self.ratio().map(|ratio| format!("{}×", shown(ratio)));
        format!(
            "| {} | {} | {} {} | {} | {} | {} |",
            self.bench,
            self.what,
            shown(self.figure),
            self.unit,
            beside.unwrap_or_default(),
            ratio.unwrap_or_default(),
            self.note
        )
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let beside = self.beside.as_ref().map(|(what, figure)| json!({"what": what, "figure": figure}));
        json!({"bench": self.bench, "what": self.what, "figure": self.figure, "unit": self.unit, "beside": beside,
            "ratio": self.ratio(), "note": self.note})
    }
}

/// The head of the Markdown table.
pub const HEAD: &str = "| bench | what | reactor | beside it | ratio | |\n|---|---|---|---|---|---|";

/// Three digits that count; thousands with commas.
fn shown(figure: f64) -> String {
    if figure >= 1000.0 {
        let digits = format!("{figure:.0}");
        let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>();
        return groups.join(",");
    }
    let places = if figure >= 100.0 {
        0
    } else if figure >= 10.0 {
        1
    } else if figure >= 1.0 {
        2
    } else {
        3
    };
    format!("{figure:.places$}")
}

/// The smallest value that this part (0 to 1) of all values do not exceed. Sorts them.
#[must_use]
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
