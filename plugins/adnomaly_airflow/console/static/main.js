// Views, refresh and theme.
import { api, el, followTheme, Refused } from "./dom.js";
import * as incidents from "./incidents.js";
import * as model from "./model.js";
import * as now from "./now.js";

const VIEWS = { "/adnomaly/": ["now", now, 3000], "/adnomaly/incidents": ["incidents", incidents, 5000], "/adnomaly/model": ["model", model, 30000] };
const target = document.getElementById("view");
let me, active, timer, turn = 0;

async function open(navigated) {
  const mine = ++turn;
  clearTimeout(timer);
  const [name, view, every] = VIEWS[location.pathname] ?? VIEWS["/adnomaly/"];
  document.querySelectorAll("nav a").forEach((a) => { if (a.dataset.view === name) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current"); });
  const began = performance.now();
  try {
    me ??= await api("me");
    const stage = el("div");
    await view.show(stage, me, navigate);
    if (mine !== turn) return;
    target.replaceChildren(...[stage]);
    active = { view, every };
    target.dataset.ready = name;
    performance.measure(`adnomaly:${name}`, { start: navigated ? began : 0 });
  } catch (error) { showError(error); active = { view: { refresh: () => open(false) }, every }; }
  again();
}

function showError(error) {
  if (error instanceof Refused && error.status === 401) return;
  target.replaceChildren(el("p", { class: "problem" }, error.message), el("p", { class: "quiet" }, "Retrying …"));
}

function again() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const mine = turn;
    if (!document.hidden && active) {
      try {
        await active.view.refresh();
        document.getElementById("clock").textContent = `as of ${new Date().toISOString().slice(11, 19)} UTC`;
      } catch (error) { document.getElementById("clock").textContent = `not up to date: ${error.message.slice(0, 80)}`; }
    }
    if (mine === turn) again();
  }, active.every);
}

function navigate(href) {
  history.pushState(null, "", href);
  delete target.dataset.ready;
  open(true);
}

document.querySelector("nav").addEventListener("click", (event) => {
  const anchor = event.target.closest("a");
  if (anchor && !event.metaKey && !event.ctrlKey) { event.preventDefault(); navigate(anchor.getAttribute("href")); }
});
window.addEventListener("popstate", () => open(true));
document.addEventListener("visibilitychange", () => { if (!document.hidden && active) again(); });
let themed = false;
followTheme(() => { if (themed) open(false); themed = true; });
open(false);
