// The indices of mm/vmstat.c over time, and free blocks by order.
const orders = [...Array(map.orders).keys()];
const shown = [1, 2, 3, 4, 6, 8, 9, 10];

function drawUnusable() {
  const z = data.zones[zone];
  return {
    traces: shown.map((o, i) => ({
      name: `order ${o}`, x: data.t, y: z.unusable.map((row) => row[o] / 1000), mode: "lines",
      line: { color: scale(o / 10), dash: dashes[i % 5], width: 2 }, hovertemplate: `order ${o}: %{y:.3f}<br>%{x:.3f} s<extra></extra>`,
    })),
    layout: { xaxis: { title: { text: "seconds" } }, yaxis: { title: { text: "unusable" }, range: [-0.02, 1.02] } },
  };
}

function drawBuddy() {
  const z = data.zones[zone];
  return {
    traces: [{
      type: "heatmap", x: data.t, y: orders, z: orders.map((o) => z.nr_free.map((row) => Math.log10(1 + row[o]))), customdata: orders.map((o) => z.nr_free.map((row) => row[o])),
      colorscale: "Viridis", colorbar: { title: { text: "blocks" }, tickvals: [0, 1, 2, 3, 4, 5], ticktext: ["0", "10", "100", "1k", "10k", "100k"], thickness: 12 },
      hovertemplate: "order %{y}: %{customdata:,} free blocks<br>%{x:.3f} s<extra></extra>",
    }],
    layout: { xaxis: { title: { text: "seconds" } }, yaxis: { title: { text: "order" }, dtick: 1 } },
  };
}

function drawExtfrag() {
  const z = data.zones[zone], last = data.t.length - 1, picks = [...new Set([0, 1, 2, 3, 4, 5, 6, 7].map((k) => Math.round((last * k) / 7)))];
  at("extfrag").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "order"), ...picks.map((i) => make("th", { scope: "col" }, seconds(data.t[i]))))),
    make("tbody", {}, ...orders.map((o) => row(o, ...picks.map((i) => (z.extfrag[i][o] / 1000).toFixed(3).replace("-1.000", "−1"))))),
  );
}

function startFragmentation() {
  plot("unusable-plot", drawUnusable);
  plot("buddy-plot", drawBuddy);
  drawExtfrag();
}
