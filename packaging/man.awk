# The subset of Markdown in docs/man/*.md to man(7): headings, paragraphs, **bold**, *italic*, `code`,
# indented examples, and "term" lines followed by ": text". Look at the result with: man -l --warnings

function inline(text,    out, at) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    out = ""
    while (match(text, /\*\*[^*]+\*\*|\*[^*]+\*|`[^`]+`/)) {
        at = substr(text, RSTART, RLENGTH)
        out = out substr(text, 1, RSTART - 1)
        if (at ~ /^\*\*/) out = out "\\fB" substr(at, 3, length(at) - 4) "\\fR"
        else if (at ~ /^`/) out = out "\\fB" substr(at, 2, length(at) - 2) "\\fR"
        else out = out "\\fI" substr(at, 2, length(at) - 2) "\\fR"
        text = substr(text, RSTART + RLENGTH)
    }
    return out text
}
function say(text) { if (text ~ /^[.']/) text = "\\&" text; print text }

/^    / { if (!verbatim) { print ".PP\n.nf\n.RS 4"; verbatim = 1 } text = substr($0, 5); gsub(/-/, "\\-", text); say(text); next }
verbatim && /^$/ { held = held "\n"; next }
verbatim { print ".RE\n.fi"; verbatim = 0; held = ""; blank = 1 }
/^# / { sub(/^# /, ""); sub(/\(/, " "); sub(/\)/, ""); print ".TH " $0; next }
/^## / { print ".SH " substr($0, 4); blank = 0; next }
/^### / { print ".SS " substr($0, 5); blank = 0; next }
/^$/ { blank = 1; next }
/^: / { say(inline(substr($0, 3))); blank = 0; next }
{
    if ((getline following) <= 0) following = ""
    if (following ~ /^: /) {
        print ".TP"
        say(inline($0))
        say(inline(substr(following, 3)))
    } else {
        if (blank) print ".PP"
        say(inline($0))
        if (following != "") say(inline(following))
    }
    blank = (following == "")
}
END { if (verbatim) print ".RE\n.fi" }
