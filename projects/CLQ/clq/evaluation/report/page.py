"""Write a report: index.html, which holds everything it shows, report.json and the figures."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ... import __version__
from ...utils.atomic_write import write_atomically
from ...utils.unprintable import escape_unprintable
from . import readings
from .figures import as_png
from .panels import Panel

PAGE, FACTS = "index.html", "report.json"


def write_page(
    folder: Path,
    template: str,
    facts: Mapping[str, Any],
    panels: Sequence[Panel],
    **content: Any,
) -> Path:
    """Write a report; every file atomically, and the page last.

    Args:
        folder: of the report; made if need be.
        template: of the page, in the package's ``templates``.
        facts: content of report.json, and of the page's tables.
        panels: figures of the page, which are written beside it too.
        content: what else the template asks for.

    Returns:
        The page.

    Raises:
        OSError: a file can't be written.
    """
    images = {panel.name: as_png(panel.figure) for panel in panels}
    page = render(
        template,
        facts=facts,
        panels={panel.name: panel for panel in panels},
        sources={name: _data_uri(image) for name, image in images.items()},
        **content,
    )
    for name, image in images.items():
        write_atomically(folder / f"{name}.png", image)
    text = json.dumps(facts, indent=1, allow_nan=False)
    write_atomically(folder / FACTS, f"{text}\n".encode())
    write_atomically(folder / PAGE, page.encode("utf-8", "replace"))
    return folder / PAGE


def render(template: str, **content: Any) -> str:
    """Render a template of the package."""
    return environment().get_template(template).render(version=__version__, **content)


def environment() -> jinja2.Environment:
    """Return Jinja's environment: what a template shows is escaped, and undefined names raise."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clq.evaluation.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: escape_unprintable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=readings.number, percent=readings.percent)
    environment.globals.update(error_names=readings.ERROR_NAMES)
    return environment


def _data_uri(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
