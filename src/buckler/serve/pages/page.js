// Keys, the lease's clock, and nothing that a page needs to work.
"use strict";
(() => {
  const one = (what) => document.querySelector(what);
  const say = one("#say");
  const tell = (sentence) => { if (say) say.textContent = sentence; };
  const form = one("#decide");
  const classes = one("#classes");
  const help = one("#keys");
  const useKeys = one("#use-keys");
  const KEYS_OFF = "buckler-keys-off";
  const SETTLE_MS = 300; // a key pressed for the last item must not decide this one
  let choosing = null; // the button that a class's key will press
  let sent = false;
  let shown = Infinity;

  addEventListener("load", () => {
    shown = performance.now();
    setTimeout(() => { document.documentElement.dataset.ready = "yes"; }, SETTLE_MS);
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  for (const each of document.forms) {
    if (each.method === "dialog") continue;
    each.addEventListener("submit", (event) => {
      if (sent) event.preventDefault(); // a second click is not a second answer
      sent = true;
    });
  }

  // Single keys may be switched off: a voice or a shaking hand presses them unasked.
  const keysOff = () => localStorage.getItem(KEYS_OFF) === "yes";
  if (useKeys) {
    useKeys.checked = !keysOff();
    useKeys.addEventListener("change", () => {
      localStorage.setItem(KEYS_OFF, useKeys.checked ? "no" : "yes");
    });
    for (const each of document.querySelectorAll(".script")) each.hidden = false;
    one("#help").addEventListener("click", () => help.showModal());
  }

  const press = (button) => { if (button && !button.disabled) button.click(); };
  const kind = (name) => form && form.querySelector(`button[name=kind][value=${name}]:not([hidden])`);
  const field = one("#label");

  function choose(button, sentence) {
    if (!button || !classes) return;
    choosing = button;
    classes.classList.add("choosing");
    classes.scrollIntoView({ block: "nearest" });
    if (field) field.focus();
    tell(sentence);
  }

  function leave() {
    choosing = null;
    if (classes) classes.classList.remove("choosing");
    tell("");
  }

  // The one class that begins so, if there is one.
  function completed(text) {
    const begun = text.trim().toLowerCase();
    const names = [...document.querySelectorAll("#names option")].map((option) => option.value);
    const exact = names.filter((name) => name.toLowerCase() === begun);
    const found = exact.length ? exact : names.filter((name) => name.toLowerCase().startsWith(begun));
    return begun && found.length === 1 ? found[0] : null;
  }

  function chosen(event) {
    if (event.key === "Enter" && choosing.value === "adversarial") {
      if (!field || !field.value.trim()) { press(choosing); return true; }
    }
    const radio = [...document.querySelectorAll("#classes input[data-key]")]
      .find((each) => each.dataset.key === event.key.toLowerCase());
    if (!radio) return false;
    radio.checked = true;
    press(choosing);
    return true;
  }

  if (field) {
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (choosing && choosing.value === "adversarial" && !field.value.trim()) { press(choosing); return; }
      const name = document.querySelector("#names option") ? completed(field.value) : field.value.trim();
      if (!name) { tell("No class, or more than one, begins so: type more of its name."); return; }
      field.value = name;
      press(choosing || kind("label") || one("#named"));
    });
  }

  const commands = {
    a: () => press(kind("accept")),
    c: () => press(kind("corrupted")),
    u: () => press(kind("unsure") || one("#unsure")),
    l: () => choose(kind("label") || one("#named"), "Which class is it? Press its key or type its name; Esc leaves."),
    x: () => choose(kind("adversarial"), "Adversarial. What is it truly? Its key or name, or Enter if nobody can tell; Esc leaves."),
    n: () => {
      const next = one("a[rel=next]");
      if (next) next.click(); else tell("Decide this one, or put it back.");
    },
    z: () => press(one("#undo")),
    "?": () => { if (help) help.showModal(); },
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || sent) return;
    if (event.key === "Escape") { leave(); document.activeElement.blur(); return; }
    const typing = event.target.closest("textarea, select, input:not([type=radio], [type=checkbox])");
    if (typing || keysOff() || (help && help.open)) return;
    if (performance.now() - shown < SETTLE_MS || shown === Infinity) return;
    if (choosing) {
      if (chosen(event)) event.preventDefault();
      return;
    }
    const command = Object.hasOwn(commands, event.key) && commands[event.key];
    if (!command) return;
    event.preventDefault();
    command();
  });

  // The lease: counted down here, and kept while somebody is at work on this page.
  const lease = one("#lease");
  if (!lease) return;
  let whole = Number(lease.dataset.seconds);
  let end = performance.now() + 1000 * whole;
  let active = true;
  let asking = false;
  let ended = false;
  for (const sign of ["keydown", "pointermove", "pointerdown", "scroll"]) {
    addEventListener(sign, () => { active = true; }, { passive: true });
  }

  function over(sentence) {
    ended = true;
    one("#left").textContent = "0:00";
    tell(sentence);
    const next = document.createElement("a");
    next.href = "/review";
    next.rel = "next";
    next.textContent = " Next item";
    say.append(next);
    say.classList.add("bad");
  }

  async function keep() {
    asking = true;
    try {
      const answer = await fetch(lease.action, {
        method: "POST",
        headers: { accept: "application/json" },
        body: new URLSearchParams(new FormData(lease)),
      });
      if (answer.ok) {
        whole = (await answer.json()).seconds;
        end = performance.now() + 1000 * whole;
        active = false;
      } else if (!sent) {
        over("Your time with this item ended.");
      }
    } catch {
      tell("The gateway does not answer: your time is not renewed.");
    } finally {
      asking = false;
    }
  }

  let warned = false;
  function tick() {
    if (ended || sent) return;
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    one("#left").textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (left === 0) { over("Your time with this item ended."); return; }
    if (left > 60) warned = false;
    if (active && !asking && left < whole / 2) keep();
    else if (left <= 60 && !warned) { warned = true; tell("Less than a minute is left: press Keep it to go on."); }
  }
  tick();
  setInterval(tick, 1000);
})();
