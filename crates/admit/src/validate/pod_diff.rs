//! How a refused change of a pod is shown: the lines that differ, three lines of context around them, of the
//! specification as Go prints its internal form ([`dump`]).

mod dump;
pub(super) use dump::{HOST_FIELDS, find, order};

use serde_json::Value;

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

/// One line of the diff.
#[derive(Clone, Copy, PartialEq)]
enum Edit {
    Keep,
    Drop,
    Add,
}

fn unified(a: &[String], b: &[String]) -> String {
    let edits = edits(a, b);
    let mut out = String::new();
    let mut i = 0;
    while i < edits.len() {
        if edits[i].0 == Edit::Keep {
            i += 1;
            continue;
        }
        // A hunk runs until more than twice the context is unchanged.
        let start = i.saturating_sub(CONTEXT_LINES);
        let mut last = i;
        let mut j = i;
        while j < edits.len() && j - last <= 2 * CONTEXT_LINES {
            if edits[j].0 != Edit::Keep {
                last = j;
            }
            j += 1;
        }
        let end = (last + 1 + CONTEXT_LINES).min(edits.len());
        hunk(&edits[start..end], a, b, &mut out);
        i = end;
    }
    out
}

type Line = (Edit, usize, usize);

fn hunk(lines: &[Line], a: &[String], b: &[String], out: &mut String) {
    let olds = lines.iter().filter(|l| l.0 != Edit::Add).count();
    let news = lines.iter().filter(|l| l.0 != Edit::Drop).count();
    let (first_old, first_new) = lines.first().map_or((0, 0), |l| (l.1, l.2));
    out.push_str(&format!("@@ -{},{olds} +{},{news} @@\n", first_old + 1, first_new + 1));
    for (edit, i, j) in lines {
        let (mark, line) = match edit {
            Edit::Keep => (' ', &a[*i]),
            Edit::Drop => ('-', &a[*i]),
            Edit::Add => ('+', &b[*j]),
        };
        out.push(mark);
        out.push_str(line);
        out.push('\n');
    }
}

/// The shortest edit script over what lies between the common head and the common tail.
fn edits(a: &[String], b: &[String]) -> Vec<Line> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (ma, mb) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut out: Vec<Line> = (0..head).map(|i| (Edit::Keep, i, i)).collect();
    // Longest common subsequence; bounded, for a specification may be long.
    const CELLS_MAX: usize = 1 << 20;
    let (n, m) = (ma.len(), mb.len());
    let (mut i, mut j) = (0, 0);
    if n * m <= CELLS_MAX {
        let mut length = vec![0u32; (n + 1) * (m + 1)];
        let cell = |i: usize, j: usize| i * (m + 1) + j;
        for i in (0..n).rev() {
            for j in (0..m).rev() {
                length[cell(i, j)] = if ma[i] == mb[j] {
                    length[cell(i + 1, j + 1)] + 1
                } else {
                    length[cell(i + 1, j)].max(length[cell(i, j + 1)])
                };
            }
        }
        while i < n && j < m {
            if ma[i] == mb[j] {
                out.push((Edit::Keep, head + i, head + j));
                (i, j) = (i + 1, j + 1);
            } else if length[cell(i + 1, j)] >= length[cell(i, j + 1)] {
                out.push((Edit::Drop, head + i, head + j));
                i += 1;
            } else {
                out.push((Edit::Add, head + i, head + j));
                j += 1;
            }
        }
    }
    out.extend((i..n).map(|i| (Edit::Drop, head + i, head + j)));
    out.extend((j..m).map(|j| (Edit::Add, head + n, head + j)));
    out.extend((0..tail).map(|k| (Edit::Keep, head + n + k, head + m + k)));
    out
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
