"""A report as one page for a browser, which holds all that it needs and asks nobody for anything."""

import base64
import hashlib
import json
import os
import warnings
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from pydantic import ValidationError

from suture.checkpoints import read_manifest, sha256_of, staged_file, writing_to
from suture.checkpoints.manifest import MANIFEST
from suture.checkpoints.writing import write_text
from suture.errors import DataError, SutureWarning, UnsupportedFormat, reading
from suture.report.charts import compiled, converter, spec_of
from suture.report.colours import ON_DARK
from suture.report.exhibits import Picture, Plane, Report
from suture.report.markup import body_of, contents_of, id_of
from suture.report.numbers import drawable

REPORT, PAGE = "report.json", "report.html"
DIGITS = 3
"""After the point, of a place in a plane: a picture shows no more."""


def page(report: Report) -> str:
    """Return the whole page; the same report gives the same text.

    Raises :class:`UnsupportedFormat` where vl-convert, which brings the plotting library along, is not installed.

    >>> text = page(Report(title="A < B", summary="S", notes=[], exhibits=[], recipe="name: r", provenance={}))
    >>> "A &lt; B" in text, "http-equiv" in text
    (True, True)
    """
    vega, script = _vega(), _resource("page.js")
    texts: dict[str, int] = {}
    charts = {id_of(exhibit): _chart(exhibit, texts) for exhibit in report.exhibits if drawable(exhibit)}
    scripts = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (vega, script))
    # Vega compiles expressions, which are ours; nothing else in the page may run, and nothing may be fetched.
    policy = f"default-src 'none'; script-src {scripts} 'unsafe-eval'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return Template(_resource("page.html")).substitute(
        title=escape(report.title),
        summary=escape(report.summary),
        policy=policy,
        style=_resource("page.css"),
        contents=contents_of(report),
        body=body_of(report),
        version=version("suture"),
        charts=_json({"charts": charts, "texts": list(texts), "dark": ON_DARK}),
        vega=vega,
        script=script,
    )


def read_report(out: Path) -> Report:
    """Read ``report.json`` of a folder; raises :class:`DataError` when it is not there or is no report."""
    file = out / REPORT
    with reading(file, "a report", DataError, DataError):
        try:
            return Report.model_validate_json(file.read_bytes())
        except FileNotFoundError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}; `suture run` writes one, and so does `suture paper`") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(f"{file} is not a report{f', at {place}' if place else ''}: {first['msg']}") from error


def write_report(folder: Path, report: Report) -> None:
    """Write ``report.json`` into a folder."""
    write_text(folder / REPORT, report.model_dump_json(indent=1) + "\n")


def write_report_and_page(folder: Path, report: Report) -> None:
    """Write ``report.json`` and, where what draws it is installed, ``report.html``; else a :class:`SutureWarning` says so."""
    write_report(folder, report)
    try:
        write_page(folder)
    except UnsupportedFormat as error:
        warnings.warn(f"report.html is not written: {error}; then suture report OUT makes it", SutureWarning, stacklevel=2)


def write_page(out: Path) -> Path:
    """Write ``report.html`` beside the ``report.json`` of a folder, whole or not at all, and return where it is.

    A manifest of the folder learns the page's digest: killed between the two, `suture verify` names the page until it is written again.
    Raises what :func:`page` and :func:`read_report` raise, and :class:`OutputError` when the folder cannot be written, or is being
    written by another process.
    """
    text, file = page(read_report(out)), out / PAGE
    with writing_to(out):
        with staged_file(file, replace=True) as stage:
            write_text(stage, text)
        if (manifest := read_manifest(out)) is not None:
            manifest.files = dict(sorted({**manifest.files, PAGE: sha256_of(file)}.items()))
            written = (out / MANIFEST).stat()
            with staged_file(out / MANIFEST, replace=True) as stage:
                write_text(stage, manifest.text())
                os.utime(stage, ns=(written.st_atime_ns, written.st_mtime_ns))  # what is younger than that was changed since the run
    return file


def _chart(exhibit: Picture, texts: dict[str, int]) -> dict[str, Any]:
    """Return a picture for the page's script; a plane's samples in columns, each by its place among all ``texts``, which grow."""
    chart: dict[str, Any] = {"spec": compiled(spec_of(exhibit))}
    if isinstance(exhibit, Plane):
        clouds = [
            {
                "model": cloud.model,
                "task": cloud.task,
                "x": [round(value, DIGITS) for value in cloud.x],
                "y": [round(value, DIGITS) for value in cloud.y],
                "right": list(map(int, cloud.right)),
                "samples": [texts.setdefault(text, len(texts)) for text in cloud.samples],
            }
            for cloud in exhibit.clouds
        ]
        chart |= {"clouds": clouds, "reference": exhibit.reference}
    return chart


def _json(content: object) -> str:
    """Return JSON that nothing in it can end: no text closes the script that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _vega() -> str:
    """Return the plotting library: Vega, with all that it needs, as ``vegaEmbed``."""
    text: str = converter().javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _resource(name: str) -> str:
    return (files("suture.report") / name).read_text(encoding="utf-8")
