//! Near names: what someone probably meant.

/// `known: backend, frontend`, or `did you mean backend? known: …`.
#[must_use]
pub fn near_names(asked: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "none is configured".to_owned();
    }
    let nearest = known
        .iter()
        .map(|name| (distance(asked, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    let list = known.iter().take(20).copied().collect::<Vec<_>>().join(", ");
    match nearest {
        Some((_, name)) => format!("did you mean {name}? known: {list}"),
        None => format!("known: {list}"),
    }
}

/// Edits from one to the other: insert, delete, replace. Both are short names.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = (diagonal + usize::from(letter != *other)).min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_suggested_and_far_ones_are_not() {
        let known = ["backend", "frontend", "mongodb"];
        assert_eq!(near_names("bakend", &known), "did you mean backend? known: backend, frontend, mongodb");
        assert_eq!(near_names("zzz", &known), "known: backend, frontend, mongodb");
        assert_eq!(near_names("x", &[]), "none is configured");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
