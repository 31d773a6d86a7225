"""Sphinx configuration; `make docs` builds with it.

The source folder is the whole repository, so that links between the README, the guides and the
results are checked wherever a page lies.
"""

from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

project = "CLQ"
release = metadata.version("clq")
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "projects/CLQ/README.md", "benchmarks/results/*.md"]
exclude_patterns = [".*", "build", "output"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"CLQ {release}"


def unlink_folders(app: Sphinx, doctree: nodes.document) -> None:
    """Keep only the text of links to folders of the repository, which are no pages here."""
    page = Path(doctree["source"])
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link["refdomain"] is None and (page.parent / link["reftarget"]).is_dir():
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Connect the handler of links."""
    app.connect("doctree-read", unlink_folders)
