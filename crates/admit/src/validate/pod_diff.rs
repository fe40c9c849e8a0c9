//! How a refused change of a pod is shown: the lines that differ, three lines of context around them, of the
//! specification as Go prints its internal form ([`dump`]).

mod dump;
pub(super) use dump::{HOST_FIELDS, find, order};

use serde_json::Value;
use std::collections::HashMap;
use std::ops::Range;

use dump::dump;

const CONTEXT_LINES: usize = 3;

/// A unified diff of two specifications.
pub(super) fn diff(old: &Value, new: &Value) -> String {
    diff_of("core.v1.PodSpec", old, new)
}

/// A unified diff of two values of a type.
pub(super) fn diff_of(type_name: &str, old: &Value, new: &Value) -> String {
    unified(&dump(old, type_name), &dump(new, type_name))
}

/// Longest text, in lines, of which the parts that are alike are looked for; of a longer one all between its first and its last
/// change is shown as changed.
const LINES_MAX: usize = 8_192;
/// From here on lines that come often are not what parts that are alike begin with.
const POPULAR_FROM_LINES: usize = 200;

/// A run of lines that both texts have: where it begins in the one and in the other, and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    old: usize,
    new: usize,
    len: usize,
}

/// What became of some lines of the old text: lines of the new one. Where they are alike they are the same.
struct Change {
    old: Range<usize>,
    new: Range<usize>,
    is_alike: bool,
}

/// A unified diff, whose hunks are those of the stock server: it looks for the longest run of lines that both have, and then on either
/// side of it.
fn unified(a: &[String], b: &[String]) -> String {
    let mut out = String::new();
    for group in groups(changes(a, b)) {
        hunk(&group, a, b, &mut out);
    }
    out
}

fn hunk(group: &[Change], a: &[String], b: &[String], out: &mut String) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let old = shown_range(first.old.start..last.old.end);
    let new = shown_range(first.new.start..last.new.end);
    out.push_str(&format!("@@ -{old} +{new} @@\n"));
    let mut write = |mark: char, lines: &[String]| {
        for line in lines {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    };
    for change in group {
        if change.is_alike {
            write(' ', &a[change.old.clone()]);
            continue;
        }
        write('-', &a[change.old.clone()]);
        write('+', &b[change.new.clone()]);
    }
}

/// Where lines are: from which one, and how many unless it is one. No line stands behind the one before.
fn shown_range(lines: Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        n => format!("{},{n}", lines.start + 1),
    }
}

/// The changes with their surroundings, parted where more than twice the context is alike.
fn groups(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut groups: Vec<Vec<Change>> = Vec::new();
    let mut group: Vec<Change> = Vec::new();
    let count = changes.len();
    let part = |change: &Change, from: usize, to: usize| Change {
        old: change.old.start + from..change.old.start + to,
        new: change.new.start + from..change.new.start + to,
        is_alike: true,
    };
    for (i, change) in changes.into_iter().enumerate() {
        let len = change.old.len();
        match (change.is_alike, i == 0, i + 1 == count) {
            (false, ..) => group.push(change),
            (true, true, _) => group.push(part(&change, len.saturating_sub(CONTEXT_LINES), len)),
            (true, _, true) => group.push(part(&change, 0, len.min(CONTEXT_LINES))),
            _ if len > 2 * CONTEXT_LINES => {
                group.push(part(&change, 0, CONTEXT_LINES));
                groups.push(std::mem::take(&mut group));
                group.push(part(&change, len - CONTEXT_LINES, len));
            }
            _ => group.push(change),
        }
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|change| !change.is_alike));
    groups
}

fn changes(a: &[String], b: &[String]) -> Vec<Change> {
    let mut runs = runs(a, b);
    runs.push(Run { old: a.len(), new: b.len(), len: 0 });
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    for run in runs {
        if i < run.old || j < run.new {
            out.push(Change { old: i..run.old, new: j..run.new, is_alike: false });
        }
        (i, j) = (run.old + run.len, run.new + run.len);
        if run.len > 0 {
            out.push(Change { old: run.old..i, new: run.new..j, is_alike: true });
        }
    }
    out
}

/// The runs that both texts have, in order, those that touch as one.
fn runs(a: &[String], b: &[String]) -> Vec<Run> {
    if a.len().max(b.len()) > LINES_MAX {
        let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
        let last = Run { old: a.len() - tail, new: b.len() - tail, len: tail };
        return [Run { old: 0, new: 0, len: head }, last].into_iter().filter(|run| run.len > 0).collect();
    }
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= POPULAR_FROM_LINES {
        places.retain(|_, at| at.len() <= b.len() / 100 + 1);
    }
    let mut found = Vec::new();
    let mut open = vec![(0..a.len(), 0..b.len())];
    while let Some((old, new)) = open.pop() {
        let run = longest(a, b, &places, old.clone(), new.clone());
        if run.len == 0 {
            continue;
        }
        if old.start < run.old && new.start < run.new {
            open.push((old.start..run.old, new.start..run.new));
        }
        let (old_end, new_end) = (run.old + run.len, run.new + run.len);
        if old_end < old.end && new_end < new.end {
            open.push((old_end..old.end, new_end..new.end));
        }
        found.push(run);
    }
    found.sort_unstable();
    let mut joined: Vec<Run> = Vec::with_capacity(found.len());
    for run in found {
        match joined.last_mut() {
            Some(last) if last.old + last.len == run.old && last.new + last.len == run.new => {
                last.len += run.len;
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// The longest run within two ranges, the first of several in the old text, and of those in the new one.
fn longest(
    a: &[String],
    b: &[String],
    places: &HashMap<&str, Vec<usize>>,
    old: Range<usize>,
    new: Range<usize>,
) -> Run {
    let mut best = Run { old: old.start, new: new.start, len: 0 };
    // How long the run is that ends at a line of the new text and the old line before.
    let mut ending: HashMap<usize, usize> = HashMap::new();
    for i in old.clone() {
        let mut next = HashMap::new();
        for &j in places.get(a[i].as_str()).into_iter().flatten().filter(|j| new.contains(j)) {
            let len = j.checked_sub(1).and_then(|before| ending.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(j, len);
            if len > best.len {
                best = Run { old: i + 1 - len, new: j + 1 - len, len };
            }
        }
        ending = next;
    }
    // Lines that come often belong to a run that they touch.
    while best.old > old.start && best.new > new.start && a[best.old - 1] == b[best.new - 1] {
        best = Run { old: best.old - 1, new: best.new - 1, len: best.len + 1 };
    }
    while best.old + best.len < old.end
        && best.new + best.len < new.end
        && a[best.old + best.len] == b[best.new + best.len]
    {
        best.len += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn only_what_differs_is_shown_with_its_surroundings() {
        for (a, b, want) in [
            ("abcdefghi", "abcdXfghi", "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+X\n f\n g\n h\n"),
            ("abc", "abcd", "@@ -1,3 +1,4 @@\n a\n b\n c\n+d\n"),
            ("abc", "bc", "@@ -1,3 +1,2 @@\n-a\n b\n c\n"),
            ("abc", "abc", ""),
            ("", "a", "@@ -0,0 +1 @@\n+a\n"),
            // The longest run first, although more lines could be kept.
            ("axbcdy", "bcdaxy", "@@ -1,6 +1,6 @@\n-a\n-x\n b\n c\n d\n+a\n+x\n y\n"),
            (
                "a12345678b",
                "X12345678Y",
                "@@ -1,4 +1,4 @@\n-a\n+X\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-b\n+Y\n",
            ),
        ] {
            assert_eq!(unified(&lines(a), &lines(b)), want, "{a} {b}");
        }
    }
}
