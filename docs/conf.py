"""Sphinx's configuration of the site: ``make docs`` builds it into build/docs, without network."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "ext"))

project = "metarl"
author = "The metarl developers"
copyright = author  # noqa: A001 - the name is Sphinx's
release = version = importlib.metadata.version("metarl-suite")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "metarl_site.api",
    "metarl_site.commands",
    "metarl_site.links",
    "metarl_site.mathml",
]
exclude_patterns = ["ext", "templates"]
suppress_warnings = ["ref.python"]  # two modules may each have a class Trial

myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "code"
highlight_language = "text"
smartquotes = False
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}
html_title = "metarl"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sidebars = {"index": [], "install": [], "quickstart": [], "concepts": []}
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "primary_sidebar_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
