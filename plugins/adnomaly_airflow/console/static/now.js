// Live stages, reconciliation of click counts, dead letters, changes.
import { api, el, link, moment, number, short, table, toast } from "./dom.js";

const WORDS = { green: "OK", amber: "behind", red: "failed", grey: "stopped" };
let user, box;

export async function show(view, me) {
  user = me;
  box = { problems: el("div"), path: el("section", { class: "path", "aria-label": "The path of a click" }), servers: el("section"), ledger: el("section"), dead: el("section"), changes: el("section") };
  const data = await api("now");
  view.replaceChildren(el("h1", {}, "Is everything flowing?"), box.problems, box.path, box.servers, box.ledger, box.dead, box.changes);
  draw(data);
}

export async function refresh() { draw(await api("now")); }

function draw(data) {
  const stages = Object.fromEntries(data.stages.map((stage) => [stage.name, stage]));
  box.problems.replaceChildren(...data.problems.map((text) => el("p", { class: "problem" }, text)));
  box.path.replaceChildren(...data.columns.map((names) => el("div", { class: "column" }, names.map((name) => card(stages[name], data.serving)))));
  box.servers.replaceChildren(el("h2", {}, "Servers"), el("p", { class: "servers" }, data.servers.map((server) =>
    el("span", { class: `state ${server.state}`, "data-server": server.name, title: server.process }, server.state === "green" ? server.name : `${server.name}: ${server.process}`))));
  box.ledger.replaceChildren(el("h2", {}, "Reconciliation of clicks"), ...data.ledger.map(equation));
  if (data.comparison) box.ledger.append(comparison(data.comparison));
  const rows = data.changes.map((c) => el("tr", {}, el("td", {}, moment(c.at)), el("td", {}, stages[c.stage]?.title ?? c.stage),
    el("td", {}, el("span", { class: `state ${c.state}` }, WORDS[c.state])), el("td", { class: "text" }, c.reason)));
  box.changes.replaceChildren(el("h2", {}, "Changes of state"),
    rows.length ? table(["when", "stage", "state", "reason"], rows) : el("p", { class: "quiet" }, "None in the last 24 hours."));
  // Read dead letters from Kafka only when there are new ones, and not while a person reads them.
  const rejected = data.ledger[0]?.parts.rejected ?? null;
  if (rejected !== box.rejected && !box.dead.querySelector("details[open]")) {
    box.rejected = rejected;
    showDeadLetters();
  }
}

function card(stage, serving) {
  const facts = [];
  const fact = (name, value) => facts.push(el("dt", {}, name), el("dd", {}, value));
  if (stage.unit) fact("rate", stage.rate === null ? "–" : rate(stage));
  if (stage.lag !== null) fact("lag", number(stage.lag));
  if (stage.freshness_s !== null) fact("newest", `${stage.freshness_s.toFixed(0)} s ago`);
  if (stage.total !== null && stage.unit) fact("total", number(stage.total));
  if (stage.name === "serving" && serving) fact("model", serving.slice(0, 10));
  return el("article", { class: `stage ${stage.state}`, "data-stage": stage.name, "data-state": stage.state },
    el("h3", {}, stage.title, el("span", { class: "state" }, WORDS[stage.state])),
    el("dl", {}, facts),
    stage.state === "green" ? null : el("p", {}, stage.reason),
    stage.todo ? el("p", { class: "quiet" }, stage.link ? link(stage.link, stage.todo) : stage.todo) : null);
}

// Windows and alerts come once a minute.
function rate({ rate: perSecond, unit }) {
  return unit === "clicks" ? `${short(perSecond)} clicks/s` : `${number(60 * perSecond)} per min`;
}

function equation(line) {
  const parts = Object.entries(line.parts).map(([name, value], i) => el("span", { class: "part" }, `${i ? " + " : " = "}${number(value)} ${name}`));
  const verdict = line.balanced
    ? el("span", { class: "state green" }, line.difference ? `${number(line.difference)} in flight` : "balanced")
    : el("span", { class: "state red" }, line.difference < 0 ? `${number(-line.difference)} counted twice` : `${number(line.difference - line.on_its_way)} missing`);
  return el("p", { class: "equation" }, el("strong", {}, `${number(line.left)} ${line.name}`), ...parts, "   ", verdict);
}

// Stream against batch, of the newest day that was compared.
function comparison({ day, outcome, compared, reason }) {
  const [state, verdict] = { equal: ["green", "equal"], differs: ["red", "differs"], skipped: ["amber", "not compared"] }[outcome];
  return el("p", { class: "equation" }, el("strong", {}, `Stream against batch on ${day}`), outcome === "equal" ? `: ${number(compared)} windows` : `: ${reason}`,
    "   ", link("/dags/compare_windows", el("span", { class: `state ${state}` }, verdict)));
}

async function showDeadLetters() {
  let reasons;
  try { reasons = await api("dead-letters"); } catch (error) { box.dead.replaceChildren(el("h2", {}, "Dead letters"), el("p", { class: "problem" }, error.message)); return; }
  const list = reasons.map((reason) => {
    const open = reason.count - reason.replayed;
    const button = el("button", { disabled: !user.may_act || !open, onclick: () => replay(reason, button) }, `Replay ${number(open)}`);
    const samples = reason.samples.map((s) => el("div", {},
      el("p", { class: "quiet small" }, `${moment(s.at_ms)}, partition ${s.partition}, offset ${number(s.offset)}, ${number(s.bytes)} bytes; the value: `, el("bdi", {}, s.error_value)),
      el("pre", { class: "bytes" }, s.value)));
    return el("details", { class: "panel" },
      el("summary", {}, el("strong", {}, number(reason.count)), " × ", el("bdi", {}, `${reason.field}: ${reason.rule}`), reason.replayed ? el("span", { class: "quiet" }, ` (${number(reason.replayed)} replayed)`) : null),
      ...samples, el("p", { class: "buttons" }, button, el("span", { class: "quiet small" }, "Sends the unchanged messages again. Fix the cause first, or they are rejected again.")));
  });
  box.dead.replaceChildren(el("h2", {}, "Dead letters"), ...(list.length ? list : [el("p", { class: "quiet" }, "None.")]));
}

async function replay(reason, button) {
  button.disabled = true;
  try {
    const { sent } = await api("dead-letters/replay", { field: reason.field, rule: reason.rule });
    toast(`${sent} dead letters were replayed.`);
  } catch (error) { toast(error.message); }
  showDeadLetters();
}

