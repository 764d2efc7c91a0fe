// Model: metrics, alert volume, drift, deployments, actions.
import { bars } from "./charts.js";
import { ago, api, ask, el, link, moment, number, table, toast } from "./dom.js";

const METRICS = [
  ["adnomaly.pr_auc", "PR AUC"], ["base_rate", "… by chance"], ["max_z.pr_auc", "… of max |z|"], ["mahalanobis.pr_auc", "… of Mahalanobis"],
  ["adnomaly.recall_per_day", "Recall at one false incident a day"], ["adnomaly.recall_per_week", "Recall at one false incident a week"],
  ["adnomaly.at_flag", "Recall at its threshold"], ["adnomaly.delay_minutes", "Median delay, minutes"],
];
const QUESTIONS = "/api/v2/dags/deploy_detector/dagRuns/~/hitlDetails?response_received=false&limit=5";
let user, view, rendered;

export async function show(target, me) { user = me; view = target; rendered = ""; await refresh(); }

export async function refresh() {
  const [data, approvals] = await Promise.all([api("model"), ask(QUESTIONS)]);
  data.questions = approvals.hitl_details;
  const text = JSON.stringify({ ...data, at: null });
  if (text === rendered) return;
  rendered = text;
  const chart = el("div", { class: "chart" });
  view.replaceChildren(el("h1", {}, "Is the model still good?"), ...data.problems.map((p) => el("p", { class: "problem" }, p)),
    ...data.questions.map(question), actions(data), el("div", { class: "grid2" }, sideBySide(data), volume(data, chart)), drift(data), live(data), registered(data));
  if (data.volume.length) bars(chart, `incidents a day (dotted: budget of ${number(data.budget_per_day, 1)} false ones)`, ...days(data), data.budget_per_day).catch((e) => toast(e.message));
}

// Every one of the last 14 days, including those without an incident.
function days(data) {
  const counts = new Map(data.volume.map((v) => [v.day, v.incidents]));
  const names = Array.from({ length: 14 }, (_, i) => new Date(new Date(data.at) - (13 - i) * 86400e3).toISOString().slice(0, 10));
  return [names.map((day) => day.slice(5)), names.map((day) => counts.get(day) ?? 0)];
}

const role = (data, name) => data.models.find((m) => m.roles.includes(name));

function sideBySide(data) {
  const champion = role(data, "champion"), challenger = role(data, "challenger");
  if (!champion && !challenger) return el("section", { class: "panel" }, el("p", {}, "No model is registered yet: train one."));
  const metric = (model, key) => el("td", { class: "number" }, model && model.metrics[key] !== undefined ? model.metrics[key].toFixed(3) : "–");
  const name = (model, title) => model ? el("span", {}, `${title} `, link(model.link, model.model_version.slice(0, 10))) : `no ${title}`;
  return el("section", { class: "panel" }, el("h2", { style: "margin-top:0" }, "On the attack library"),
    table(["", name(champion, "champion"), name(challenger, "challenger")], METRICS.map(([key, title]) => el("tr", {}, el("td", {}, title), metric(champion, key), metric(challenger, key)))),
    challenger ? el("p", { class: "small" }, "The challenger: ", el("bdi", {}, challenger.decision || "not evaluated yet"), ".") : el("p", { class: "quiet small" }, "A challenger is the newest model that did not pass the promotion gate."));
}

function volume(data, chart) {
  const total = (name) => data.volume.reduce((sum, v) => sum + v[name], 0);
  return el("section", { class: "panel" }, el("h2", { style: "margin-top:0" }, "Alert volume"),
    data.volume.length ? chart : el("p", { class: "quiet" }, "No incident in the last 14 days."),
    el("p", { class: "quiet small" }, `In 14 days: ${number(total("incidents"))} ${total("incidents") === 1 ? "incident" : "incidents"}, ${total("confirmed")} confirmed as fraud, ${total("false_alarms")} false alarms.`));
}

// A deployment that waits for a person. Airflow has the form for the answer.
function question({ task_instance: task, subject, created_at: at }) {
  const where = `/dags/${task.dag_id}/runs/${encodeURIComponent(task.dag_run_id)}/tasks/${task.task_id}/required_actions`;
  return el("p", { class: "problem question" }, el("strong", {}, el("bdi", {}, subject)), ` Asked ${moment(at)}. `, link(where, "Answer: approve or reject"));
}

function drift(data) {
  const newest = data.health.length ? data.health[0].at : null;
  const rows = data.health.filter((h) => h.at === newest).map((h) => el("tr", {}, el("td", {}, h.measure), el("td", {}, user.features.find((f) => f.name === h.subject)?.label ?? h.subject),
    el("td", { class: "number" }, h.value === null ? "too little data" : h.value.toFixed(3)), el("td", { class: "number" }, h.most.toFixed(3)),
    el("td", {}, h.value === null ? "–" : el("span", { class: `state ${h.value <= h.most ? "green" : "red"}` }, h.value <= h.most ? "OK" : "drifted"))));
  return el("section", {}, el("h2", {}, "Drift and calibration"),
    rows.length ? table(["measure", "of", "value", "limit", ""], rows, { caption: `By watch_model, ${moment(newest)}, of model ${data.health[0].model_version.slice(0, 10)}` })
      : el("p", { class: "quiet" }, "Not measured yet: ", link("/dags/watch_model", "watch_model"), " runs every hour."));
}

function live(data) {
  const rows = data.live.map((l) => el("tr", {}, el("td", {}, el("code", {}, l.model_version)), el("td", {}, moment(l.deployed_at)), el("td", {}, l.until ? moment(l.until) : el("span", { class: "state green" }, "live now")),
    el("td", {}, l.run_id ? link(`/dags/deploy_detector/runs/${encodeURIComponent(l.run_id)}`, "run") : "")));
  return el("section", {}, el("h2", {}, "Deployments"), rows.length ? table(["model", "from", "until", "by"], rows) : el("p", { class: "quiet" }, "Nothing is deployed yet."));
}

function registered(data) {
  const rows = data.models.map((m) => el("tr", {}, el("td", { class: "number" }, m.number), el("td", {}, link(m.link, m.model_version)), el("td", {}, m.roles.join(", ")), el("td", {}, ago(m.registered_at, data.at)), el("td", { class: "text" }, m.decision)));
  return el("section", {}, el("h2", {}, "Registered models"), rows.length ? table(["no.", "model (MLflow)", "role", "registered", "promotion gate"], rows, { wide: true }) : el("p", { class: "quiet" }, "None."));
}

function actions(data) {
  const button = (text, dag, conf, why, off = false) => el("button", { disabled: !user.may_act || off, title: why, "data-dag": dag, onclick: (e) => trigger(e.target, dag, conf) }, text);
  return el("p", { class: "buttons" },
    button("Train now", "train_detector", {}, "Train a detector on the newest features; it is promoted if it passes the promotion gate"),
    button("Deploy the champion", "deploy_detector", {}, "Deploy the champion of the registry"),
    button("Roll back", "deploy_detector", { which: "previous" }, "Deploy and promote the previous champion", !role(data, "previous")),
    user.may_act ? el("span", { class: "quiet small" }, `as ${user.name}`) : el("span", { class: "quiet small" }, `Logged in as ${user.name}, who can view but not trigger.`));
}

async function trigger(button, dag, conf) {
  button.disabled = true;
  try {
    const run = await ask(`/api/v2/dags/${dag}/dagRuns`, { logical_date: null, conf, note: "from the page Adnomaly" });
    const where = `/dags/${dag}/runs/${encodeURIComponent(run.dag_run_id)}`;
    button.after(" ", link(where, `${dag}: open the run`), " ");
    toast(`${dag} was triggered.`);
  } catch (error) { toast(error.message); }
  button.disabled = false;
}
