"""What the page on the architecture says that code knows better: rooms, what each imports, two walks."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "infoclip_lite"
# The order of the rooms has one home, the test that holds it.
CONTRACT = ROOT / "tests" / "contracts" / "test_architecture.py"

# Whom a picture meets on its way from a file to a label, and a recipe from YAML to a finished run: a test
# lets one of each walk and compares. Names begin below infoclip_lite.
PICTURE = (
    "evaluation.segment.segment",
    "core.words.check_names",
    "datasets.image.read_image",
    "clip.loading.load_clip",
    "evaluation.protocol.photo_protocol",
    "evaluation.vocabulary.encode_vocabulary",
    "clip.model.DenseCLIP.encode_text",
    "evaluation.predict.predict",
    "evaluation.windows.run_windows",
    "segmentors.zero_shot.ZeroShotSegmentor.encode",
    "clip.model.DenseCLIP.tower",
    "clip.model.DenseCLIP.embed",
    "clip.model.DenseCLIP.read",
    "clip.readouts.value.value",
    "segmentors.zero_shot.ZeroShotSegmentor.decode",
    "evaluation.predict.best_words",
    "evaluation.windows.WindowLogits.scores",
    "evaluation.segment.Segmentation",
    "evaluation.segment.Segmentation.overlay",
)
RECIPE = (
    "training.run.train",
    "training.recipe.load_recipe",
    "training.recipe.merged",
    "core.lookup.checked",
    "training.recipe.FineTuneRecipe",
    "training.build.build_task",
    "datasets.registry.training_data",
    "clip.loading.load_clip",
    "segmentors.build_segmentor",
    "training.acceleration.accelerate",
    "objectives.build_objective",
    "training.finetuning.FineTuning",
    "datasets.registry.held_out_data",
    "training.loop.fit",
    "training.finetuning.FineTuning.batches",
    "evaluation.evaluate.evaluate",
    "evaluation.probes.Probes.__call__",
    "training.finetuning.FineTuning.loss",
    "segmentors.base.Segmentor.loss",
    "objectives.distillation.KLDistillation.forward",
    "training.run.Run",
)


def contract(name: str) -> Any:
    """A table of the contract: FLOORS, from the ground up, or NEVERS.

    Raises:
        ValueError: no such table.
    """
    for node in ast.parse(CONTRACT.read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return ast.literal_eval(node.value or ast.Constant(None))
    raise ValueError(f"{CONTRACT.name} has no {name}; expected an annotated assignment of that name")


def files(room: str) -> list[Path]:
    """The modules of a room; the command line is a room of one file."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imported(path: Path) -> Iterator[str]:
    """The rooms whose modules a file imports, those in functions and for types too."""
    package = ["infoclip_lite", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            names = [".".join([*stem, *filter(None, [node.module]), alias.name]) for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("infoclip_lite."))


def neighbours(room: str) -> list[str]:
    """The other rooms that a room imports from, from the ground up."""
    found = {other for path in files(room) for other in imported(path)} - {room}
    return [other for floor in contract("FLOORS") for other in floor if other in found]


def said(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    return _first_paragraph(ast.get_docstring(ast.parse(path.read_text())) or "")


def rooms_table() -> str:
    """Markdown: floor by floor, what each room is for and whom it imports."""
    lines = ["| floor | room | what it is for | imports from |", "|---|---|---|---|"]
    for height, floor in enumerate(contract("FLOORS")):
        for room in floor:
            head = PACKAGE / room / "__init__.py"
            purpose = said(head if head.exists() else files(room)[0])
            below = ", ".join(f"`{other}`" for other in neighbours(room)) or "nothing of the package"
            lines.append(f"| {height} | `{room}` | {_plain(purpose)} | {below} |")
    return "\n".join(lines) + "\n"


def modules_part() -> str:
    """Markdown: of every room a table of its modules."""
    parts = []
    for room in (room for floor in contract("FLOORS") for room in floor):
        lines = [f"### {room}", "", "| module | what is in it |", "|---|---|"]
        for path in files(room):
            name = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
            lines.append(f"| `{name}` | {_plain(said(path))} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def nevers_part() -> str:
    """Markdown: what the contract forbids beside the order of the floors."""
    lines = []
    for rooms, others in contract("NEVERS"):
        who, whom = (" and ".join(f"`{room}`" for room in side) for side in (rooms, others))
        lines.append(f"- {who} know nothing of {whom}.")
    return "\n".join(lines) + "\n"


def find(dotted: str) -> Callable[..., Any]:
    """What a name below infoclip_lite stands for.

    Raises:
        AttributeError, ModuleNotFoundError: nothing; then a walk must be mended.
    """
    parts = dotted.split(".")
    # The longest beginning that is a module; what follows are names in it.
    depth = max(n for n in range(1, len(parts) + 1) if _is_module(parts[:n]))
    thing: Any = import_module(".".join(["infoclip_lite", *parts[:depth]]))
    for part in parts[depth:]:
        thing = getattr(thing, part)
    return thing


def walk_table(walk: Sequence[str]) -> str:
    """Markdown: the stations of a walk in order, and what each says of itself."""
    lines = ["| | room | who | what it does |", "|---|---|---|---|"]
    for number, dotted in enumerate(walk, 1):
        room, _, rest = dotted.partition(".")
        what = _plain(_first_paragraph(inspect.getdoc(find(dotted)) or ""))
        lines.append(f"| {number} | `{room}` | `{rest}` | {what} |")
    return "\n".join(lines) + "\n"


def _is_module(parts: Sequence[str]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _plain(text: str) -> str:
    """Words for a cell of a table: no markup but `code`."""
    pieces = text.replace("|", "\\|").split("`")
    pieces[::2] = [piece.replace("*", "\\*").replace("_", "\\_").replace("<", "\\<") for piece in pieces[::2]]
    return "`".join(pieces)
