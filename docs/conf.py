"""Build with ``python -m sphinx -W --keep-going -b html docs .docs``; read with ``python -m http.server -d .docs``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "threadhooks"
author = "The threadhooks team"
copyright = author
release = version = version_of("threadhooks")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

myst_heading_anchors = 3
myst_enable_extensions = ["attrs_block", "substitution"]
myst_substitutions = {"release": release}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
toc_object_entries_show_parents = "hide"
default_role = "code"  # docstrings say `name`

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_use_modindex = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"  # what a program prints is not for copying
