"""The guide and the signatures say the same: names, parameters and defaults."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import skmars
from skmars.cli._command_line import make_parser
from skmars.retrieval._reasons import REASONS

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = DOCS / "guide"
# All but the one that is made when the site is built.
PAGES = sorted(page for page in GUIDE.glob("*.rst") if page.stem != "mistakes")

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the docs are not part of an sdist")


def public() -> dict[str, Any]:
    """All public names of the package, by their last part."""
    listed = re.findall(r"^   (skmars\.\w+)$", (DOCS / "api/index.rst").read_text(), re.MULTILINE)
    modules = [module for module in map(import_module, listed) if hasattr(module, "__all__")]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


PUBLIC = public()


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def callables() -> Iterator[tuple[str, Any]]:
    """Each public function and class, and each public method, by the name in a call of it."""
    for name, what in PUBLIC.items():
        if not callable(what):
            continue
        yield name, what
        if inspect.isclass(what):
            yield from (
                (method, getattr(what, method))
                for method in dir(what)
                if not method.startswith("_") and callable(getattr(what, method, None))
            )


def of_calls() -> dict[str, list[dict[str, inspect.Parameter]]]:
    """The parameters of everything that a call of this name may mean."""
    found: dict[str, list[dict[str, inspect.Parameter]]] = {}
    for name, what in callables():
        found.setdefault(name, []).append(parameters(what))
    return found


CALLS = of_calls()
# Methods of other libraries' objects that have the name of one of ours.
FOREIGN = {"fit", "append", "load", "save", "build", "fit_resample", "score", "publish"}


def code(text: str) -> Iterator[str]:
    """Blocks of Python, and what stands in double backticks."""
    block = r"^( *)\.\. code-block:: python\n(?:\1   :.*\n)*\n((?:\1   .*\n|\n)+)"
    yield from (textwrap.dedent(found[1]) for found in re.findall(block, text, re.MULTILINE))
    yield from re.findall(r"``([^`]+)``", text)


def calls(text: str) -> Iterator[ast.Call]:
    for piece in code(text):
        try:
            tree = ast.parse(piece)
        except SyntaxError:
            continue
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_parameters_of_steps_exist(page: Path) -> None:
    mars = skmars.make_mars(rates=True)
    for step, name in re.findall(
        r"\b(encode|rates|align|augment|ctr)__([a-zA-Z]\w*)", page.read_text()
    ):
        known = {*mars[step].get_params(), *parameters(mars[step].fit)}
        assert name.split("__")[0] in known, f"{step}__{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_arguments_of_calls_exist(page: Path) -> None:
    for call in calls(page.read_text()):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else None
        name = call.func.id if isinstance(call.func, ast.Name) else name
        if name not in CALLS or (name in FOREIGN and isinstance(call.func, ast.Attribute)):
            continue
        for keyword in filter(None, (keyword.arg for keyword in call.keywords)):
            possible = CALLS[name]
            assert any(
                keyword in found or any(p.kind is p.VAR_KEYWORD for p in found.values())
                for found in possible
            ), ast.unparse(call)


def all_defaults() -> dict[str, list[Any]]:
    """The defaults that public signatures have for a parameter of a name."""
    found: dict[str, list[Any]] = {}
    for signatures in CALLS.values():
        for signature in signatures:
            for name, parameter in signature.items():
                if parameter.default is not parameter.empty:
                    found.setdefault(name, []).append(parameter.default)
    return found


def told_defaults(text: str) -> Iterator[tuple[str, str]]:
    """Parameters and defaults as a page tells them."""
    yield from re.findall(r"``(\w+)=([^`]+)``\s+\((?:the )?default[,)]", text)  # ``a=1`` (default)
    # `a` ... (5 by default), `a` ... (default 5)
    yield from re.findall(r"(?<!`)`(\w+)`[^`.(]{0,80}\(([\d.]+)\s+by\s+default", text)
    yield from re.findall(r"(?<!`)`(\w+)`[^`.(]{0,80}\(default\s+([\d.]+)", text)
    # Tables whose head is ``a=``: the row with the word "default" and its continuation lines.
    for name, table in re.findall(r"^``(\w+)=``.*\n[= ]+\n((?:.+\n)+?)[= ]+\n", text, re.MULTILINE):
        rows = re.split(r"\n(?=`)", table)
        yield from ((name, row.split("``")[1]) for row in rows if "default" in row)


def test_defaults_are_those_of_the_signatures() -> None:
    known = all_defaults()
    n_told = 0
    for page in PAGES:
        for name, value in told_defaults(page.read_text()):
            if name not in known:
                continue
            n_told += 1
            said = ast.literal_eval(value)
            assert said in known[name], f"{page.stem}: {name}={value}, but {known[name]}"
    assert n_told > 8


def of_table(text: str) -> Iterator[tuple[str, str]]:
    """Rows of tables whose head is "parameter, default": a name, and its default."""
    simple = r"(?m)^=+  =+  =+\nparameter +default +meaning\n[= ]+\n((?:.+\n)+?)[= ]+\n"
    for table in re.findall(simple, text):
        for names, default in re.findall(r"(?m)^(``\S.*?)  +(.+?)(?:  |$)", table):
            yield from zip(
                re.findall(r"``(\w+)``", names),
                [default] * 9 if "``," not in names else default.split(", "),
                strict=False,
            )


@pytest.mark.parametrize(
    ("page", "estimator"),
    [
        ("alignment", "SteinAligner"),
        ("retrieval", "SequenceRetrievalAugmenter"),
        ("ctr", "DINClassifier"),
    ],
)
def test_tables_of_parameters_have_the_defaults_of_the_signature(page: str, estimator: str) -> None:
    told = dict(of_table((GUIDE / f"{page}.rst").read_text()))
    known = parameters(PUBLIC[estimator])
    assert len(told) > 7
    assert {name: ast.literal_eval(value) for name, value in told.items()} == {
        name: known[name].default for name in told
    }


def test_defaults_of_the_trainer_are_those_of_the_command() -> None:
    (commands,) = (action for action in make_parser()._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    for page, command in (("trainer", "trainer"), ("runner", "runner")):
        known = commands.choices[command]._option_string_actions
        text = (GUIDE / f"{page}.rst").read_text()
        table = re.search(r"(?m)^option +default +meaning\n[= ]+\n((?:.+\n)+?)[= ]+\n", text)
        assert table is not None
        for option, default in re.findall(r"(?m)^``(--[a-z-]+)`` +([\d.]+[sm]?)  ", table[1]):
            value = float(default.rstrip("sm")) * (60 if default.endswith("m") else 1)
            assert known[option].default == value, option


def test_explain_is_told_in_full() -> None:
    """Every column and every reason is on the page, and no other."""
    text = (GUIDE / "explain.rst").read_text()
    X, y = skmars.make_multimodal_ctr(40, 20, history="all", random_state=0)
    quick = {"n_components": 4, "id_dim": 4, "max_iter": 1}
    mars = skmars.make_mars(
        random_state=0, **{f"align__{name}": value for name, value in quick.items()}
    )
    mars.set_params(ctr__max_iter=1, ctr__early_stopping=False).fit(X, y)
    why = skmars.explain(mars, X, frame="pyarrow")
    tables = re.findall(r"(?m)^   \* - column\n(?:.+\n)+", text)
    for table, columns in zip(tables, (why.rows, why.borrowed), strict=True):
        lines = re.findall(r"(?m)^   \* - (``.+)$", table)
        assert sorted(re.findall(r"``(\w+)``", " ".join(lines))) == sorted(columns.column_names)
    assert re.findall(r"(?m)^``([a-z -]+)``  ", text) == list(REASONS)


def test_options_of_commands_exist() -> None:
    """In the commands of code blocks, and in ``skmars command --option`` within a text."""
    actions = [action for action in make_parser()._actions if action.dest == "command"]
    (commands,) = actions
    assert isinstance(commands.choices, dict)
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", page.read_text())
        for command, rest in re.findall(r"\bskmars (\w+)((?: [^`\n]*)?)", text):
            if command not in commands.choices:
                continue
            options = re.findall(r"(?<=\s)--[a-z][a-z-]*", rest)
            known = commands.choices[command]._option_string_actions
            assert not [option for option in options if option not in known], rest
