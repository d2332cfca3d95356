//! Rust source as text: what of it is code, and which paths that names. No parser: enough for formatted code.

/// The text with all comments and the insides of literals blanked. Lines stay where they are.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let (inside, after) = rest.split_at(skipped);
            code.push(' ');
            code.extend(inside.chars().filter(|c| *c == '\n'));
            rest = after;
        }
    }
    code
}

/// How long the literal or comment is that `rest` begins with; 0: it begins with neither.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else if rest.starts_with('"') {
        quoted(rest, '"')
    } else if !in_word && (rest.starts_with("r\"") || rest.starts_with("r#")) {
        raw(rest, 1)
    } else if !in_word && (rest.starts_with("br\"") || rest.starts_with("br#")) {
        raw(rest, 2)
    } else if rest.starts_with('\'') {
        character(rest)
    } else {
        0
    }
}

/// They nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r#"…"#`; 0 for a raw name (`r#type`).
fn raw(rest: &str, prefix: usize) -> usize {
    let hashes = rest[prefix..].chars().take_while(|c| *c == '#').count();
    let open = prefix + hashes;
    if !rest[open..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    rest[open + 1..].find(&close).map_or(rest.len(), |at| open + 1 + at + close.len())
}

/// `'x'`, `'\n'`; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => quoted(rest, '\''),
        (Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 0,
    }
}

/// The code with the items after `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let (before, item) = rest.split_at(start);
        let (item, after) = item.split_at(end_of_item(item));
        kept.push_str(before);
        kept.extend(item.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    kept + rest
}

/// Up to the `;` or the closing brace of the item that `item` begins with.
fn end_of_item(item: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// All paths of this crate that `code` names, with their lines: `(12, "plan::step::Step")`. `module` is where the
/// code is, so that `super::` can be followed.
pub(crate) fn uses(code: &str, module: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for word in ["crate", "super"] {
        for (start, _) in code.match_indices(word) {
            let before = code[..start].trim_end();
            let begins = !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            // `super::super::`: counted with its first
            if !begins || before.ends_with("::") {
                continue;
            }
            let line = code[..start].matches('\n').count() + 1;
            let paths = paths(&code[start..]).into_iter().filter_map(|path| from_root(&path, module));
            found.extend(paths.map(|path| (line, path)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `crate::a::{b, c::d}` is `crate::a::b` and `crate::a::c::d`.
fn paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    path(text, String::new(), &mut paths);
    paths
}

/// Adds the paths that `text` begins with; gives what is after them.
fn path<'a>(text: &'a str, prefix: String, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            match rest.chars().next() {
                None | Some('}') => return rest.get(1..).unwrap_or_default(),
                Some(',') => rest = &rest[1..],
                Some(c) if c == '*' || !is_name(c) => return rest,
                Some(_) => rest = path(rest, prefix.clone(), paths).trim_start(),
            }
        }
    }
    let name: String = text.chars().take_while(|c| is_name(*c)).collect();
    let rest = &text[name.len()..];
    let whole = match (name.as_str(), prefix.as_str()) {
        ("self" | "", _) => prefix,
        (_, "") => name,
        _ => format!("{prefix}::{name}"),
    };
    if let Some(rest) = rest.trim_start().strip_prefix("::") {
        return path(rest, whole, paths);
    }
    paths.push(whole);
    // `as name`
    let renamed = rest.trim_start().strip_prefix("as ");
    renamed.map_or(rest, |rest| rest.trim_start().trim_start_matches(is_name))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Without `crate::`, or without `super::` if that leads to the root; None: it stays within `module`.
fn from_root(path: &str, module: &[&str]) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    let parts = match parts.split_first()? {
        (&"crate", rest) => rest,
        _ => {
            let supers = parts.iter().take_while(|part| **part == "super").count();
            if supers < module.len() {
                return None;
            }
            &parts[supers..]
        }
    };
    (!parts.is_empty()).then(|| parts.join("::"))
}
