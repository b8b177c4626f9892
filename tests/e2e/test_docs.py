"""The documentation does what it says: commands, Python, links, messages.

Commands of ``sh`` blocks are run in their order, page by page, in a folder that has all that the
pages speak of: small drawn pictures, untrained models, a store with runs. Programs of ours run in
this process. What trains, and measures by thousands of samples, is run with ``--dry-run``; requests
by ``curl`` go to the service's application without Ray. A block behind ``<!-- not run: … -->``
(servers, clouds, what needs something that trains) is only parsed: the shell reads it, and our own
programs, Ray's and MLflow's accept their arguments. Blocks of Python are executed.
"""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from docs_world import make_world, service

from mixnmatch import cli
from mixnmatch.data.store import Dataset
from mixnmatch_platform import cli as platform_cli
from mixnmatch_platform.experiment import main as run_experiment
from mixnmatch_platform.promotion import promote as promoting
from mixnmatch_platform.promotion.gates import Verdict

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (
    *("README.md", "docs/get-started.md", "docs/data.md", "docs/measures.md", "docs/cluster.md"),
    *("docs/promote-and-serve.md", "docs/python.md", "docs/troubleshooting.md"),
)
NOT_RUN = {
    "README.md": 5,
    "docs/get-started.md": 3,
    "docs/cluster.md": 3,
    "docs/promote-and-serve.md": 3,
}
"""Blocks of each page that are only parsed."""
DRY = {("mixnmatch", "train"), ("platform", "train"), ("platform", "sweep")}
"""Commands that would train."""
LARGE = ("5k", "paper")
"""Protocols that would measure for hours."""
MODEL = "models:/mixnmatch-demo@champion"
FENCE = re.compile(r"(<!-- not run: (?P<why>[^>]+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.S)


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    text: str
    not_run: str | None


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    return [Block(m["kind"], m["text"], m["why"]) for m in FENCE.finditer(text)]


def lines(block: Block) -> Iterator[str]:
    """Commands, continued lines joined, without remarks."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if shlex.split(line, comments=True):
            yield re.sub(r"\s+# .*$", "", line).strip()


def run_program(words: list[str]) -> int:
    """Run one of ours in this process, training and long measuring only in words."""
    program, *arguments = words
    if program == "python":
        file, *arguments = arguments
        return run_experiment(runpy.run_path(file)["SWEEP"], _dry(arguments))
    if (program, arguments[0]) in DRY or set(arguments) & set(LARGE):
        arguments = _dry(arguments)
    try:
        return {"mixnmatch": cli.main, "platform": platform_cli.main}[program](arguments)
    except SystemExit as end:  # options that only tell something
        return int(end.code or 0)


def _dry(arguments: list[str]) -> list[str]:
    return arguments if "--dry-run" in arguments else [*arguments, "--dry-run"]


def accept(line: str) -> None:
    """Let a program read its arguments, and do nothing."""
    for part in line.split(" && "):
        words = shlex.split(part)
        while words and "=" in words[0]:
            words = words[1:]
        if words[:1] == ["mixnmatch"]:
            cli.build_parser().parse_args(words[1:])
        elif words[:1] == ["platform"]:
            platform_cli.build_parser().parse_args(words[1:])
        elif words[:1] in (["ray"], ["mlflow"]):
            _accept_click(*words)
        else:
            assert words[0] in ("make", "git", "cd", "export", "curl", "openssl"), line


def _accept_click(program: str, *words: str) -> None:
    from mlflow.cli import cli as mlflow
    from ray.scripts.scripts import cli as ray

    command: click.Command | None = {"mlflow": mlflow, "ray": ray}[program]
    rest = list(words)
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), rest.pop(0))
    assert command is not None, words
    command.make_context(program, rest)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_are_not_run_parse(page: str) -> None:
    marked = [block for block in blocks(page) if block.not_run]
    assert len(marked) == NOT_RUN.get(page, 0)
    for block in marked:
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for line in lines(block):
            accept(line.replace(".venv/bin/", ""))


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, tiny_dataset: Dataset
) -> Iterator[Path]:
    """The folder in which the pages are read, which is the current one."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MIXNMATCH_HOME", "runs")
        patch.chdir(folder)
        # A fresh process takes seconds to import torch, and has tests of its own.
        passed = Verdict(gate="smoke test", passed=True, said="left out")
        patch.setattr(promoting, "smoke_test", lambda _: passed)
        make_world(folder, tiny_bundle, tiny_dataset)
        yield folder


@pytest.fixture
def fresh_data(work: Path, tiny_dataset: Dataset) -> None:
    """The data sets that a page does not make itself."""
    shutil.rmtree(work / "data", ignore_errors=True)
    (work / "data").mkdir()
    (work / "data" / "demo").symlink_to(tiny_dataset.path)


@pytest.mark.usefixtures("fresh_data")
@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, work: Path, tiny_bundle: Path, tiny_dataset: Dataset) -> None:
    found = blocks(page)
    for block in found:
        if block.kind == "toml":
            name = block.text.split()[1]
            Path(name).write_text(block.text)
    commands = [
        line for block in found if block.kind == "sh" and not block.not_run for line in lines(block)
    ]
    if not any("ingest CUB_200_2011 data/birds" in command for command in commands):
        assert cli.main(["data", "ingest", "CUB_200_2011", "data/birds"]) == 0
    with service(tiny_bundle, tiny_dataset) as url:
        for command in commands:
            assert run(command, url) == 0, command


def run(command: str, url: str) -> int:
    """Run a command; those of no program of ours by the shell."""
    command = command.replace("--model …", f"--model {MODEL}").replace("--count 20", "--count 4")
    exported = cycle(sorted(Path("pictures").glob("*.png")) or [Path("a.jpg")])
    command = re.sub(r"pictures/\d{4}-\S+\.png", lambda _: str(next(exported)), command)
    command = command.partition(" > ")[0]
    words = shlex.split(command)
    if words[0] == "curl":
        asked = command.replace("http://127.0.0.1:8000", url).replace("-s", "-sS --fail-with-body")
        return subprocess.run(["bash", "-c", asked], check=False).returncode
    status = run_program(words)
    # A doctor may find something on any machine.
    return 0 if words[:2] == ["platform", "doctor"] else status


@pytest.mark.usefixtures("fresh_data")
@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page: str, work: Path) -> None:
    for text in (b.text for b in blocks(page) if b.kind == "python" and _is_whole(b.text)):
        code = text.replace('"cuda"', '"cpu"').replace("count=20", "count=4")
        if "mlflow.pyfunc" not in code:
            exec(compile(code, page, "exec"), {})
            continue
        # It puts the release's own code on the path, which is to be there for nothing else.
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def _is_whole(text: str) -> bool:
    """Whether it is a program, and no signature."""
    return text.startswith(("from ", "import "))


def test_the_python_page_is_that_of_the_docstrings() -> None:
    page = runpy.run_path(str(DOCS / "generate_python.py"))["page"]
    assert (DOCS / "python.md").read_text() == page(), "run python docs/generate_python.py"


@cache
def said() -> str:
    """All texts in the sources, a line each; what is put into one of them is …."""
    found = []
    for root in (ROOT / "mixnmatch", ROOT / "platform"):
        for file in root.rglob("*.py"):
            tree = ast.parse(file.read_text())
            inside = {
                part
                for node in ast.walk(tree)
                if isinstance(node, ast.JoinedStr)
                for part in node.values
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(map(_text, node.values)))
                elif isinstance(node, ast.Constant) and node not in inside:
                    found.append(_text(node))
    return "\n".join(" ".join(text.split()) for text in found)


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def messages() -> list[str]:
    table = (DOCS / "troubleshooting.md").read_text().partition("## Installing")[2]
    return [
        (m[1] or m[2]).strip()
        for m in re.finditer(r"^\| (?:\d{3} \| )?(?:`` (.+?) ``|`([^`]+)`) \|", table, re.M)
    ]


def test_messages_are_counted() -> None:
    rows = re.findall(
        r"^\| (?!message|status|---)", (DOCS / "troubleshooting.md").read_text(), re.M
    )
    statuses = 6
    assert len(messages()) == len(rows) - statuses


@pytest.mark.parametrize("message", messages())
def test_a_message_is_one_that_the_sources_say(message: str) -> None:
    parts = map(re.escape, message.split("…"))
    assert re.search(rf"^{'.*'.join(parts)}$", said(), re.M), message


def markdown() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.splitlines()]


def anchors(page: Path) -> set[str]:
    """Of the titles of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
