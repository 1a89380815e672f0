// Who waited for which lock, how long and where.
const us = (ns) => (ns === null || ns === undefined ? "-" : `${(ns / 1000).toFixed(2)}`);
const measured = data.locks.filter((lock) => lock.waits.histogram.length || lock.holds.histogram.length);

function drawTimes(which, title) {
  return () => ({
    traces: measured.filter((lock) => lock[which].histogram.length).map((lock, i) => ({
      name: lock.name, x: lock[which].histogram.map((bin) => bin[0] / 1000), y: lock[which].histogram.map((bin) => bin[1]), mode: "lines",
      line: { color: series(i), dash: dashes[i % 5], shape: "hvh", width: 2 }, hovertemplate: `${lock.name}: %{y:,} ${which} of about %{x:.3g} µs<extra></extra>`,
    })),
    layout: { xaxis: { title: { text: title }, type: "log" }, yaxis: { title: { text: "times" }, type: "log" }, showlegend: true },
  });
}

function lockTable() {
  const heads = ["lock", "acquired", "waited", "share", "wait avg µs", "longest µs", "hold avg µs", "longest µs"];
  const rows = data.locks.map((lock) => row(
    lock.name, count(lock.acquisitions), count(lock.contentions), `${((100 * lock.contentions) / Math.max(lock.acquisitions, 1)).toFixed(2)} %`,
    ...[lock.waits, lock.holds].flatMap((times) => (times.measured ? [us(times.average), us(times.longest)] : ["-", "-"])),
  ));
  return make("div", { class: "scroll" }, make("table", { class: "numbers" }, make("thead", {}, make("tr", {}, ...heads.map((h) => make("th", { scope: "col" }, h)))), make("tbody", {}, ...rows)));
}

function sites(title, key) {
  const all = data.locks.flatMap((lock) => lock[key].map(([site, n]) => [site, lock.name, n])).sort((a, b) => b[2] - a[2]).slice(0, 12);
  if (!all.length) return make("p", { class: "dim" }, "Nobody waited.");
  const heads = [title, "lock", "times"].map((h) => make("th", { scope: "col" }, h));
  return make("div", { class: "scroll" }, make("table", { class: "numbers" }, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...all.map(([site, lock, n]) => row(site, lock, count(n))))));
}

function startLocks() {
  const list = at("lock-list");
  if (!data.locks.length) return list.append(make("p", {}, "No lock was taken."));
  if (measured.length) {
    list.append(make("h3", {}, "Waits"), make("div", { id: "waits-plot", class: "plot" }), make("h3", {}, "Holds"), make("div", { id: "holds-plot", class: "plot" }));
    plot("waits-plot", drawTimes("waits", "microseconds waited"));
    plot("holds-plot", drawTimes("holds", "microseconds held"));
  } else {
    list.append(make("p", { class: "dim" }, "Times were not measured: give --lock-stat for waits, holds and their histograms."));
  }
  list.append(make("h3", {}, "Locks"), lockTable(), make("h3", {}, "Hottest call sites"), make("div", { class: "columns" }, sites("waited at", "waited_at"), sites("held from", "held_from")));
}
