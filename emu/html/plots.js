// What all plots share: colours of the style sheet, fonts, the mode bar that nobody needs.
const colors = new Map(); // of the scheme that is on
const css = (name) => {
  if (!colors.has(name)) colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colors.get(name);
};
const series = (i) => css(`--c${i % 9}`);
const dashes = ["solid", "dash", "dot", "dashdot", "longdash"];
const drawers = [];

function layout(more) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true };
  const { xaxis = {}, yaxis = {}, ...rest } = more;
  return {
    paper_bgcolor: css("--bg"), plot_bgcolor: css("--bg"), font: { color: css("--fg"), family: "system-ui, sans-serif", size: 12.5 },
    margin: { l: 55, r: 12, t: 12, b: 40 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, hovermode: "closest",
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--fg") } },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

/** Keep a plot drawn: `draw` returns traces and layout, and is asked again when colours or the choice change. */
function plot(id, draw) {
  const redraw = () => {
    const { traces, layout: how } = draw();
    return Plotly.react(at(id), traces, layout(how), { responsive: true, displayModeBar: false });
  };
  drawers.push(redraw);
  redraw();
}
const redrawAll = () => drawers.forEach((redraw) => redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colors.clear(); redrawAll(); });
