"""The page that lists what the server answers to, made from its OpenAPI description, without a program from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-size: 0.95em; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { text-align: left; padding: 0.2rem 1rem 0.2rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) { body { background: #151515; color: #eee; } a { color: #8cf; } }
"""


def manual(description: dict[str, Any]) -> str:
    """Make an HTML page of an OpenAPI description.

    Args:
        description: as ``FastAPI.openapi`` gives it.

    Examples:
        >>> info = {"title": "srfast", "version": "1"}
        >>> page = manual({"info": info, "paths": {"/health": {"get": {"summary": "Whether the server is up"}}}})
        >>> "<code>GET /health</code>" in page
        True
    """
    parts = []
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            body = "<p>The file is the body of the request.</p>" if "requestBody" in told else ""
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(told.get('summary', ''))}</p>{body}"
                f"{_parameters(told.get('parameters', []))}"
            )
    title = f"{escape(description['info']['title'])} {escape(description['info']['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        '<p>For programs: <a href="openapi.json">openapi.json</a></p>' + "".join(parts) + "</main></body></html>"
    )


def _parameters(parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{escape(str(one['schema'].get('default', 'required' if one.get('required') else '')))}</td></tr>"
        for one in parameters
    )
    return f"<table><tr><th>parameter</th><th>in</th><th>default</th></tr>{rows}</table>"
