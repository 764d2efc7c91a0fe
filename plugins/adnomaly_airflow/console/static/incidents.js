// Incidents: list, explanation, evidence and decisions.
import { windows } from "./charts.js";
import { ago, api, el, moment, money, number, percent, short, table, toast } from "./dom.js";

const STATUS = { open: "open", acknowledged: "acknowledged", confirmed: "confirmed fraud", false_alarm: "false alarm", snoozed: "snoozed", resolved: "resolved" };
const DIMENSIONS = { campaign_id: "campaigns", ad_id: "ads", user_agent: "agents", user_id_hash: "users", "all clicks": "all clicks" };
const DID = { acknowledge: "acknowledged it", confirm: "confirmed fraud", false_alarm: "marked it as a false alarm", snooze: "snoozed it", comment: "commented", reopen: "reopened it" };
const FILTERS = { all: () => true, waiting: (i) => i.status === "open", "in progress": (i) => ["acknowledged", "snoozed"].includes(i.status), decided: (i) => ["confirmed", "false_alarm", "resolved"].includes(i.status) };
let user, open, shown, filter = "all", words = "";

export async function show(view, me, navigate) {
  user = me;
  const id = new URLSearchParams(location.search).get("id");
  open = { view, id, navigate };
  shown = "";
  if (id) await one(); else await list();
}

export async function refresh() {
  if (open.id) await refreshOne(); else await list();
}

async function list() {
  const data = await api("incidents");
  const text = JSON.stringify(data.incidents);
  if (text === shown) return;
  shown = text;
  const waiting = data.incidents.filter((i) => i.status === "open").length;
  const place = el("div"), typing = document.activeElement?.type === "search";
  open.view.replaceChildren(el("h1", {}, waiting ? `${waiting} incident${waiting > 1 ? "s wait" : " waits"} for a decision` : "No incident waits for a decision"),
    el("p", { class: "quiet" }, "Open incidents and those of the last 14 days, by status, money at risk and score."),
    filters(data.incidents, () => place.replaceChildren(rowsOf(data))), place);
  place.replaceChildren(rowsOf(data));
  if (typing) document.querySelector("#filters input").focus();
}

function filters(all, changed) {
  const search = el("input", { type: "search", placeholder: "search …", "aria-label": "Search", value: words, oninput: () => { words = search.value; changed(); } });
  const buttons = Object.entries(FILTERS).map(([name, takes]) => el("button", { "aria-pressed": String(name === filter), onclick: (e) => {
    filter = name;
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === e.target)));
    changed();
  } }, `${name} (${all.filter(takes).length})`));
  return el("div", { class: "buttons", id: "filters" }, buttons, search);
}

function rowsOf(data) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = data.incidents.filter((i) => FILTERS[filter](i) && wanted.every((word) => `${i.who} ${i.summary} ${STATUS[i.status]}`.toLowerCase().includes(word)));
  const rows = chosen.map((i) => {
    const go = () => open.navigate(`/adnomaly/incidents?id=${encodeURIComponent(i.incident_id)}`);
    return el("tr", { class: "row", tabindex: "0", "data-incident": i.incident_id, onclick: go, onkeydown: (e) => { if (e.key === "Enter") go(); } },
      el("td", {}, el("span", { class: `tag ${i.status}` }, STATUS[i.status]), i.status === "open" && going(i, data.at) === "ongoing" ? el("span", { class: "small red" }, " ongoing") : null),
      el("td", {}, el("strong", {}, i.who)), el("td", { class: "text" }, i.summary.replace(`${i.who}: `, "")),
      el("td", { class: "number" }, i.money_at_risk ? money(i.money_at_risk) : "–"),
      el("td", { class: "number" }, i.peak_score === null ? "–" : i.peak_score.toFixed(2)),
      el("td", { class: "number" }, moment(i.began)), el("td", { class: "number" }, ago(i.last_seen, data.at)));
  });
  if (rows.length) return table(["status", "who", "why", "at risk", "score", "since", "last seen"], rows, { wide: true });
  return el("p", {}, data.incidents.length ? "No incident matches." : "No incidents. An attack appears here within two minutes.");
}

let current;

async function one() {
  const data = await api(`incident?id=${encodeURIComponent(open.id)}`);
  current = data;
  const i = data.incident;
  const top = el("section", { id: "top" });
  const decide = el("section", { class: "panel", id: "decide" });
  const charts = el("section", { class: "charts", "aria-label": "Score and features over time" });
  open.view.replaceChildren(el("p", {}, back()), top, el("div", { class: "beside" }, decide, el("div", {}, charts, evidence(data.evidence, i), examples(data.examples))));
  head(top, data);
  forms(decide, data);
  draw(charts, data.windows);
}

// Refresh without losing a comment that is being written.
async function refreshOne() {
  const data = await api(`incident?id=${encodeURIComponent(open.id)}`);
  const changed = data.incident.revision !== current.incident.revision;
  const grown = data.incident.last_seen !== current.incident.last_seen;
  if (!changed && !grown) { head(document.getElementById("top"), data); return; }
  const writing = document.querySelector("#decide textarea")?.value;
  if (changed && writing) toast("Somebody has decided meanwhile; your comment is kept.");
  await one();
  if (writing) document.querySelector("#decide textarea").value = writing;
}

// Windows come once a minute, about a minute late; an incident ends after half an hour without one.
function going(i, now) {
  if (i.is_over) return `over since ${moment(i.last_seen)}`;
  return new Date(now) - new Date(i.last_seen) < 4 * 60e3 ? "ongoing" : `quiet since ${moment(i.last_seen)}`;
}

function back() {
  const go = (event) => { event.preventDefault(); open.navigate("/adnomaly/incidents"); };
  return el("a", { href: "/adnomaly/incidents", onclick: go }, "← all incidents");
}

function head(box, data) {
  const i = data.incident;
  const facts = [`since ${moment(i.began)}`, going(i, data.at)];
  if (i.windows) facts.push(`${number(i.windows)} anomalous windows`, `peak score ${i.peak_score.toFixed(3)}`);
  if (i.model_version) facts.push(`model ${i.model_version.slice(0, 10)}`);
  box.replaceChildren(el("h1", {}, i.who, " ", el("span", { class: `tag ${i.status}` }, STATUS[i.status] + (i.fraud_kind ? `: ${i.fraud_kind}` : "") + (i.status === "snoozed" ? ` until ${moment(i.snoozed_until)}` : ""))),
    el("p", {}, el("bdi", {}, i.summary)), el("p", { class: "quiet" }, facts.join(" · ")));
}

function forms(box, data) {
  const i = data.incident;
  const history = data.history.map((d) => el("li", {}, el("strong", {}, el("bdi", {}, d.author)), ` ${DID[d.action] ?? d.action}${d.fraud_kind ? ` (${d.fraud_kind})` : ""}${d.until ? ` until ${moment(d.until)}` : ""}`,
    el("span", { class: "quiet small" }, `, ${moment(d.decided_at)}`), d.comment ? el("p", {}, el("bdi", {}, d.comment)) : null));
  const parts = [el("h2", { style: "margin-top:0" }, "Decide")];
  if (user.may_act) parts.push(form(i)); else parts.push(el("p", { class: "quiet" }, `Logged in as ${user.name}, who can view but not decide.`));
  parts.push(el("h2", {}, "History"), history.length ? el("ol", { class: "history" }, history.reverse()) : el("p", { class: "quiet" }, "No decisions yet."));
  box.replaceChildren(...parts);
}

function form(i) {
  const comment = el("textarea", { name: "comment", maxlength: user.longest_comment, placeholder: "Comment (saved with the decision)", "aria-label": "Comment" });
  const kind = el("select", { name: "kind", "aria-label": "Kind of fraud" }, user.fraud_kinds.map((name) => el("option", {}, name)));
  const hours = el("select", { name: "hours", "aria-label": "Snooze for" }, [[1, "1 hour"], [8, "8 hours"], [24, "1 day"], [72, "3 days"], [167.9, "7 days"]].map(([h, text]) => el("option", { value: h }, text)));
  const button = (action, text, more = () => ({}), kindOf = "") => el("button", { type: "button", class: kindOf, "data-action": action, onclick: (e) => decide(e.target, { action, comment: comment.value, revision: i.revision, ...more() }) }, text);
  const until = () => ({ until: new Date(Date.now() + 3600e3 * Number(hours.value)).toISOString() });
  return el("form", { class: "decide", onsubmit: (e) => e.preventDefault() }, comment,
    el("div", { class: "buttons" }, button("acknowledge", "Acknowledge", undefined, "main"), button("false_alarm", "False alarm"), button("comment", "Comment"), i.status === "open" ? null : button("reopen", "Reopen")),
    el("div", { class: "buttons" }, button("confirm", "Confirm fraud:", () => ({ fraud_kind: kind.value })), kind, button("snooze", "Snooze for", until), hours));
}

async function decide(button, decision) {
  const buttons = document.querySelectorAll("#decide button");
  buttons.forEach((b) => { b.disabled = true; });
  try {
    await api(`incident/decide?id=${encodeURIComponent(open.id)}`, decision);
    document.querySelector("#decide textarea").value = "";
    toast("Saved.");
    await one();
  } catch (error) {
    toast(error.message);
    const text = decision.comment;
    if (error.status === 409) await one();
    const box = document.querySelector("#decide textarea");
    if (box) box.value = text;
    document.querySelectorAll("#decide button").forEach((b) => { b.disabled = false; });
  }
}

function evidence(e, i) {
  if (!e) return el("section", { class: "panel" }, el("h2", { style: "margin-top:0" }, "Evidence"), el("p", { class: "quiet" }, i.windows ? "Not computed yet: handle_alert does that within a minute." : "There are no clicks; that is the anomaly."));
  const past = e.past_minutes ? `baseline: the ${e.past_minutes >= 120 ? `${(e.past_minutes / 60).toFixed(0)} hours` : `${e.past_minutes.toFixed(0)} minutes`} before` : "too little history for a baseline";
  const order = Object.keys(DIMENSIONS).filter((name) => e.touches[name]).sort((a, b) => (b === e.basis) - (a === e.basis));
  const tables = order.map((name) => [name, e.touches[name]]).map(([name, values]) => el("details", { open: name === e.basis || undefined },
    el("summary", {}, `Top ${DIMENSIONS[name]}`),
    table([DIMENSIONS[name].slice(0, -1), "clicks", "share", "baseline", "excess"], values.map((v) => el("tr", {}, el("td", { class: "text small" }, el("bdi", {}, v.value)),
      el("td", { class: "number" }, number(v.clicks)), el("td", { class: "number" }, percent(v.share)), el("td", { class: "number" }, percent(v.usual_share)),
      el("td", { class: `number ${v.excess ? "red" : "quiet"}` }, v.excess ? number(v.excess) : "–"))))));
  return el("section", { class: "panel" }, el("h2", { style: "margin-top:0" }, "Evidence"),
    el("p", {}, el("strong", {}, `${money(e.money_at_risk)} at risk`), ` (estimate): ${suspicion(e)}, times their CPC.`),
    el("p", { class: "quiet small" }, past), ...tables);
}

function suspicion(e) {
  const expected = e.expected_clicks ? `, where ${number(e.expected_clicks)} were expected` : "";
  if (e.basis === "all clicks") return `${number(e.suspect_clicks)} of ${number(e.clicks)} clicks exceed the expected volume${expected}`;
  return `${number(e.suspect_clicks)} of ${number(e.clicks)} clicks${expected}, belong to ${DIMENSIONS[e.basis]} with more clicks than their baseline`;
}

function draw(box, points) {
  if (!points.length) return;
  const chart = (title, read, options) => {
    const node = el("div", { class: "chart" });
    box.append(node);
    windows(node, title, points, read, options).catch((error) => node.replaceChildren(el("p", { class: "problem" }, error.message)));
  };
  chart("anomaly score", (p) => p.anomaly_score, { threshold: points[0].threshold, range: { range: [0, 1] } });
  for (const f of user.features) {
    if (!points.some((p) => p[f.name] !== null && p[f.name] !== undefined)) continue;
    const clip = (v) => v === undefined ? null : Math.min(f.high ?? Infinity, Math.max(f.low ?? -Infinity, v));
    const banded = points.some((p) => p.low[f.name] !== undefined);
    chart(`${f.label}${banded ? " (band: expected)" : ""}`, (p) => p[f.name] ?? null, { band: banded ? (p) => [clip(p.low[f.name]), clip(p.high[f.name])] : null });
  }
}

function examples(rows) {
  if (!rows.length) return el("section");
  const names = ["timestamp", "user_id_hash", "ad_id", "campaign_id", "user_agent", "cpc", "ctr", "bounce_rate", "conversion"];
  const cell = (row, name) => el("td", { class: typeof row[name] === "number" ? "number" : "text small" }, typeof row[name] === "number" ? short(row[name]) : String(row[name]));
  return el("section", {}, el("h2", {}, "Raw examples"), el("p", { class: "quiet small" }, `The newest ${rows.length} clicks of the incident.`),
    el("details", {}, el("summary", {}, "Show the clicks"), table(names, rows.map((row) => el("tr", {}, names.map((name) => cell(row, name)))))));
}

