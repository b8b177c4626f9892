#!/usr/bin/env python
"""Write ``docs/python.md``: the Python interface, from the docstrings of the modules below.

    python docs/generate_python.py

Sources are read, not imported, so that annotations stand as they were written.
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "python.md"
SHOWN = {
    "mixnmatch.mixer": ("Mixer", "find_model"),
    "mixnmatch.recipes": ("Recipe", "codes_of", "interpolate"),
    "mixnmatch.codes": ("Codes", "sample_tied", "sample_free"),
    "mixnmatch.bundle": ("ModelBundle", "load_bundle", "save_bundle", "bundle_metrics"),
    "mixnmatch.sheets": ("to_tensor", "to_picture", "grid"),
    "mixnmatch.animation": ("Frame", "read_frames", "save_animation"),
    "mixnmatch.contact_sheet": ("contact_sheet",),
    "mixnmatch.data.store": ("open_dataset", "Dataset", "write_dataset"),
    "mixnmatch.data.records": ("Record", "Box"),
    "mixnmatch.config": (
        *("RunConfig", "ModelConfig", "LossWeights", "EvaluationConfig", "ComputeConfig"),
    ),
    "mixnmatch.schedules": ("Stage1Config", "Stage2Config"),
    "mixnmatch.settings": ("override", "from_dict", "to_dict", "flatten"),
    "mixnmatch.metrics.measure": ("Subject",),
    "mixnmatch.metrics.evaluate": ("evaluate", "Evaluation"),
    "mixnmatch.metrics.figures": ("Figure",),
    "mixnmatch.networks.generator": ("Generator",),
    "mixnmatch.networks.encoders": ("Encoders",),
    "mixnmatch.networks.extractor": ("ShapeExtractor",),
    "mixnmatch_platform.sweep": ("Sweep", "describe"),
    "mixnmatch_platform.space": ("SearchSpace", "Objective", "Constraint", "Halving"),
    "mixnmatch_platform.tuning": ("run_sweep",),
    "mixnmatch_platform.promotion.request": ("Request", "Promotion"),
    "mixnmatch_platform.promotion.promote": ("promote",),
    "mixnmatch_platform.promotion.gates": ("Gates", "Requirement", "read_gates"),
    "mixnmatch_platform.promotion.history": ("history", "roll_back"),
    "mixnmatch_platform.promotion.transfer": ("export_model", "import_model"),
    "mixnmatch_platform.registry": ("fetch_model",),
}
WITH_METHODS = (
    *("Mixer", "Recipe", "ModelBundle", "Dataset", "Subject", "Evaluation"),
    *("Generator", "Encoders", "ShapeExtractor"),
)
"""Classes of which more is told than what they are made of."""
HEAD = """\
<!-- made by docs/generate_python.py: change the docstrings, and run it again -->

# The Python interface

What a notebook needs of both packages. Pictures are tensors of N×3×S×S with pixels in [-1, 1];
annotations give shapes, `"#B"` being a batch or one for all. What is wrong raises an error of
`mixnmatch.errors`, with one line as its message.

```python
from pathlib import Path

from mixnmatch.bundle import load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import open_dataset
from mixnmatch.metrics.evaluate import evaluate
from mixnmatch.metrics.measure import Subject
from mixnmatch.mixer import Mixer, find_model
from mixnmatch.sheets import to_picture

mixer = Mixer.from_pretrained("models:/mixnmatch-demo@champion")
a, b = mixer.read(Path("a.jpg"), Path("b.jpg")).split(1)
held = mixer.recipe(background=a, pose=b, shape=b, texture=a)
to_picture(mixer.paint(held)[0]).save("mix.png")
textures = mixer.vary(held, "texture", count=4)

bundle = load_bundle(find_model("models:/mixnmatch-demo@champion"))
config = EvaluationConfig(metrics="masks,codes", samples=512)
dataset = open_dataset("data/demo")
evaluation = evaluate(Subject(bundle=bundle, dataset=dataset, config=config, seed=1))
contrast = evaluation.figures["mask_contrast"]  # value, low, high, chance
```
"""
WIDTH = 96
Definition = ast.ClassDef | ast.FunctionDef
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Source):$", re.MULTILINE)
_LEADS = {"Args": "", "Returns": "gives", "Yields": "yields", "Raises": "raises ", "Source": "from"}


def page() -> str:
    """The text of the page."""
    return HEAD + "".join(_module(name, names) for name, names in SHOWN.items())


def _module(name: str, names: tuple[str, ...]) -> str:
    root = ROOT / "platform" if name.startswith("mixnmatch_platform") else ROOT
    tree = ast.parse((root / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    there = {node.name: node for node in tree.body if isinstance(node, Definition)}
    said = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    return f"\n## {name}\n\n{_prose(said)}\n" + "".join(_definition(there[n]) for n in names)


def _definition(node: Definition, of: str = "") -> str:
    title = f"{'####' if of else '###'} {of}{node.name}"
    text = f"\n{title}\n\n```python\n{_call(node, of)}\n```\n\n{_documentation(node)}\n"
    if isinstance(node, ast.FunctionDef):
        return text
    told = [n for n in node.body if isinstance(n, ast.FunctionDef) and ast.get_docstring(n)]
    told = [n for n in told if n.name[0] != "_" and node.name in WITH_METHODS]
    properties = [n for n in told if _is_property(n)]
    fields = [*_fields(node), *map(_property, properties)]
    text += "\n" + "\n".join(fields) + "\n" if fields else ""
    return text + "".join(_definition(n, f"{node.name}.") for n in told if n not in properties)


def _is_property(node: ast.FunctionDef) -> bool:
    return any(_plain(each).endswith("property") for each in node.decorator_list)


def _property(node: ast.FunctionDef) -> str:
    said = (ast.get_docstring(node) or "").partition("\n\n")[0]
    return f"- `{node.name}: {_plain(node.returns)}`: {_prose(said)}"


def _call(node: Definition, of: str) -> str:
    """How it is called, a line for each parameter where one line is too short."""
    if isinstance(node, ast.ClassDef):
        made = next((n for n in node.body if getattr(n, "name", "") == "__init__"), None)
        if not isinstance(made, ast.FunctionDef):
            return f"class {node.name}"
        return _wrapped(f"class {node.name}", _parameters(made), "")
    result = f" -> {_plain(node.returns)}" if node.returns else ""
    return _wrapped(f"{of}{node.name}", _parameters(node), result)


def _parameters(node: ast.FunctionDef) -> list[str]:
    """Of a function, less ``self`` and ``cls``."""
    given = node.args
    without = len(given.args) - len(given.defaults)
    listed = list(map(_parameter, given.args, [*[None] * without, *given.defaults]))
    if given.args and given.args[0].arg in ("self", "cls"):
        listed = listed[1:]
    if given.vararg or given.kwonlyargs:
        listed.append(f"*{_parameter(given.vararg, None) if given.vararg else ''}")
    listed += map(_parameter, given.kwonlyargs, given.kw_defaults)
    return [*listed, f"**{_parameter(given.kwarg, None)}"] if given.kwarg else listed


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    typed = f"{argument.arg}: {_plain(argument.annotation)}"
    return typed if default is None else f"{typed} = {_plain(default)}"


def _wrapped(name: str, parameters: list[str], result: str) -> str:
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){result}"


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """A line for each attribute that is annotated."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            default = "" if field.value is None else f" = {_default(field.value)}"
            said = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                said = f": {_prose(str(after.value.value))}"
            yield f"- `{field.target.id}: {_plain(field.annotation)}{default}`{said}"


def _default(value: ast.expr) -> str:
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "field":
        factory = next((k.value for k in value.keywords if k.arg == "default_factory"), None)
        return "…" if not isinstance(factory, ast.Name) else f"{factory.id}()"
    return _plain(value)


def _documentation(node: Definition) -> str:
    """A Google-style docstring as Markdown."""
    first, *rest = _SECTION.split(ast.get_docstring(node) or "")
    paragraphs = [_prose(each) for each in first.strip().split("\n\n")]
    items: list[str] = []
    for section, body in zip(rest[::2], rest[1::2], strict=True):
        lead, body = _LEADS[section], textwrap.dedent(body).strip("\n")
        if section in ("Args", "Raises"):
            for item in re.split(r"\n(?=\S)", body):
                name, _, text = item.partition(":")
                items.append(f"- {lead}`{name}`: {_prose(text)}")
        else:
            items.append(f"- {lead}: {_prose(body)}")
    return "\n\n".join([*paragraphs, "\n".join(items)] if items else paragraphs)


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _plain(node: ast.expr | None) -> str:
    """As it was written, with double quotes, and without those around a whole annotation."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value[:1].isupper():
        return node.value
    return "" if node is None else ast.unparse(node).replace("'", '"')


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
