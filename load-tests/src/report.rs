//! The table at the end: medians with their spread, and what each figure is in relation to the first contender's.

/// One repetition's figures: name and value, the same names in the same order each time.
pub type Figures = Vec<(&'static str, f64)>;

/// One contender's repetitions.
pub struct Row {
    name: &'static str,
    runs: Vec<Figures>,
}

impl Row {
    /// Nothing measured yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, runs: Vec::new() }
    }

    /// One repetition.
    pub fn add(&mut self, figures: Figures) {
        self.runs.push(figures);
    }

    fn values(&self, at: usize) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.runs.iter().filter_map(|run| run.get(at)).map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self, at: usize) -> f64 {
        let values = self.values(at);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Prints a table in Markdown.
pub fn print(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    println!("| figure | broker | median | min | max | first broker / this |");
    println!("|---|---|---|---|---|---|");
    let names: Vec<&str> = first.runs.first().into_iter().flatten().map(|(name, _)| *name).collect();
    for (at, figure) in names.iter().enumerate() {
        for row in rows {
            let values = row.values(at);
            let (min, max) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
            let ratio = first.median(at) / row.median(at);
            println!(
                "| {figure} | {} | {:.2} | {min:.2} | {max:.2} | {ratio:.2} |",
                row.name,
                row.median(at)
            );
        }
    }
}
