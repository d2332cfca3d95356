//! A byte offset in JSON text → the value that stands there.

/// A value in a JSON text.
pub(super) struct Place<'a> {
    /// Of its JSON pointer.
    pub(super) steps: Vec<String>,
    /// As it is written.
    pub(super) found: &'a [u8],
}

/// The offset of serde_json's line and column (both count bytes; lines from 1, columns after the byte).
pub(super) fn offset_of(text: &[u8], line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    before + column
}

/// Finds the value that ends at or spans `offset`, or the object or array that begins there: serde_json reports a
/// scalar behind its last byte, an object or array that should have been something else at its first byte, and one
/// that lacks a member behind its last. `text` is valid JSON.
pub(super) fn locate(text: &[u8], offset: usize) -> Place<'_> {
    let mut steps: Vec<String> = Vec::new();
    // where each open object or array began, and whether it is an array
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut key_next = false;
    let mut i = 0;
    while let Some(&byte) = text.get(i) {
        match byte {
            b'{' | b'[' => {
                if i >= offset && !steps.is_empty() {
                    return Place { steps, found: if byte == b'{' { b"an object" } else { b"an array" } };
                }
                open.push((i, byte == b'['));
                steps.push("0".to_owned());
                key_next = byte == b'{';
                i += 1;
            }
            b'}' | b']' => {
                steps.pop();
                i += 1;
                let (start, _) = open.pop().unwrap_or_default();
                if i >= offset {
                    return Place { steps, found: text.get(start..i).unwrap_or_default() };
                }
                key_next = false;
            }
            b',' => {
                key_next = advance(&open, &mut steps);
                i += 1;
            }
            b':' | b' ' | b'\t' | b'\n' | b'\r' => i += 1,
            _ => {
                let end = scalar_end(text, i);
                let raw = text.get(i..end).unwrap_or_default();
                if key_next {
                    if let Some(last) = steps.last_mut() {
                        *last = serde_json::from_slice(raw).unwrap_or_default();
                    }
                    key_next = false;
                } else if end >= offset {
                    return Place { steps, found: raw };
                }
                i = end;
            }
        }
    }
    Place { steps, found: b"" }
}

/// Behind a comma: the next element, or a key. Says whether it is a key.
fn advance(open: &[(usize, bool)], steps: &mut [String]) -> bool {
    let in_array = open.last().is_some_and(|(_, array)| *array);
    if in_array && let Some(last) = steps.last_mut() {
        *last = (last.parse::<usize>().unwrap_or_default() + 1).to_string();
    }
    !in_array
}

/// Where the string, number or word that begins at `start` ends.
fn scalar_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let length = if rest.first() == Some(&b'"') {
        let mut escaped = false;
        rest.iter()
            .skip(1)
            .position(|byte| {
                let end = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                end
            })
            .map(|quote| quote + 2)
    } else {
        rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r' | b':'))
    };
    // never zero, so that the caller's loop ends
    start + length.unwrap_or(rest.len()).max(1)
}
