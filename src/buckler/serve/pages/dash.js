"use strict";
// Draws the charts in the colours of the theme, and keeps the page as it is now. Without this
// script the page shows its tables and reloads itself.

const TONES = ["ground", "ink", "soft", "line", "mark", "bad", "good"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function tones() {
  const probe = document.createElement("span");
  document.body.append(probe);
  const found = {};
  for (const tone of TONES) {
    probe.style.color = `var(--${tone})`;
    found[tone] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

function coloured(trace, tone) {
  const colour = tone[trace.tone] ?? tone.mark;
  const marker = { color: colour, line: { color: colour, width: 1 }, ...trace.marker };
  if (marker.pattern) marker.pattern = { ...marker.pattern, fgcolor: tone.ground, bgcolor: colour };
  // A bar of 0 would still have its outline.
  const y = trace.type === "bar" ? trace.y.map((value) => value || null) : trace.y;
  return { ...trace, y, marker, line: { color: colour, ...trace.line } };
}

function draw(place) {
  const figure = JSON.parse(place.dataset.figure);
  const tone = tones();
  const axis = { gridcolor: tone.line, linecolor: tone.line, zerolinecolor: tone.line, automargin: true };
  const layout = {
    ...figure.layout,
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, rangemode: "tozero", ...figure.layout.yaxis },
    font: { color: tone.soft, size: 13 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 45, r: 10, t: 10, b: 40 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    bargap: 0.15,
    showlegend: true,
  };
  place.classList.add("done");
  const data = figure.data.map((trace) => coloured(trace, tone));
  Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
}

function drawAll() {
  if (!window.Plotly) return;
  for (const place of document.querySelectorAll(".drawn[data-figure]")) draw(place);
}

function fold(within) {
  if (!window.Plotly) return;
  for (const each of within.querySelectorAll("figure.chart details")) each.open = false;
}

// What the server would send now takes the place of what is there; forms that somebody fills stay.
async function renew() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-part]")) {
    const fresh = page.querySelector(`[data-part="${old.dataset.part}"]`);
    if (!fresh || old.contains(document.activeElement)) continue;
    const place = old.querySelector(".drawn[data-figure]");
    if (place) {
      place.dataset.figure = fresh.querySelector(".drawn[data-figure]").dataset.figure;
      old.querySelector("tbody").replaceWith(fresh.querySelector("tbody"));
      if (window.Plotly) draw(place);
    } else {
      old.replaceChildren(...fresh.childNodes);
    }
  }
}

let renewed = 0;
let waiting = 0;

function soon() {
  clearTimeout(waiting);
  const wait = Math.max(0, renewed + 5000 - Date.now());
  waiting = setTimeout(async () => {
    renewed = Date.now();
    try {
      await renew();
    } catch {
      // The next event tries again.
    }
  }, wait);
}

function listen() {
  const state = document.getElementById("state");
  const source = new EventSource("/events");
  let first = true;
  source.addEventListener("now", (event) => {
    const now = JSON.parse(event.data);
    for (const place of document.querySelectorAll("[data-live]")) {
      if (place.dataset.live in now) place.textContent = now[place.dataset.live];
    }
    const time = new Date().toISOString().slice(0, 19).replace("T", " ");
    state.textContent = `Live, changed ${time} UTC.`;
    document.documentElement.dataset.live = "yes";
    if (!first) soon();
    first = false;
  });
  source.addEventListener("error", () => {
    state.textContent = "Not live now: trying again.";
  });
}

drawAll();
fold(document);
dark.addEventListener("change", drawAll);
setInterval(() => document.hidden || soon(), 30000);
listen();
document.documentElement.dataset.ready = "yes";
