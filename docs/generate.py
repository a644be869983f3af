"""What the site says that code knows better: notebooks, times, errors, commands, the pack of pictures."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import explorers
import house
import pack
import plans

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ROWS = Path(__file__).parents[1] / "data" / "rows"
DRAWING = "image/svg+xml"
LIVE = "application/vnd.jupyter.widget-view+json"
# A page has no kernel. Where it has no explorer of its own either, there is a still figure beside it.
STILL = "*The sliders are live in JupyterLab; this page shows the figure beside them.*"
IGNORED = "# NBVAL_IGNORE_OUTPUT\n"
# Panels side by side, too small on a phone unless they may scroll: widths of a height, pixels, or axes [O].
WIDE, MANY, PANELS = 2.3, 1200, 6
_LIST = re.compile(r"((?:[^\s,]+, ){3})(?:[^\s,]+, ){4,}")  # of names, too long for a cell of a table
_TIME = re.compile(
    r"\*\*Time\*\*: (?:about )?(.*?)(?: to run)?(?: on [a-z]+ cores?)?(?: to run)?, (?:and )?(.*?) to read\.",
    re.DOTALL,
)
_HEAD = re.compile(r"^# (?:\d+\. )?(.+)$", re.MULTILINE)
_BADGE = re.compile(r"\[!\[([^\]]*)\]\([^)]*\)\]")


@dataclass(frozen=True)
class Mistake:
    """A call that goes wrong in class.

    Attributes:
        code: what the student wrote.
        call: the same, to be run.
        raises: the type of the error.
        reason: what the student usually did.
    """

    code: str
    call: Callable[[], Any]
    raises: type[Exception]
    reason: str


def mistakes() -> list[Mistake]:
    """The errors that come up most, each one really raised when the site is built."""
    import numpy as np
    import torch

    from infoclip_lite import load_clip, segment, train
    from infoclip_lite.datasets import Collage
    from infoclip_lite.evaluation import SegmentationMetrics
    from infoclip_lite.information import estimators, gram, renyi_entropy, renyi_mutual_information
    from infoclip_lite.information.tasks import get_task
    from infoclip_lite.objectives import LPAM, positions_kept, transfer_loss

    photo = np.zeros((32, 32, 3), dtype=np.uint8)
    clip = load_clip()
    pictures = torch.zeros(1, 3, 64, 64)
    rows = torch.eye(4)
    return [
        Mistake(
            'segment(photo, "cow, grass")',
            lambda: segment(photo, "cow, grass"),
            ValueError,
            "One text instead of a list of words.",
        ),
        Mistake(
            'segment("cow.png", ["cow"])',
            lambda: segment("cow.png", ["cow"]),
            FileNotFoundError,
            "A picture in another folder than the notebook.",
        ),
        Mistake('load_clip("nope")', lambda: load_clip("nope"), ValueError, "A model's name from memory."),
        Mistake(
            'clip.encode_dense(images, "values")',
            lambda: clip.encode_dense(pictures, "values"),
            ValueError,
            "A read-out's name misspelt.",
        ),
        Mistake(
            "segment(255 * photo, words)",
            lambda: segment(np.full((32, 32, 3), 255.0), ["cow"]),
            ValueError,
            "Floats from 0 to 255; floats are taken as 0 to 1.",
        ),
        Mistake(
            'segment(photo, ["cow", "cow"])',
            lambda: segment(photo, ["cow", "cow"]),
            ValueError,
            "A list pasted together from two.",
        ),
        Mistake(
            "clip.encode_image(one_image)",
            lambda: clip.encode_image(pictures[0]),
            ValueError,
            "One picture without its batch axis.",
        ),
        Mistake('Collage("tset")', lambda: Collage("tset"), ValueError, "A split misspelt."),
        Mistake('train("mini/plian")', lambda: train("mini/plian"), FileNotFoundError, "A recipe misspelt."),
        Mistake(
            'train("mini/plain", sed=1)',
            lambda: train("mini/plain", sed=1),
            ValueError,
            "A recipe's key misspelt.",
        ),
        Mistake(
            "gram(labels)",
            lambda: gram(rows.long()),
            ValueError,
            "Whole numbers, such as class ids, as samples.",
        ),
        Mistake(
            "gram(torch.tensor(0.5))",
            lambda: gram(torch.tensor(0.5)),
            ValueError,
            "One number where rows of samples are asked for.",
        ),
        Mistake(
            "renyi_entropy(samples)",
            lambda: renyi_entropy(torch.zeros(4, 5)),
            ValueError,
            "The samples themselves; an entropy is taken of their Gram matrix.",
        ),
        Mistake(
            "renyi_entropy(gram, alpha=-1)",
            lambda: renyi_entropy(rows / 4, alpha=-1.0),
            ValueError,
            "An order that has no entropy.",
        ),
        Mistake(
            "renyi_mutual_information(gram_of_4, gram_of_5)",
            lambda: renyi_mutual_information(rows / 4, torch.eye(5) / 5),
            ValueError,
            "Two Gram matrices of different samples: the pairs are lost.",
        ),
        Mistake(
            "estimators.ksg(x, y[:-1])",
            lambda: estimators.ksg(torch.randn(9, 1), torch.randn(8, 1)),
            ValueError,
            "Pairs that do not match any more after one side was filtered.",
        ),
        Mistake('get_task("gauss")', lambda: get_task("gauss"), ValueError, "A task's name from memory."),
        Mistake(
            "LPAM(512)(dense, text)",
            lambda: LPAM(512)(torch.zeros(1, 4, 128), torch.zeros(3, 128)),
            ValueError,
            "The width of the paper's CLIP with the embeddings of the small one.",
        ),
        Mistake(
            "transfer_loss(teacher, student)",
            lambda: transfer_loss(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3)),
            ValueError,
            "One picture and the default axis, on which a picture is a sample.",
        ),
        Mistake(
            "metrics.update(prediction, target)",
            lambda: SegmentationMetrics(3).update(rows.long(), 7 * rows.long()),
            ValueError,
            "Masks with the class ids of another data set.",
        ),
        Mistake(
            "positions_kept(50, 64, 16)",
            lambda: positions_kept(50, 64, 16),
            ValueError,
            "A step where the fraction of the training, 0 to 1, is asked for.",
        ),
    ]


def raised(mistake: Mistake) -> Exception:
    """The error of a mistake.

    Raises:
        AssertionError: nothing was raised; then the course kit must be mended.
    """
    try:
        mistake.call()
    except Exception as error:
        return error
    raise AssertionError(f"{mistake.code} raises nothing; expected {mistake.raises.__name__}")


def errors_table() -> str:
    """Markdown: code, message and reason of every mistake."""
    lines = ["| code | what it says | what usually happened |", "|---|---|---|"]
    for mistake in mistakes():
        error = raised(mistake)
        message = in_a_cell(error).replace("|", r"\|")
        lines.append(f"| `{mistake.code}` | **{type(error).__name__}** `{message}` | {mistake.reason} |")
    return "\n".join(lines) + "\n"


def in_a_cell(error: Exception) -> str:
    """What an error says, in one line, of a long list the first three names and the last."""
    return _LIST.sub(r"\1…, ", " ".join(str(error).split())).replace("`", "'")


def times_table(folder: Path = NOTEBOOKS) -> str:
    """Markdown: what each notebook's header says of the time it takes, and the minutes of its exercises."""
    lines = ["| notebook | to run | to read | exercises |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*.ipynb")):
        cells = [
            "".join(cell["source"])
            for cell in json.loads(path.read_text())["cells"]
            if cell["cell_type"] == "markdown"
        ]
        title, time = _HEAD.search(cells[0]), _TIME.search(cells[0])
        if title is None or time is None:
            raise ValueError(
                f"{path.name}: its first cell has no title or no "
                "'**Time**: ... to run on ... cores, ... to read.'; expected both"
            )
        minutes = [
            int(n)
            for cell in cells
            for n in re.findall(r"^\*difficulty .* (\d+) minutes\*$", cell, re.MULTILINE)
        ]
        exercises = f"{len(minutes)}, {sum(minutes)} minutes" if minutes else "open questions"
        run, read = (" ".join(part.split()) for part in time.groups())
        lines.append(
            f"| [{path.stem[:2]} {title.group(1)}](notebooks/{path.name}) | {run} | {read} | {exercises} |"
        )
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Markdown: the help of `infoclip-lite` and of each of its commands, word for word."""
    import tyro

    from infoclip_lite.cli import COMMANDS

    page = [
        "# Commands",
        "What `infoclip-lite --help` and the help of every command say. "
        "Each command calls the function a notebook would call.",
    ]
    for name in ("", *COMMANDS):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            arguments = [name, "--help"] if name else ["--help"]
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="infoclip-lite", args=arguments, console_outputs=True
            )
        words = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
        page.append(f"## {f'infoclip-lite {name}'.strip()}\n\n```text\n{words.strip()}\n```")
    return "\n\n".join(page) + "\n"


def protocols_part() -> str:
    """Markdown: the values in which published protocols differ, and what is a data set's own."""
    from infoclip_lite.commands.protocols import shown
    from infoclip_lite.evaluation.protocol import WHOLE
    from infoclip_lite.evaluation.published import PUBLISHED, value_names

    chosen = {name: published for name, published in PUBLISHED.items() if name != "whole"}

    def cells(value: str) -> list[str]:
        return [shown(value, getattr(published.protocol, value)) for published in chosen.values()]

    lines = [f"| | {' | '.join(chosen)} |", "|---|" + "---|" * len(chosen)]
    for value in value_names():
        # A step that nobody takes is no row.
        if set(cells(value)) != {shown(value, getattr(WHOLE, value))}:
            lines.append(f"| `{value}` | {' | '.join(cells(value))} |")
    lines += ["", "| | on | its own | source |", "|---|---|---|---|"]
    for name, published in chosen.items():
        for dataset, (_, source) in published.on.items():
            own = [(row.name, shown(row.name, row.value)) for row in published.changes(dataset)]
            # Lists of words are the command's to show.
            said = "; ".join(f"{value} {text if len(text) < 40 else '(a list)'}" for value, text in own)
            lines.append(f"| {name} | {dataset} | {said} | {source} |")
    # A star in a file's name is no emphasis.
    return "\n".join(lines).replace("*", r"\*") + "\n"


def site_copy(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook as the site shows it: badges are links of text, live widgets are explorers of the page's own
    or say where they live, and figures keep their text alternatives.
    """
    for cell in notebook["cells"]:
        # A remark for the tests says nothing to a reader.
        cell["source"] = source = "".join(cell["source"]).removeprefix(IGNORED)
        if cell["cell_type"] == "markdown":
            source = _BADGE.sub(r"[\1]", source)  # a picture of a badge would be fetched from elsewhere
            source = source.replace("](../docs/", "](../").replace("](../README.md)", "](../index.md)")
            cell["source"] = source
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop(LIVE, None):
                page = explorers.instead_of(source)
                output["data"] = {"text/html": page} if page else {"text/markdown": STILL}
        if options := _figure_options(cell):
            cell.setdefault("metadata", {})["mystnb"] = {"image": options}
    notebook["cells"] = list(_with_explorers_below(notebook["cells"]))
    return notebook


def _with_explorers_below(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The cells, and the explorers that belong below a figure: behind its caption, which stays beside it."""
    waiting: str | None = None
    for cell in cells:
        if cell["cell_type"] == "code":
            yield cell
            waiting = explorers.below(cell["source"]) or waiting
            continue
        caption, _, rest = cell["source"].partition("\n\n")
        if waiting is None or not caption.startswith("*Figure:"):
            yield cell
            continue
        page = {"output_type": "display_data", "metadata": {}, "data": {"text/html": waiting}}
        yield cell | {"source": caption}
        yield {
            "cell_type": "code",
            "id": f"{cell['id']}-explorer",
            "metadata": {"tags": ["remove-input"]},
            "execution_count": None,
            "source": "# an explorer of the page",  # hidden; of an empty cell nothing at all is shown
            "outputs": [page],
        }
        yield {"cell_type": "markdown", "id": f"{cell['id']}-rest", "metadata": {}, "source": rest}
        waiting = None


def _figure_options(cell: dict[str, Any]) -> dict[str, str]:
    """How the page sets a cell's figure: what myst-nb does not read from the output itself."""
    for output in cell.get("outputs", []):
        for kind, picture in output.get("data", {}).items():
            if kind not in ("image/png", DRAWING):
                continue
            alt = output.get("metadata", {}).get(kind, {}).get("alt")
            options = {"alt": alt} if alt else {}
            # A drawing is full of words, whatever its shape.
            panels = re.search(r"with (\d+) Axes", "".join(output["data"].get("text/plain", "")))
            wide = kind == DRAWING or _is_wide("".join(picture)) or int(panels[1] if panels else 0) >= PANELS
            return options | ({"classes": "wide"} if wide else {})
    return {}


def _is_wide(picture: str) -> bool:
    # Width and height stand behind eight bytes of signature and eight of the first chunk's head.
    width, height = struct.unpack(">II", base64.b64decode(picture)[16:24])
    return width > min(WIDE * height, MANY)


def escape_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make plain characters of a docstring's stars, bars and final underscores.

    What stands in `code`, in literal blocks and in doctests is left as it is.
    """
    for index, line in enumerate(lines):
        if line.lstrip().startswith(">>>"):
            break
        pieces = re.split(r"(`[^`]*`)", line)
        pieces[::2] = [re.sub(r"([*|\\]|(?<=\w)_(?=\W|$))", r"\\\1", piece) for piece in pieces[::2]]
        lines[index] = "".join(pieces)


def signature_that_parses(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """The signature with dots for a default that is made anew for each object: with the "<factory>" that
    dataclasses say, Sphinx would set the whole signature as plain text.
    """
    return signature and signature.replace("<factory>", "..."), result


def readouts_part() -> str:
    """An entry for each read-out of the table, in its order."""
    from infoclip_lite.clip.readouts import READ_OUTS

    entries = [f".. autofunction:: {f.__module__}.{f.__name__}" for f in READ_OUTS.values()]
    return "\n".join(["```{eval-rst}", *entries, "```", ""])


def model_table() -> str:
    """The scores of collage-mini's card."""
    from infoclip_lite.clip import read_card
    from infoclip_lite.studies.card import card_table

    return card_table(read_card())


def controls_table() -> str:
    """collage-mini on new instances beside the model before it and a classifier that learnt no scene; and on
    validation scenes beside a linear map that was told every pixel.
    """
    from infoclip_lite.clip import read_card
    from infoclip_lite.core.reports import read_report

    card, first, conse = read_card(), read_report("first_model"), read_report("conse")
    ceiling = read_report("ceiling")
    groups = ("mIoU_seen", "mIoU_unseen", "mIoU_stuff")

    def cells(metrics: dict[str, float]) -> list[str]:
        return [f"{metrics[group]:.1%}" for group in groups]

    rows = [
        (
            label,
            one["noun_recognition"]["test"],
            one["dense"][read_out]["test"],
            one["photographs"]["top1"],
        )
        for label, one, read_out in (
            ("collage-mini", card, "value"),
            ("the first collage-mini", first, "cls_value"),
        )
    ]
    rows.append(
        ("ConSE", conse["noun_recognition"]["test"], conse["dense"]["test"], conse["photographs"]["top1"])
    )
    lines = [
        "| test scenes | recognition of nouns | seen | unseen | stuff | photographs |",
        "|---|---|---|---|---|---|",
    ]
    for label, nouns, dense, photographs in rows:
        lines.append(f"| {' | '.join([label, f'{nouns:.1%}', *cells(dense), f'{photographs:.1%}'])} |")
    lines += ["", "| validation scenes | seen | unseen | stuff |", "|---|---|---|---|"]
    named = {"collage-mini": "collage-mini, captions alone", "linear": "linear map, every pixel's label"}
    lines += [f"| {' | '.join([label, *cells(ceiling[key])])} |" for key, label in named.items()]
    return "\n".join(lines)


def worth_tables() -> str:
    """What the stem is worth, and what an instance is: by class means, and by short pretrainings."""
    from infoclip_lite.core.reports import read_report

    trunk, pretrained = read_report("trunk"), read_report("instances")
    lines = ["| class means of | new cut-outs named right |", "|---|---|"]
    lines += [f"| {features} | {top1:.1%} |" for features, top1 in trunk["trunk"].items()]
    counts = list(pretrained["counts"])
    by_means: dict[str, list[str]] = {}
    for label, row in trunk["instances"].items():
        count, least = label.split(" of ")
        cells = by_means.setdefault(
            f"class means, {row['nouns']} nouns with {least} or more", ["" for _ in counts]
        )
        cells[counts.index(count)] = f"{row['mean']:.0%} ± {row['ci95']:.0%}"
    rows = {
        "pretraining, recognition of nouns": [row["nouns"] for row in pretrained["counts"].values()],
        "pretraining, dense, seen": [row["dense"]["mIoU_seen"] for row in pretrained["counts"].values()],
        "pretraining, dense, unseen": [row["dense"]["mIoU_unseen"] for row in pretrained["counts"].values()],
        "pretraining, photographs": [row["photographs"] for row in pretrained["counts"].values()],
    }
    shown = by_means | {label: [f"{value:.1%}" for value in values] for label, values in rows.items()}
    lines += ["", f"| instances of a noun, at most | {' | '.join(counts)} |", "|---|" + "---|" * len(counts)]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in shown.items()]
    return "\n".join(lines)


# What the model was to reach on new instances, set before it was made.
AIMS: dict[str, tuple[float, Callable[[dict[str, Any]], float]]] = {
    "right caption among 100": (0.60, lambda card: card["retrieval"]["test"]["image_to_text"]),
    "right picture among 100": (0.70, lambda card: card["retrieval"]["test"]["text_to_image"]),
    "recognition of nouns, mAP": (0.65, lambda card: card["noun_recognition"]["test"]),
    "dense, unseen nouns, one read-out": (0.25, lambda card: _dense(card, "test", "unseen")),
    "dense, unseen over seen nouns": (
        0.80,
        lambda card: _dense(card, "test", "unseen") / _dense(card, "test", "seen"),
    ),
    "dense, unseen, new over known": (
        0.60,
        lambda card: _dense(card, "test", "unseen") / _dense(card, "test-known", "unseen"),
    ),
    "whole photographs, top-1": (0.50, lambda card: card["photographs"]["top1"]),
    "words that no caption names": (0.70, lambda card: card["synonyms"]["distilled"]),
}


def _dense(card: dict[str, Any], split: str, group: str) -> float:
    return card["dense"]["value"][split][f"mIoU_{group}"]


def aims_table() -> str:
    """What was aimed at, and what the card says."""
    from infoclip_lite.clip import read_card

    card = read_card()
    rows = [f"| {what} | {aim:.0%} | {of(card):.1%} |" for what, (aim, of) in AIMS.items()]
    return "\n".join(["| new instances | aim | reached |", "|---|---|---|", *rows])


# What a ratio was to reach, by how its row begins: the peer's time by ours, two read-outs in 1.25 of one.
_SPEEDS = {
    "dense encoding, against open_clip": 1.0,
    "dense encoding with two read-outs": 0.8,
    "CAT-Seg's head, forward": 1.6,
    "training crops": 1.5,
}


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def speed_part() -> str:
    """Markdown: every ratio of the report "speed" beside its aim, what an evaluation takes, and growth."""
    from infoclip_lite.core.reports import read_report

    report = read_report("speed")
    lines = ["| ours against a peer, in turns | ratio | at most | aim | |", "|---|---|---|---|---|"]
    for row in report["contests"]:
        aim = next((least for begin, least in _SPEEDS.items() if row["what"].startswith(begin)), None)
        met = "" if aim is None else "reached" if row["ratio"] >= aim else "missed"
        bound = f"{row['at_most']:.2f}" if "at_most" in row else ""
        lines.append(
            f"| {row['what']} | {row['ratio']:.2f} | {bound} | {'' if aim is None else aim} | {met} |"
        )
    for row in report.get("objective", []):
        met = "reached" if row["share_beside_teacher"] <= 0.06 else "missed"
        what = f"the objective's share of a step with its teacher ({row['what']})"
        lines.append(f"| {what} | {row['share_beside_teacher']:.1%} | | 6% at most | {met} |")
    lines += ["", "| a picture among its words, scores of words | most memory, GB |", "|---|---|"]
    for row in report["evaluation"]:
        head = "CAT-Seg's head" if row["head"] == "vit_b" else "cosines"
        for way, cost in row["ways"].items():
            what = f"{row['side']} pixels, {row['words']} words, {head}, {way}"
            lines.append(f"| {what} | {cost['peak_gb']:.2f} |")
    for row in report.get("growth", []):
        others = ", ".join(f"{name} {value}" for name, value in row["others"].items())
        lines += [
            "",
            f"| {row['axis']} ({others}) | {' | '.join(map(str, row['values']))} | grows as |",
            "|---|" + "---|" * (len(row["values"]) + 1),
            f"| seconds | {' | '.join(f'{each:.2f}' for each in row['seconds'])} | power {row['exponent']} |",
            f"| kept for the gradient, MB | {' | '.join(f'{each:.0f}' for each in row['kept_mb'])} | |",
        ]
    on = report["environment"]
    lines += ["", f"Measured on {on['hardware']}, {_threads(on['threads'])}, torch {on['torch']}."]
    return "\n".join(lines) + "\n"


def studies_part(folder: Path = ROWS) -> str:
    """Markdown: finished runs of every study that travel with the project, and the time that they took."""
    lines = ["| study | finished runs | hours of a core |", "|---|---|---|"]
    for study in sorted(path for path in folder.iterdir() if path.is_dir()):
        runs = [json.loads(path.read_text()).get("seconds") for path in sorted(study.rglob("*.json"))]
        spent = [sum(each.values()) if isinstance(each, dict) else each for each in runs if each is not None]
        whole = "" if len(spent) == len(runs) else "at least "
        hours = f"{whole}{sum(spent) / 3600:.1f}" if spent else "not noted"
        lines.append(f"| `{study.name}` | {len(runs)} | {hours} |")
    return "\n".join(lines) + "\n"


# Means over eight benchmarks, ViT-B/16, percent [N]: READMEs, and notes on the papers. The notes do not say
# which MaskCLIP theirs is; PEARL's is of its attention alone.
_REPORTED = {
    "vanilla": "11.7",
    "value": "30.3 (one of the two)",
    "maskclip": "30.3 (one of the two)",
    "sclip": "38.2",
    "clearclip": "38.1",
    "naclip": "39.4",
    "pearl": "40.6",
    "cliper": "41.9",
    "resclip": "41.4",
}


def training_free_part() -> str:
    """Markdown: what is reported of each read-out on real pictures, and what ours has on collages."""
    from infoclip_lite.clip.readouts import READ_OUTS
    from infoclip_lite.core.reports import read_report
    from infoclip_lite.core.statistics import read_interval
    from infoclip_lite.figures.chimera import GROUPS

    report = read_report("training_free")
    lines = [
        "| read-out | reported, eight real benchmarks [N] "
        + "".join(f"| ours: {group} " for group in GROUPS.values())
        + "|",
        "|---|---|" + "---|" * len(GROUPS),
    ]
    for name in READ_OUTS:
        scores = [read_interval(report["rows"][name]["test"][key]).percent for key in GROUPS]
        ours = " | ".join(f"{score.mean:.1f} ± {score.ci95:.1f}" for score in scores)
        lines.append(f"| `{name}` | {_REPORTED.get(name, '')} | {ours} |")
    lines += [
        "",
        f"Ours: mIoU in percent, collage-mini, {report['scenes']['test']} scenes of new instances of "
        f"{report['size']} pixels, {report['words']} words, 95% intervals over scenes.",
    ]
    return "\n".join(lines) + "\n"


def model_facts() -> str:
    """What collage-mini's checkpoint says of its making."""
    from infoclip_lite.clip import read_card

    card = read_card()
    cost, recipe = card["cost"], card["recipe"]
    rows = {
        "scenes": f"{recipe['pool']:,} in the pool, {card['scenes_seen']:,} seen",
        "steps": f"{sum(stage['steps'] for stage in recipe['stages']):,} of {recipe['batch']} scenes",
        "words": f"{recipe['text']['steps']:,} steps of distillation",
        "cost": f"{cost['minutes']:.0f} minutes on {_threads(cost['threads'])}, from pool to last step",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())])


def write_all(folder: Path) -> None:
    """Write the generated parts into the site's source folder; what did not change is left alone."""
    texts = {
        "generated/commands.md": commands_page(),
        "generated/errors.part.md": errors_table(),
        "generated/times.part.md": times_table(),
        "generated/rooms.part.md": house.rooms_table(),
        "generated/nevers.part.md": house.nevers_part(),
        "generated/picture.part.md": house.walk_table(house.PICTURE),
        "generated/recipe.part.md": house.walk_table(house.RECIPE),
        "generated/modules.part.md": house.modules_part(),
        "generated/readouts.part.md": readouts_part(),
        "generated/protocols.part.md": protocols_part(),
        "generated/model_card.part.md": model_table(),
        "generated/model_facts.part.md": model_facts(),
        "generated/controls.part.md": controls_table(),
        "generated/worth.part.md": worth_tables(),
        "generated/aims.part.md": aims_table(),
        "generated/speed.part.md": speed_part(),
        "generated/studies.part.md": studies_part(),
        "generated/training_free.part.md": training_free_part(),
        **pack.parts(),
        **plans.parts(),
    }
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    texts |= {f"notebooks/{path.name}": json.dumps(site_copy(json.loads(path.read_text()))) for path in paths}
    for stale in set((folder / "notebooks").glob("*.ipynb")) - {folder / name for name in texts}:
        stale.unlink()
    explorers.write_all(folder / "generated" / "static" / "explorers", folder / "_build" / "explorer-parts")
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
