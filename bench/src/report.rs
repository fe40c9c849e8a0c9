//! One line a figure: what was measured, the value, and beside it the budget, limit or peer with the ratio.

/// Whether more or less of the figure is better.
#[derive(Clone, Copy)]
pub enum Better {
    /// A rate.
    More,
    /// A latency or a size.
    Less,
}

/// Prints a figure that stands alone.
pub fn figure(what: &str, value: f64, unit: &str) {
    println!("{what:<58} {value:>12.1} {unit}");
}

/// Prints a figure beside something measured or promised, with their ratio and by how much a budget is missed.
pub fn beside(what: &str, value: f64, unit: &str, other: &str, against: f64, better: Better) {
    let ratio = value / against;
    let verdict = match better {
        Better::More if ratio < 1.0 => format!("{:.0} % short", (1.0 - ratio) * 100.0),
        Better::Less if ratio > 1.0 => format!("{:.0} % over", (ratio - 1.0) * 100.0),
        _ => "met".to_string(),
    };
    println!("{what:<58} {value:>12.1} {unit:<8} {other} {against:.1}: ratio {ratio:.2} ({verdict})");
}

/// Prints a heading.
pub fn section(title: &str) {
    println!("\n== {title}");
}
