"""Sources and documents use the field's terms and American spelling, and commit subjects their form.

`language.toml` lists the words, with what to write instead; this file only searches for them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

ROOT = Path(__file__).parent.parent
MADE = {"_build", "build", "coverage", "corpus", "dist", "node_modules", "target"}
# A space of a pattern: also an underscore, or a line break with the leader of a comment on the next line.
GAP = r"(?:_|\s+(?:(?://[/!]?|#+|\*|--)[ \t]+)?)"

# Subjects are checked from here on: the first commit after the rule was made.
RULE_BEGAN = "2026-11-28T10:00:00+00:00"
SUBJECT = re.compile(r"[a-z0-9_.-]+(?:, [a-z0-9_.-]+)*: (?P<first>\S+)")
# First words that are no imperative: third person, past, gerund, article.
NO_IMPERATIVE = re.compile(r"(?:\w+(?:ed|ing|[^su]s)|an?|the)$")
IMPERATIVES = {
    "bring",
    "embed",
    "feed",
    "need",
    "proceed",
    "seed",
    "speed",
    "string",
    "succeed",
    "alias",
    "bias",
}


@cache
def rules() -> dict[str, Any]:
    return tomllib.loads((ROOT / "tests" / "language.toml").read_text())


def git(*arguments: str) -> str | None:
    """What git prints; None without git, and in a folder that is no checkout of this project."""
    try:
        ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return ran.stdout if ran.returncode == 0 else None


def is_checkout() -> bool:
    top = git("rev-parse", "--show-toplevel")
    return top is not None and Path(top.strip()).resolve() == ROOT.resolve()


def matches_any(path: str, globs: list[str]) -> bool:
    return any(fnmatch(path, glob) for glob in globs)


def texts() -> Iterator[tuple[str, str]]:
    """Path and text of each file that git tracks. Without git, of each that is not hidden or built."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard") if is_checkout() else None
    if listed is not None:
        paths = sorted(filter(None, listed.split("\0")))
    else:
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        paths = sorted(
            str(path)
            for path in found
            if MADE.isdisjoint(path.parts) and not any(part.startswith(".") for part in path.parts)
        )
    for path in paths:
        if matches_any(path, rules()["exempt"]) or not (ROOT / path).is_file():
            continue
        try:
            yield path, (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue


def in_lower_case(text: str) -> str:
    """``LastWords`` becomes ``last_words``, so that its parts are found."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()


def as_whole_word(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z])(?:{pattern.replace(' ', GAP)})(?![A-Za-z])")


@cache
def avoided() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    return [(as_whole_word(each["pattern"]), each) for each in rules()["avoid"]]


def forbidden_words(path: str, text: str) -> list[str]:
    lower = in_lower_case(text)
    found = []
    for pattern, entry in avoided():
        if matches_any(path, entry.get("allow", [])) or not matches_any(path, entry.get("only", ["*"])):
            continue
        source = text if entry.get("case") else lower
        for match in pattern.finditer(source):
            line = source.count("\n", 0, match.start()) + 1
            words = " ".join(match.group().split())
            found.append((line, f"{path}:{line}: {words!r}: write {entry['instead']}"))
    return [message for _, message in sorted(found)]


def british_spellings(path: str, text: str) -> list[str]:
    for identifier, globs in rules()["identifiers"].items():
        if matches_any(path, globs):
            text = re.sub(identifier, "", text)
    lower = text.lower()
    found = [(british, american) for british, american in rules()["spelling"].items() if british in lower]
    return [
        f"{path}:{number}: {british!r}: write {american!r}"
        for number, line in enumerate(lower.splitlines() if found else [], 1)
        for british, american in found
        if british in line
    ]


def test_sources_and_documents_use_no_forbidden_word() -> None:
    wrong = [message for path, text in texts() for message in forbidden_words(path, text)]
    assert not wrong, f"{len(wrong)} forbidden words (tests/language.toml)\n" + "\n".join(wrong)


def test_spelling_is_american() -> None:
    wrong = [message for path, text in texts() for message in british_spellings(path, text)]
    assert not wrong, f"{len(wrong)} British spellings (tests/language.toml)\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("# Whoever\n# reads", 1),
        ("def planted() -> None: ...", 1),
        ("class LastWords:", 2),
        ("# what is left of\n    # the stream", 1),
        ("a proverb, keywords and background", 0),
    ],
)
def test_forbidden_words_are_found_in_names_and_across_lines(text: str, count: int) -> None:
    assert len(forbidden_words("somewhere.py", text)) == count


def test_british_spellings_are_found_but_not_those_of_libraries() -> None:
    assert british_spellings("somewhere.py", "# The dial was cancelled.") == [
        "somewhere.py:1: 'cancelled': write 'canceled'"
    ]
    assert british_spellings("somewhere.py", "except trio.Cancelled: scope.cancelled_caught") == []


def subject_fault(subject: str) -> str:
    """What is wrong with a commit subject; nothing if it is well formed."""
    if re.match(r"Release \d|Revert \"", subject):
        return ""
    if len(subject) > 72:
        return f"{len(subject)} characters, at most 72 are allowed"
    shape = SUBJECT.match(subject)
    if shape is None:
        return "it must be `area: imperative`"
    first = shape["first"].lower()
    if first not in IMPERATIVES and NO_IMPERATIVE.match(first):
        return f"{shape['first']!r} is not an imperative"
    return ""


@pytest.mark.parametrize(
    ("subject", "fault"),
    [
        ("engine: name the phases of a connection", ""),
        ("adapter, docs: pass the limit to the swarm", ""),
        ("Release 0.1.0", ""),
        ("engine: named the phases", "'named' is not an imperative"),
        ("engine: names the phases", "'names' is not an imperative"),
        ("name the phases", "it must be `area: imperative`"),
        ("engine: " + "x" * 65, "73 characters, at most 72 are allowed"),
    ],
)
def test_faults_of_commit_subjects_are_found(subject: str, fault: str) -> None:
    assert subject_fault(subject) == fault


def test_commit_subjects_are_short_and_imperative() -> None:
    """In a shallow clone, those that it has."""
    if not is_checkout():
        pytest.skip("no git checkout")
    log = git("log", "--no-merges", f"--since={RULE_BEGAN}", "--format=%h %s")
    assert log is not None
    wrong = [
        f"{line}: {fault}" for line in log.splitlines() if (fault := subject_fault(line.partition(" ")[2]))
    ]
    assert not wrong, "\n".join(wrong)
