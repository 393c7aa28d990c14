"""Generates docs/reference from the signatures and docstrings of the public names.

``python -m tools.reference_pages`` writes the pages; a test compares them with the files. Which names are
public is left to ``__all__``.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import libp2p_quic
import libp2p_quic.asyncio
from libp2p_quic import _exception_types, exceptions, metrics

FOLDER = Path(__file__).parent.parent / "docs" / "reference"

# A signature that is longer has one parameter in each line.
WIDTH = 100


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, a sentence, and the names in their order."""

    title: str
    names: tuple[str, ...]
    text: str = ""


@dataclass(frozen=True)
class Page:
    """A page of the reference. ``module`` is where programs import the names from."""

    file: str
    title: str
    module: ModuleType
    text: str
    sections: tuple[Section, ...]
    # Class: public members that are not for programs.
    internal: dict[str, set[str]] = field(default_factory=dict)
    # Classes that objects of this package make, and programs do not.
    made_for_programs: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        return [name for section in self.sections for name in section.names]


# The asyncio part exports them, too.
STATISTICS = (
    "ConnectionStatistics",
    "EndpointStatistics",
    "ProcessStatistics",
    "Distribution",
    "process_statistics",
)

PAGES = (
    Page(
        "api.md",
        "API",
        libp2p_quic,
        "Everything public of `libp2p_quic`, for py-libp2p and trio. The exceptions have a\n"
        "[page of their own](exceptions.md), and so has [asyncio](asyncio.md).",
        (
            Section("Switch the transport on", ("install", "uninstall", "StockTransportWarning")),
            Section("Transport", ("QUICTransport", "WebTransportTransport")),
            Section(
                "Configuration",
                ("QUICTransportConfig", "UnusedSettingWarning"),
                "Each field, with its unit, default and effect, is in [configuration](../configuration.md).",
            ),
            Section(
                "Listener, connection, stream",
                ("QUICListener", "QUICConnection", "QUICStream", "TLSParameters"),
                "The transport makes them. A host uses them for its program.",
            ),
            Section("Explain errors", ("causes", "explain")),
            Section(
                "Statistics",
                STATISTICS,
                "[Watch a node](../howto/watch-a-host.md) has what asking each second costs.",
            ),
            Section("Hole punching", ("enable_hole_punching", "HolePunching")),
            Section(
                "Host keys and peer ids without py-libp2p",
                ("Identity", "PeerId"),
                "For [asyncio](asyncio.md) programs.",
            ),
            Section("Version", ("__version__",)),
        ),
        made_for_programs=frozenset({"HolePunching", "QUICConnection", "QUICListener", "QUICStream"}),
    ),
    Page(
        "exceptions.md",
        "Exceptions",
        exceptions,
        "`libp2p_quic.exceptions` has every exception that the transport raises, and `libp2p_quic` exports\n"
        "them too. What each text means and what to do is in [errors](../errors.md). Each class belongs to\n"
        "the families of py-libp2p whose callers have to recognize it.",
        (
            Section(
                "Dialing and listening",
                (
                    "DialError",
                    "PeerIdMismatchError",
                    "HandshakeRefusedError",
                    "HandshakeTimeoutError",
                    "UnreachableError",
                    "ListenError",
                ),
            ),
            Section(
                "Connections and streams",
                ("ConnectionClosed", "StreamEOF", "StreamReset", "StreamLost", "StreamClosed"),
            ),
            Section("Keys and configuration", ("HostKeyError", "HostKeyTypeError", "InvalidConfigError")),
        ),
    ),
    Page(
        "asyncio.md",
        "asyncio",
        libp2p_quic.asyncio,
        "Everything public of `libp2p_quic.asyncio`. [A libp2p node in asyncio](../asyncio.md) shows it.",
        (
            Section("Endpoint", ("Endpoint", "EndpointConfig", "DialAttempt", "PeerCertificate")),
            Section(
                "Listener, connection, stream",
                ("Listener", "Connection", "Stream", "TLSParameters", "reader_writer"),
            ),
            Section(
                "Statistics",
                STATISTICS,
            ),
            Section("Explain errors", ("causes", "explain")),
            Section("Keys, peer ids, addresses", ("Identity", "PeerId", "Address")),
            Section(
                "Exceptions",
                (
                    "QUICError",
                    "DialError",
                    "PeerIdMismatchError",
                    "HandshakeRefusedError",
                    "HandshakeTimeoutError",
                    "UnreachableError",
                    "ListenError",
                    "ConnectionClosed",
                    "StreamError",
                    "StreamReset",
                    "StreamLost",
                    "StreamClosed",
                    "StreamLimitError",
                    "NegotiationError",
                    "ProtocolNotSupportedError",
                    "HostKeyError",
                    "InvalidAddressError",
                    "InvalidConfigError",
                    "InvalidPeerIdError",
                ),
                "Those of the same name of the [py-libp2p part](exceptions.md) are subclasses of these.",
            ),
            Section("Version", ("__version__",)),
        ),
        internal={
            "EndpointConfig": {"engine_config"},
            "Listener": {"accept_any"},
            "Stream": {"negotiate", "propose_lazily", "send_proposal"},
        },
        made_for_programs=frozenset({"Connection", "DialAttempt", "Listener", "Stream"}),
    ),
    Page(
        "metrics.md",
        "Metrics",
        metrics,
        "Everything public of `libp2p_quic.metrics`. [Metrics](../metrics.md) lists what a scrape has.",
        (Section("Prometheus", ("QUICCollector", "Node")),),
    ),
)

# Parameters whose type has another name in the source than in a program.
ALIASES = {"config: StockConfig | None": "config: QUICTransportConfig | None"}

# Names whose object has no docstring of this package.
TEXTS = {
    "__version__": "The version of this package, a `str`.",
    "StreamEOF": "The peer finished its direction of the stream, and everything was read. Not a failure: a "
    "connection that is lost never looks like this. py-libp2p's own class: a `MuxedStreamEOF`, an "
    "`IOException` and an `EOFError`.",
}


def markdown(docstring: str) -> str:
    """A docstring as Markdown: single and double backticks are code, and so is a block after ``::``. Names
    of pages become links."""
    lines: list[str] = []
    text = re.sub(r"docs/([\w/-]+\.md)", r"[docs/\1](../\1)", inspect.cleandoc(docstring))
    for paragraph in re.split(r"\n{2,}", text):
        if lines and lines[-1].endswith("::") and paragraph.startswith("    "):
            lines[-1] = lines[-1].removesuffix(":")
            paragraph = f"```py\n{textwrap.dedent(paragraph)}\n```"
        lines.append(paragraph.replace("``", "`") if not paragraph.startswith("```") else paragraph)
    return "\n\n".join(lines)


def summary(docstring: str) -> str:
    """The first sentence, in one line."""
    paragraph = " ".join(markdown(docstring).split("\n\n")[0].split())
    first = re.match(r".+?[.:](?= [A-Z`]|$)", paragraph)
    found = first[0] if first else paragraph
    return found.removesuffix(":").removesuffix(".").replace("|", "\\|") + "."


def signature(name: str, tree: ast.FunctionDef | ast.AsyncFunctionDef, is_method: bool) -> str:
    """The call, with types and defaults as in the source."""
    found = list(parameters(tree.args))[is_method:]
    prefix = "async " if isinstance(tree, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(tree.returns)}" if tree.returns is not None else ""
    written = f"{prefix}{name}({', '.join(found)}){returns}"
    if len(written) > WIDTH:
        written = f"{prefix}{name}(\n" + "".join(f"    {each},\n" for each in found) + f"){returns}"
    return written


def parameters(arguments: ast.arguments) -> Iterator[str]:
    """Each parameter with its type and default, and the mark before those that need their name."""
    plain = [*arguments.posonlyargs, *arguments.args]
    without_default = len(plain) - len(arguments.defaults)
    for place, each in enumerate(plain):
        value = arguments.defaults[place - without_default] if place >= without_default else None
        yield _parameter(each, value)
    if arguments.vararg is not None:
        yield f"*{_parameter(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(each, value)


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = ALIASES.get(written := ast.unparse(argument), written)
    return kind if default is None else f"{kind} = {_grouped(ast.unparse(default))}"


def _grouped(number: str) -> str:
    """A long number with underscores, as in the source."""
    return f"{int(number):_}" if number.isdigit() and int(number) > 9999 else number


def source_of(found: Any) -> ast.stmt:
    """The definition of a class or function."""
    # Classes of `_exception_types` name the package that exports them as their module.
    module = sys.modules[found.__module__]
    of_errors = isinstance(found, type) and found.__module__ == "libp2p_quic.asyncio"
    tree = ast.parse(inspect.getsource(_exception_types if of_errors else module))
    return next(each for each in tree.body if getattr(each, "name", None) == found.__name__)


def anchor(title: str) -> str:
    """The name that GitHub and the site give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def attributes(tree: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """The attributes that a string literal follows: name, type, text."""
    for statement, after in pairwise(tree.body):
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
            continue
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, ast.unparse(statement.annotation), str(after.value.value)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            kind = type(ast.literal_eval(statement.value)).__name__
            yield statement.targets[0].id, kind, str(after.value.value)


def members(cls: type, page: Page) -> Iterator[tuple[str, str]]:
    """Each public member as its signature and its text, in the order of the source."""
    tree = source_of(cls)
    assert isinstance(tree, ast.ClassDef)
    for name, kind, text in attributes(tree):
        if not name.startswith("_"):
            yield f"{name}: {kind}", text
    for each in tree.body:
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(each) or ""
        if each.name.startswith("_") or not text or each.name in page.internal.get(cls.__name__, ()):
            continue
        kinds = {ast.unparse(decorator) for decorator in each.decorator_list}
        if "property" in kinds:
            assert each.returns is not None
            yield f"{each.name}: {ast.unparse(each.returns)}", text
        elif not any(kind.endswith(".setter") for kind in kinds):
            owner = f"{cls.__name__}." if kinds & {"classmethod", "staticmethod"} else ""
            yield signature(f"{owner}{each.name}", each, "staticmethod" not in kinds), text


def constructor(cls: type, page: Page) -> str:
    """How a program makes an object; only the name if it does not."""
    name = cls.__name__
    tree = source_of(cls)
    assert isinstance(tree, ast.ClassDef)
    if issubclass(cls, BaseException):
        bases = [ast.unparse(base).removeprefix("shared.") for base in tree.bases]
        # The class of the same name in the asyncio part.
        return f"class {name}({', '.join(dict.fromkeys(base for base in bases if base != name))})"
    if name in page.made_for_programs or cls is libp2p_quic.QUICTransportConfig:
        return f"class {name}"
    if is_dataclass(cls):
        fields = [
            _parameter(ast.arg(ast.unparse(each.target), each.annotation), each.value)
            for each in tree.body
            if isinstance(each, ast.AnnAssign) and not ast.unparse(each.target).startswith("_")
        ]
        return f"class {name}(\n" + "".join(f"    {each},\n" for each in fields) + ")"
    for each in tree.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return f"class {signature(name, each, is_method=True).removesuffix(' -> None')}"
    return f"class {name}"


def docstring_of(name: str, page: Page) -> str:
    if name in TEXTS:
        return TEXTS[name]
    found = getattr(page.module, name)
    text = str(found.__doc__)
    own = vars(found).get("__init__") if isinstance(found, type) else None
    if own is not None and own.__doc__ and name not in page.made_for_programs:
        text = f"{inspect.cleandoc(text)}\n\n{inspect.cleandoc(own.__doc__)}"
    return text


def entry(name: str, page: Page) -> str:
    found = getattr(page.module, name)
    text = markdown(docstring_of(name, page))
    title = f"### {name.strip('_')}\n\n"
    if name in TEXTS:
        return f"{title}{text}\n\n"
    if not isinstance(found, type):
        tree = source_of(found)
        assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
        return f"{title}```py\n{signature(name, tree, is_method=False)}\n```\n\n{text}\n\n"
    parts = [f"{title}```py\n{constructor(found, page)}\n```\n\n{text}\n\n"]
    for heading, explained in members(found, page):
        parts.append(f"```py\n{heading}\n```\n\n{markdown(explained)}\n\n")
    return "".join(parts)


def page_text(page: Page) -> str:
    """The text of a page."""
    beginning = (
        f"# {page.title}\n\n"
        "<!-- Made by tools/reference_pages.py of the signatures and docstrings. -->\n\n"
        f"{page.text}\n"
        f"`help({page.module.__name__})` in Python shows the same. "
        "Times are in seconds, sizes in bytes.\n\n"
    )
    parts = [beginning, "| name | meaning |\n|---|---|\n"]
    for name in page.names:
        meaning = summary(docstring_of(name, page))
        parts.append(f"| [`{name}`](#{anchor(name.strip('_'))}) | {meaning} |\n")
    for section in page.sections:
        parts.append(f"\n## {section.title}\n\n")
        parts.append(f"{section.text}\n\n" if section.text else "")
        parts += [entry(name, page) for name in section.names]
        parts[-1] = parts[-1].rstrip("\n") + "\n"
    return "".join(parts)


if __name__ == "__main__":
    for each in PAGES:
        (FOLDER / each.file).write_text(page_text(each))
