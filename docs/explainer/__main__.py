"""Build the explainer: python docs/explainer FOLDER. It needs Node's npm for the runtime, and no more."""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import content  # noqa: E402
import onnx  # noqa: E402
import towers  # noqa: E402
from credits import credits_table  # noqa: E402

from infoclip_lite import DenseCLIP, load_clip  # noqa: E402
from infoclip_lite.core.files import whole_file  # noqa: E402

PARTS = HERE.parent / "_build" / "explainer-parts"
# The build that runs on the CPU alone. As .js: servers that do not know .mjs send it as no script.
RUNTIME = {"ort.wasm.bundle.min.mjs": "ort.js", "ort-wasm-simd-threaded.wasm": "ort.wasm"}


def build(folder: Path, parts: Path = PARTS) -> Path:
    """Write the whole page, of the model, pictures and reports that ship.

    Args:
        folder: where; it may be served by any server for static files.
        parts: where what is slow to make is kept between two builds.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: npm is not installed.
        RuntimeError: npm could not get the runtime.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vendor(folder, parts)
    clip = load_clip().requires_grad_(False)
    write_towers(clip, folder, parts)
    write_content(clip, folder)
    return folder


def install(parts: Path) -> Path:
    """What npm's lockfile pins, installed; again only after the lockfile has changed.

    Args:
        parts: of `build`.

    Returns:
        The folder node_modules.

    Raises:
        FileNotFoundError: npm is not installed.
        RuntimeError: npm failed; what it said.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            "no npm on the path; expected Node 18 or newer, which brings the runtime of the page "
            "(on Debian: apt-get install npm). The rest of the site: sphinx-build docs docs/_build/html"
        )
    beside = parts / "npm"
    beside.mkdir(parents=True, exist_ok=True)
    lock = (HERE / "package-lock.json").read_bytes()
    done = beside / "installed.json"
    if not done.exists() or done.read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, beside / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        ran = subprocess.run(command, cwd=beside, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"npm ci failed ({ran.returncode}): {ran.stderr.strip()[-500:]}")
        done.write_bytes(lock)
    return beside / "node_modules"


def vendor(folder: Path, parts: Path) -> None:
    """Put the runtime beside the page.

    Args:
        folder: of the page.
        parts: of `build`.
    """
    source = install(parts) / "onnxruntime-web" / "dist"
    (folder / "vendor").mkdir(exist_ok=True)
    for name, target in RUNTIME.items():
        shutil.copyfile(source / name, folder / "vendor" / target)


def float_programs(clip: DenseCLIP, parts: Path) -> dict[str, Path]:
    """The towers in float32, "image" and "text", as files.

    The exporter works for minutes on a slow machine: a program is made anew when the model or the way it is
    exported has changed.

    Args:
        clip: the model.
        parts: of `build`.
    """
    parts.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, program in (("image", towers.image_program), ("text", towers.text_program)):
        paths[name] = parts / f"{name}-{towers.fingerprint(clip)}.onnx"
        if not paths[name].exists():
            with whole_file(paths[name]) as scratch:
                scratch.write_bytes(program(clip).SerializeToString())
    return paths


def write_towers(clip: DenseCLIP, folder: Path, parts: Path) -> None:
    """Write image.onnx and text.onnx, in half precision.

    Args:
        clip: the model.
        folder: of the page.
        parts: of `build`.
    """
    for name, path in float_programs(clip, parts).items():
        (folder / f"{name}.onnx").write_bytes(towers.halved(onnx.load(path)).SerializeToString())


def write_content(clip: DenseCLIP, folder: Path) -> None:
    """Write all else: pictures, words, trainings, and the page itself with its credits.

    Args:
        clip: the model.
        folder: of the page.
    """
    pictures = content.write_pictures(folder)
    content.write_first(clip, folder, pictures[0])
    trainings, scenes = content.write_trainings(folder)
    words = content.write_words(clip, folder)
    known = towers.TextTower(clip).known
    (folder / "tokenizer.json").write_text(content.tokenizer_json(clip, known), "utf-8")
    (folder / "content.json").write_text(content.content_json(clip, pictures, words, trainings), "utf-8")
    said = content.write_still(clip, folder)
    for path in sorted((HERE / "page").iterdir()):
        shutil.copyfile(path, folder / path.name)
    filled = {"{{credits}}": credits_table([*pictures, *scenes])}
    filled |= {f"{{{{still {name}}}}}": html.escape(text) for name, text in said.items()}
    page = (HERE / "page" / "index.html").read_text("utf-8")
    for mark, text in filled.items():
        page = page.replace(mark, text)
    (folder / "index.html").write_text(page, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/explainer FOLDER")
    print(f"explainer: {build(Path(sys.argv[1])).resolve()}")
