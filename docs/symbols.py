"""The notation on one sheet of paper: `make symbols`, or `python docs/symbols.py FOLDER`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from infoclip_lite.course.printing import print_pdf
from infoclip_lite.course.slides.markup import to_html

HERE = Path(__file__).parent
STYLE = """
@page { size: A4 landscape; margin: 8mm 9mm; }
body { margin: 0; font: 7pt/1.22 system-ui, "Noto Sans", "DejaVu Sans", sans-serif; color: #1d2126; }
h1 { font-size: 13pt; margin: 0 0 1mm; } h1 + p { margin: 0 0 2.5mm; color: #59626d; column-span: all; }
main { columns: 2; column-gap: 8mm; }
h2 { font-size: 8.5pt; margin: 1.6mm 0 0.8mm; color: #0173b2; break-after: avoid; }
table { border-collapse: collapse; width: 100%; margin: 0; }
th { text-align: left; color: #59626d; font-weight: 600; }
td, th { padding: 0.35mm 1.6mm 0.35mm 0; vertical-align: top; border-bottom: 0.2mm solid #e3e5e1; }
td:nth-child(4) { font-size: 5.9pt; overflow-wrap: anywhere; } td:nth-child(3) { white-space: nowrap; }
tr { break-inside: avoid; } p { margin: 0.8mm 0; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.95em; }
math[display="block"] { margin: 0.8mm 0; }
"""


def sheet(notation: str) -> str:
    """A page that prints on one side of A4, from the Markdown of the notation."""
    title, intro, body = re.split(r"\n\n", notation, maxsplit=2)
    shown = f"{to_html(title)}<p>{to_html(intro).removeprefix('<p>')}<main>{to_html(body)}</main>"
    # A name in code may be broken where a reader would break it.
    shown = re.sub(r"<code>.*?</code>", lambda name: re.sub(r"([.(])", r"\1<wbr>", name.group()), shown)
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Symbols</title>'
        f"<style>{STYLE}</style><body>{shown}</body></html>"
    )


def main(folder: Path) -> None:
    """Write symbols.html and, where a browser is installed, symbols.pdf into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "symbols.html"
    page.write_text(sheet((HERE / "notation.md").read_text(encoding="utf-8")), encoding="utf-8")
    print(page)
    print(print_pdf(page, folder / "symbols.pdf"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "_build")
