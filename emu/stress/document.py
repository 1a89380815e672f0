"""What the chart pages of ``emu stress`` share: a document that needs no network, since the charts' program is inside.

The numbers lie in it as JSON too, so that a page can be evaluated again.
"""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from emu.html.data import in_script

__all__ = ["colors", "document", "figure", "listing", "table"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; } th { border-bottom-color: #888; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8em; font-size: 12px; } p.about { color: #555; }
.bad { color: #a00; }
"""


def colors(count: int) -> list[str]:
    """As many as there are series, in order: from dark to light."""
    from plotly.colors import sample_colorscale

    where = [0.15 + 0.65 * i / max(count - 1, 1) for i in range(count)]
    return [str(color) for color in sample_colorscale("Viridis", where)]


def figure(title: str, x: str, y: str, **layout: Any) -> go.Figure:
    """An empty chart."""
    made = go.Figure()
    made.update_layout(
        title=title, template="plotly_white", height=420, margin={"l": 70, "r": 20, "t": 60, "b": 60},
        xaxis_title=x, yaxis_title=y, **layout,
    )  # fmt: skip
    return made


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are text."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def listing(title: str, found: Sequence[str]) -> str:
    """What was found wrong; nothing where there is nothing."""
    items = "".join(f"<li>{html.escape(one)}</li>" for one in found)
    return f'<div class="bad"><p>{html.escape(title)}: {len(found)}</p><ul>{items}</ul></div>' if found else ""


def document(
    title: str, about: str, head: Sequence[str], charts: Iterable[go.Figure], tail: Sequence[str], config: Any,
    data: tuple[str, Any],
) -> str:  # fmt: skip
    """The whole page. ``head`` and ``tail`` are HTML before and after the charts; ``data``: an element's id and what
    lies in it."""
    from plotly.offline import get_plotlyjs

    name, values = data
    parts = [
        *head, *(chart.to_html(full_html=False, include_plotlyjs=False) for chart in charts),
        "<h2>Configuration</h2>", f'<pre id="config">{html.escape(json.dumps(config, indent=1))}</pre>', *tail,
    ]  # fmt: skip
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>
<script>{get_plotlyjs()}</script></head><body>
<h1>{html.escape(title)}</h1>
<p class="about">{html.escape(about)}</p>
{body}
<script type="application/json" id="{name}">{in_script(values)}</script>
</body></html>
"""
