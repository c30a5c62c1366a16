"""One self-contained HTML file from a template: no network, and no script but ours.

Text from data is escaped by the template engine. Should anything slip through, the page's content
security policy lets the browser run the scripts with our hashes only, and load nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
    "base-uri 'none'; form-action 'none'"
)
NO_SCRIPTS = "'none'"


def render_page(
    template: str, context: Mapping[str, Any], *, charts: Mapping[str, Any] | None = None
) -> str:
    """Fill a template in.

    Args:
        template: File name below ``templates``.
        context: What it shows.
        charts: Bokeh models by the id of the element that holds them; the plotting library is
            inlined where there are any.

    Returns:
        The page.
    """
    environment = Environment(
        loader=PackageLoader("aml_mil.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [_bokeh_js(), _own_js()] if charts else []
    policy = POLICY.format(scripts=" ".join(map(_hash, scripts)) or NO_SCRIPTS)
    return environment.get_template(template).render(
        **context,
        policy=policy,
        scripts=[Markup(script) for script in scripts],
        charts={name: Markup(_embedded(chart, name)) for name, chart in (charts or {}).items()},
    )


def _embedded(chart: Any, name: str) -> str:
    """Write a chart as JSON that cannot end the element it stands in."""
    from bokeh.embed import json_item

    text = json.dumps(json_item(chart, name), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _bokeh_js() -> str:
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def _own_js() -> str:
    return (resources.files("aml_mil.report") / "templates" / "charts.js").read_text("utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
