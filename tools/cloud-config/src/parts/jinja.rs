//! What becomes of `{{ v1.x }}`? Look-ups of documented variables only; statements and filters need Python.

use std::collections::BTreeMap;

/// `v1.local_hostname` and so on, with `_` for `-`.
pub type Variables = BTreeMap<String, String>;

/// Why a template is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: u32,
    /// The rule.
    pub rule: &'static str,
}

/// A rendered text.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Without a first line that names the language.
    pub text: String,
    /// Lines with a variable that nobody knows.
    pub missing: Vec<u32>,
}

/// Renders everything behind the line that names the language, where there is one.
///
/// # Errors
/// The first thing that is more than a look-up.
pub fn render(text: &str, variables: &Variables) -> Result<Rendered, Fault> {
    let text = text.trim_start();
    let (first, behind) = text.split_once('\n').unwrap_or((text, ""));
    // The type alone may say what it is.
    let is_marked = first.to_ascii_lowercase().starts_with("## template:");
    let (body, mut line) = if is_marked { (behind, 2) } else { (text, 1) };
    let (mut out, mut missing) = (String::with_capacity(body.len()), Vec::new());
    let mut rest = body;
    while let Some(at) = opening(rest) {
        line += newlines(&rest[..at]);
        out.push_str(&rest[..at]);
        let (open, inside) = rest[at..].split_at(2);
        let close = match open {
            "{{" => "}}",
            "{#" => "#}",
            _ => match raw(inside) {
                // What is between is text, whatever it looks like.
                Some((text, after)) => {
                    out.push_str(text);
                    line += newlines(&rest[at..rest.len() - after.len()]);
                    rest = after;
                    continue;
                }
                None => return Err(Fault { line, rule: "a statement of Jinja" }),
            },
        };
        let Some((inner, after)) = inside.split_once(close) else {
            return Err(Fault { line, rule: "Jinja that does not end" });
        };
        // A dash eats the blanks on its side.
        if inner.starts_with('-') {
            out.truncate(out.trim_end().len());
        }
        if open == "{{" {
            out.push_str(&look_up(inner, variables, line, &mut missing)?);
        }
        line += newlines(inner);
        rest = after;
        if inner.ends_with('-') {
            rest = after.trim_start();
            line += newlines(&after[..after.len() - rest.len()]);
        }
    }
    out.push_str(rest);
    // Jinja drops one line end at the end; cloud-init keeps it (`keep_trailing_newline`).
    Ok(Rendered { text: out, missing })
}

/// `{% raw %}`, behind its opening: the text to `{% endraw %}`, and what follows that.
fn raw(inside: &str) -> Option<(&str, &str)> {
    let (word, body) = inside.split_once("%}")?;
    let end = body.match_indices("{%").find_map(|(at, _)| {
        let (word, after) = body[at + 2..].split_once("%}")?;
        (word.trim() == "endraw").then_some((at, after))
    });
    let (at, after) = end.filter(|_| word.trim() == "raw")?;
    Some((&body[..at], after))
}

/// One search for all three: whoever looks for each by itself reads the whole text for one that is not there, again and
/// again.
fn opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

fn look_up(inner: &str, variables: &Variables, line: u32, missing: &mut Vec<u32>) -> Result<String, Fault> {
    let inner = inner.trim_start_matches('-').trim_end_matches('-').trim();
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if inner.is_empty() || !inner.split('.').all(is_name) {
        return Err(Fault { line, rule: "an expression of Jinja" });
    }
    let name = inner.replace('-', "_");
    let found = variables.get(&name).or_else(|| variables.get(&format!("v1.{name}")));
    Ok(found.cloned().unwrap_or_else(|| {
        missing.push(line);
        format!("CI_MISSING_JINJA_VAR/{}", name.rsplit('.').next().unwrap_or_default())
    }))
}

#[cfg(test)]
mod tests {
    use super::{Variables, render};

    #[test]
    fn look_ups_are_done_and_the_rest_is_refused() {
        let variables: Variables = [("v1.local_hostname".to_owned(), "h1".to_owned())].into();
        let of = |text: &str| render(&format!("## template: jinja\n{text}"), &variables);
        assert_eq!(
            of("a {{ v1.local_hostname }}-{{local_hostname}} {# no #}b\n").unwrap().text,
            "a h1-h1 b\n"
        );
        let rendered = of("x\n{{ v1.nope }}\n{{ ds.meta_data.x }}").unwrap();
        assert_eq!(rendered.text, "x\nCI_MISSING_JINJA_VAR/nope\nCI_MISSING_JINJA_VAR/x");
        assert_eq!(rendered.missing, [3, 4]);
        assert_eq!(of("x\n{% if a %}").unwrap_err().line, 3);
        assert_eq!(of("a \n {{- v1.local_hostname -}} \n b").unwrap().text, "ah1b");
        assert_eq!(of("{% raw %}{{ x }}{% if %}{% endraw %} b").unwrap().text, "{{ x }}{% if %} b");
        assert_eq!(
            render("#cloud-config\na: {{ local_hostname }}", &variables).unwrap().text,
            "#cloud-config\na: h1"
        );
        assert!(of("{{ a | b }}").is_err() && of("{{ a[0] }}").is_err() && of("{{ a").is_err());
    }
}
