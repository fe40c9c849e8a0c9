//! Paths as messages show them: `spec.containers[0].name`, and `data[a.b]` for keys of a map.

/// Appends a field's name to a path.
pub fn field_path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}
