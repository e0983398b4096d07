"""A run's report for eyes: Markdown, and one page that opens offline."""

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from buckler.inputs import InputSpec
from buckler.look import data_uri, difference_uri, stylesheet

Json = dict[str, Any]
_PICTURES = 24  # findings shown as pictures
_FILE = {True: "wins", False: "not as a file", None: "not asked"}


def as_markdown(value: Json) -> str:
    return _render(_MARKDOWN, value, escape=False)


def as_html(value: Json, folder: Path, spec: InputSpec) -> str:
    """The page; the first findings as pictures, if inputs are images."""
    shown = value["findings"][:_PICTURES] if spec.is_image else []
    pictures = [_pictures(each, folder, spec) for each in shown]
    catalogue: dict[str, list[str]] = {}
    for attack in value["attacks"]:
        ids = attack["ids"]
        text = "; ".join([*ids["atlas"], ids["nist"], ids["owasp"], ids["cwe"]])
        catalogue.setdefault(text, []).append(attack["name"])
    css = stylesheet()
    return _render(_HTML, value, escape=True, pictures=pictures, css=css, catalogue=catalogue)


def threat_words(threat: Json) -> str:
    if threat["kind"] == "lp":
        return f"{threat['norm']} eps {threat['eps']:.4g}"
    return " ".join(f"{name} {value}" for name, value in threat.items() if name != "goal")


def rate_words(rate: Json | None) -> str:
    """A rate with its interval; a dash where nothing was measured."""
    if not rate:
        return "–"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['value']:.1f} % [{low:.1f}–{high:.1f}]"


def since_words(since: Json | None) -> str:
    """One sentence on what is new."""
    if not since:
        return "there is no earlier run to compare with"
    counts = ", ".join(
        f"{len(since[name])} {name.replace('_', ' ')}"
        for name in ("new", "first_tried", "gone", "still", "not_tried")
        if since[name] or name in ("new", "gone", "still")
    )
    if "difference" not in since:
        return f"since {since['run']}: {counts}"
    gap = since["difference"]
    ends = f"{100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}"
    return f"since {since['run']}: {counts}; success {100 * gap['value']:+.1f} points [{ends}]"


def _render(source: str, value: Json, escape: bool, **more: object) -> str:
    environment = jinja2.Environment(
        autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["rate"] = rate_words
    facts = {
        "threat_words": threat_words(value["threat"]),
        "since_words": since_words(value["since"]),
        "as_file": _FILE,
    }
    return environment.from_string(source).render(v=value, **facts, **more)


def _pictures(finding: Json, folder: Path, spec: InputSpec) -> Json:
    place = folder / str(finding["finding"])
    x, x_adv = (np.load(place / f"{name}.npy") for name in ("clean", "adversarial"))
    return {
        **finding,
        "x": data_uri(x, spec.box),
        "x_adv": data_uri(x_adv, spec.box),
        "delta": difference_uri(x, x_adv),
    }


_MARKDOWN = """\
# Red-team run {{ v.run }}

Target {{ v.source }}{% if v.digest %}, {{ v.digest[:12] }}{% endif %}; threat {{ threat_words }};
suite {{ v.suite }}; seed {{ v.seed }}; {{ v.when }}. Ended: {{ v.ended }}.

- Success (rows with an accepted wrong answer inside the threat / rows right at first that every
  attack has finished, n = {{ v.rows.finished }}): **{{ v.get("success") | rate }}**
- The same, where an 8-bit file of the point wins too: {{ v.get("success_as_file") | rate }}
- Right at first: {{ v.get("clean_accuracy") | rate }} of {{ v.rows.asked }} rows
{% if "review_rate" in v %}
- Sent to review at first: {{ v.review_rate | rate }}
{% endif %}
- Queries: {{ v.spent }} of {{ v.queries }}; at most {{ v.per_row }} of an attack on a row
- What is new: {{ since_words }}
{% if v.decisions %}
- The target answers bare decisions, which hide the way: take the figures as lower bounds
{% endif %}

| attack | won / rows | success, 95 % interval | median queries to a win | ids |
|---|---|---|---|---|
{% for a in v.attacks %}
| {{ a.name }} | {{ a.broken }} / {{ a.given }} | {{ a.get("rate") | rate }} |\
 {{ a.get("median_queries_to_win", "–") }} |\
 {{ (a.ids.atlas + [a.ids.nist, a.ids.owasp, a.ids.cwe]) | join("; ") }} |
{% endfor %}

| class | success, 95 % interval |
|---|---|
{% for c in v.classes %}
| {{ c.class }} | {{ c.success | rate }} (n = {{ c.success.n }}) |
{% endfor %}

{% for f in v.findings %}
- `{{ f.finding }}`: {{ f.before.prediction }} → {{ f.after.prediction }} by {{ f.attack }} in\
 {{ f.queries }} queries, distance {{ "%.4g" | format(f.distance) }}, as a file:\
 {{ as_file[f.as_file] }}
{% else %}
Nothing was found.
{% endfor %}

Send a finding again: `buckler redteam --replay FOLDER`.
"""

_HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Buckler: red team {{ v.run }}</title><style>{{ css | safe }}</style></head><body>
<header><h1>Can outsiders fool it?</h1>
<p class="soft">{{ v.source }} {{ v.digest[:12] }} · {{ threat_words }} · {{ v.run }}</p></header>
<div class="ruling {{ 'bad' if v.findings else '' }}">
<strong>Success {{ v.get("success") | rate }}, n = {{ v.rows.finished }}</strong>
<p>Rows with an accepted wrong answer inside the threat / rows right at first that every attack has
finished. As 8-bit files: {{ v.get("success_as_file") | rate }}. Ended: {{ v.ended }}, after
{{ v.spent }} of {{ v.queries }} queries.</p><p>What is new: {{ since_words }}.</p></div>
<h2>By attack</h2>
<div class="scroll"><table><caption>95 % Wilson intervals</caption>
<thead><tr><th>attack</th><th>won / rows</th><th>success</th><th>median queries<br>to a win</th>
</tr></thead><tbody>
{% for a in v.attacks %}
<tr><td>{{ a.name }}</td><td>{{ a.broken }} / {{ a.given }}</td><td>{{ a.get("rate") | rate }}</td>
<td>{{ a.get("median_queries_to_win", "–") }}</td></tr>
{% endfor %}
</tbody></table></div>
{% for ids, names in catalogue.items() %}
<p class="soft">{{ names | join(", ") }}: {{ ids }}.</p>
{% endfor %}
<h2>By class</h2>
<div class="scroll"><table><tbody>
{% for c in v.classes %}
<tr><td>{{ c.class }}</td><td>{{ c.success | rate }}</td><td>n = {{ c.success.n }}</td></tr>
{% endfor %}
</tbody></table></div>
<h2>Findings</h2>
<div class="gallery">
{% for p in pictures %}
<figure><div class="trio"><img src="{{ p.x }}" alt="before"><img src="{{ p.x_adv }}" alt="after">\
<img src="{{ p.delta }}" alt="the change, at full strength"></div>
<figcaption>row {{ p.row }}: {{ p.before.prediction }} → {{ p.after.prediction }}<br>{{ p.attack }},
{{ p.queries }} queries, as a file: {{ as_file[p.as_file] }}</figcaption></figure>
{% endfor %}
</div>
<p>{{ v.findings | length }} in all; each has a folder with its files, and goes out again with
<code>buckler redteam --replay FOLDER</code>.</p>
</body></html>
"""
