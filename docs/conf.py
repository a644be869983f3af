"""The site: stored notebooks, course kit and reference; built without network, and read without it."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

generate.write_all(HERE)

project, author = "InfoCLIP Lite", "the authors of InfoCLIP Lite"
version = release = installed("infoclip-lite")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["_build", "generated/*.part.md"]
templates_path = ["_templates"]
default_role = "code"

nb_execution_mode = "off"  # what was stored is shown
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = True

napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "training"}
python_maximum_signature_line_length = 88

html_theme = "sphinx_book_theme"
html_title = "InfoCLIP Lite"
html_static_path = ["_static", "generated/static"]
html_css_files = ["site.css", "explorers/style.css"]
html_js_files = ["site.js"]
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}
html_show_sphinx = False
html_copy_source = False


def setup(app):
    """Docstrings are Markdown-like; what reStructuredText would take for markup is escaped before Napoleon
    reads them.
    """
    app.connect(
        "autodoc-skip-member",
        lambda app, what, name, thing, skip, options: (
            skip or str(thing.__doc__).startswith("Alias for field")
        ),
    )
    app.connect("autodoc-process-docstring", generate.escape_docstring, priority=100)
    app.connect("autodoc-process-signature", generate.signature_that_parses)
