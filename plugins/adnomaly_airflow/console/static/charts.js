// Charts with Plotly, which is loaded with the first chart.
let loading;

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.querySelector("script[data-plotly]").dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.js did not load; reload the page"));
    document.head.append(script);
  });
  return loading;
}

// A chart takes the size of its box, which has none before it is on the page.
async function ready(box) {
  const Plotly = await plotly();
  for (let frames = 0; !box.isConnected && frames < 600; frames += 1) await new Promise(requestAnimationFrame);
  return Plotly;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function layout(title, shapes, range) {
  return {
    title: { text: title, font: { size: 13, color: color("text") }, x: 0, xref: "paper", y: 0.97 },
    margin: { l: 48, r: 8, t: 30, b: 28 }, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("quiet"), size: 11 }, hovermode: "x unified", shapes,
    xaxis: { gridcolor: color("line"), zeroline: false }, yaxis: { gridcolor: color("line"), zeroline: false, ...range },
    hoverlabel: { bgcolor: color("panel"), font: { color: color("text") } },
  };
}

// One series over time, with its expected band, its threshold, and marked anomalous windows.
export async function windows(box, title, points, read, { band = null, threshold = null, range = {} } = {}) {
  const Plotly = await ready(box);
  const x = points.map((p) => p.window_end), y = points.map(read);
  const bad = points.filter((p) => p.is_anomaly && read(p) !== null);
  const traces = [];
  if (band) {
    traces.push({ x, y: points.map((p) => band(p)[0]), mode: "lines", line: { width: 0 }, hoverinfo: "skip" });
    traces.push({ x, y: points.map((p) => band(p)[1]), mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: color("band"), hoverinfo: "skip" });
  }
  traces.push({ x, y, mode: "lines", line: { color: color("accent"), width: 1.6 }, name: title, hovertemplate: "%{y:.4~g}<extra></extra>" });
  traces.push({ x: bad.map((p) => p.window_end), y: bad.map(read), mode: "markers", marker: { color: color("red"), size: 5 }, hoverinfo: "skip" });
  const shapes = threshold === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: threshold, y1: threshold, line: { color: color("red"), width: 1, dash: "dot" } }];
  await Plotly.react(box, traces, layout(title, shapes, range), { displayModeBar: false, responsive: true });
}

export async function bars(box, title, x, y, limit) {
  const Plotly = await ready(box);
  const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit, y1: limit, line: { color: color("red"), width: 1, dash: "dot" } }];
  await Plotly.react(box, [{ x, y, type: "bar", marker: { color: color("accent") } }], { ...layout(title, shapes, { rangemode: "tozero" }), xaxis: { type: "category", nticks: 7 } }, { displayModeBar: false, responsive: true });
}
