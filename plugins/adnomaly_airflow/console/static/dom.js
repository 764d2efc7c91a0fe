// DOM elements, requests, formats, and Airflow's frame. Text is set as text, never as markup.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export class Refused extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

export async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (answer.status === 401) {
    const top = framed() ? window.parent : window;
    top.location.href = `/auth/login?next=${encodeURIComponent(top.location.pathname + top.location.search)}`;
    throw new Refused(401, "logged out");
  }
  const text = await answer.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* reported below */ }
  if (!answer.ok) {
    const detail = data && data.detail;
    throw new Refused(answer.status, typeof detail === "string" ? detail : text.slice(0, 300) || `the server answers ${answer.status}`);
  }
  return data;
}

export const api = (path, body) => ask(`/adnomaly/api/${path}`, body);

export function framed() {
  try { return window.parent !== window && Boolean(window.parent.document); } catch { return false; }
}

// A link to another page of Airflow or another console. It leaves the frame.
export function link(href, text, { blank = /^https?:/.test(href) } = {}) {
  const go = (event) => {
    if (!framed()) return;
    event.preventDefault();
    const anchor = window.parent.document.createElement("a");
    anchor.href = href;
    if (blank) { anchor.target = "_blank"; anchor.rel = "noopener"; }
    window.parent.document.body.append(anchor);
    anchor.click();
    anchor.remove();
  };
  return el("a", { href, onclick: go, ...(blank ? { target: "_blank", rel: "noopener" } : {}) }, text);
}

export function followTheme(changed) {
  const source = framed() ? window.parent.document.documentElement : null;
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    document.documentElement.classList.toggle("dark", source ? source.classList.contains("dark") : media.matches);
    changed();
  };
  if (source) new MutationObserver(apply).observe(source, { attributes: true, attributeFilter: ["class"] });
  else media.addEventListener("change", apply);
  apply();
}

let hiding;
export function toast(text) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { box.hidden = true; }, 8000);
}

export const number = (value, digits = 0) => value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
export const short = (value) => value === null || value === undefined ? "–" : Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
export const percent = (value) => value === null || value === undefined ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
export const money = (value) => number(value, 2);

export function ago(moment, now) {
  const s = Math.max(0, (new Date(now) - new Date(moment)) / 1000);
  if (s < 90) return `${s.toFixed(0)} s ago`;
  if (s < 5400) return `${(s / 60).toFixed(0)} min ago`;
  return s < 129600 ? `${(s / 3600).toFixed(0)} h ago` : `${(s / 86400).toFixed(0)} days ago`;
}

export const moment = (text) => new Date(text).toISOString().slice(0, 16).replace("T", " ") + " UTC";

export function table(head, rows, { wide = false, caption = "" } = {}) {
  const numeric = (i) => rows[0]?.children[i]?.classList.contains("number");
  return el("div", { class: "scroll" }, el("table", { class: wide ? "wide" : "" },
    caption ? el("caption", { class: "quiet small" }, caption) : null,
    el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: numeric(i) ? "number" : "" }, name)))),
    el("tbody", {}, rows)));
}
