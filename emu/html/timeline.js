// Free pages against the watermarks; lanes below them: who was awake, what happened.
const lanes = { "direct reclaim": 1, "direct compaction": 4, "failed allocation": 5, "OOM kill": 3 };
let zone = data.zones.reduce((most, z, i) => (z.managed > data.zones[most].managed ? i : most), 0);

function marks() {
  const z = data.zones[zone];
  const line = (name, values, color, dash, width, more = {}) => ({
    name, x: data.t, y: values, mode: "lines", line: { color, dash, width, shape: name === "free" ? "linear" : "hv" },
    hovertemplate: `%{y:,} pages %{fullData.name}<br>%{x:.3f} s<extra></extra>`, ...more,
  });
  return [
    line("free", z.free, series(0), "solid", 2, { fill: "tozeroy", fillcolor: `${series(0)}22` }),
    line("high", z.high, series(2), "dot", 1.6), line("low", z.low, series(1), "dash", 1.6), line("min", z.min, series(5), "solid", 1.6),
  ];
}

function bands() {
  return Object.entries(data.spans).map(([name, spans]) => ({
    type: "bar", orientation: "h", name, base: spans.map((s) => s[0]), x: spans.map((s) => s[1] - s[0]), y: spans.map(() => name),
    xaxis: "x", yaxis: "y2", width: 0.7, marker: { color: series(name.startsWith("kswapd") ? 4 : 8), line: { width: 0 } }, showlegend: false,
    hovertemplate: `${name} awake<br>%{base:.3f} s for %{x:.3f} s<extra></extra>`,
  }));
}

function happenings() {
  return Object.entries(data.marks).map(([name, counts]) => {
    const seen = data.t.map((t, i) => [t, counts[i]]).filter(([, n]) => n > 0);
    return {
      type: "scatter", mode: "markers", name, x: seen.map((s) => s[0]), y: seen.map(() => name), customdata: seen.map((s) => s[1]),
      xaxis: "x", yaxis: "y2", showlegend: false, marker: { color: series(lanes[name]), symbol: "line-ns-open", size: 14, line: { width: 2 } },
      hovertemplate: `%{customdata:,} × ${name}<br>up to %{x:.3f} s<extra></extra>`,
    };
  });
}

function reported() {
  const seen = data.incidents.map((one, i) => ({ ...one, i })).filter((one) => one.kind !== "report");
  return {
    type: "scatter", mode: "markers", name: "reported", x: seen.map((one) => one.t), y: seen.map(() => "reported"),
    customdata: seen.map((one) => one.i), text: seen.map((one) => one.verdict || one.text.split("\n")[0]),
    xaxis: "x", yaxis: "y2", showlegend: false, marker: { color: css("--bad"), symbol: "diamond", size: 11, line: { color: css("--fg"), width: 1 } },
    hovertemplate: "%{text}<br>%{x:.3f} s, click to read<extra></extra>",
  };
}

/** Nothing to see: the lanes are there also when nothing happened in any. */
const ground = (rows) => ({
  type: "scatter", mode: "markers", name: "lanes", x: rows.map(() => data.t[0]), y: rows, xaxis: "x", yaxis: "y2", showlegend: false, hoverinfo: "skip", marker: { opacity: 0 },
});

function drawTimeline() {
  const z = data.zones[zone], near = document.querySelector("[name=range]:checked").value === "marks";
  const rows = [...Object.keys(data.spans), ...Object.keys(lanes), "reported"].reverse();
  return {
    traces: [...marks(), ground(rows), ...bands(), ...happenings(), reported()],
    layout: {
      xaxis: { title: { text: "seconds" }, anchor: "y2", range: [Math.min(0, data.t[0]), data.t[data.t.length - 1]] },
      yaxis: { title: { text: "free pages" }, domain: [0.42, 1], range: near ? [0, 2.5 * Math.max(...z.high)] : [0, 1.05 * Math.max(...z.free, ...z.high)] },
      yaxis2: { domain: [0, 0.37], type: "category", categoryorder: "array", categoryarray: rows, range: [-0.6, rows.length - 0.4], gridcolor: css("--line"), automargin: true, fixedrange: true },
      barmode: "overlay", shapes: [cursor()],
    },
  };
}

const cursor = () => ({ type: "line", xref: "x", yref: "paper", x0: data.map.t[frame], x1: data.map.t[frame], y0: 0, y1: 1, line: { color: css("--fg"), width: 1.2, dash: "dot" } });

let moving = 0;
function moveCursor() { // once a screen refresh
  cancelAnimationFrame(moving);
  moving = requestAnimationFrame(() => Plotly.relayout(at("timeline-plot"), { shapes: [cursor()] }));
}

function startTimeline() {
  data.zones.forEach((z, i) => at("zone").append(make("option", { value: i }, `${z.name}, ${size(z.managed)}`)));
  at("zone").value = zone;
  at("zone").addEventListener("change", () => { zone = Number(at("zone").value); redrawAll(); drawExtfrag(); });
  document.querySelectorAll("[name=range]").forEach((radio) => radio.addEventListener("change", redrawAll));
  plot("timeline-plot", drawTimeline);
  at("timeline-plot").on("plotly_click", ({ points: [point] }) => {
    if (point.data.name === "reported") openFailure(point.customdata);
    else show(nearest(point.data.type === "bar" ? point.base : point.x));
  });
}

function nearest(t) {
  return data.map.t.reduce((best, at, i) => (Math.abs(at - t) < Math.abs(data.map.t[best] - t) ? i : best), 0);
}
