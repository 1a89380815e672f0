// Start everything; what needs the frames of the map comes last.
function startCounters() {
  const slow = data.slowpath;
  const rows = [["entered", slow.slowpaths], ["went round again", slow.retries], ...Object.entries(slow.retries_by).map(([why, n]) => [`of them: ${why}`, n]),
    ...Object.entries(slow.restarts_by).map(([why, n]) => [`restarted: ${why}`, n]), ...Object.entries(data.wakes).map(([name, n]) => [`${name} woken`, n])];
  at("slowpath").append(...rows.map(([name, n]) => row(name, count(n))));
  at("vmstat").append(...Object.entries(data.events).map(([name, n]) => row(name, count(n))));
  at("looking").textContent = `Looking at the machine took ${(100 * data.looking).toFixed(2)} % of one core's time meanwhile.`;
}

function startTiles() {
  const sum = (counts) => counts.reduce((a, b) => a + b, 0), end = data.t[data.t.length - 1];
  const tiles = [
    ["time", `${end.toFixed(2)} s`], ["failed allocations", count(sum(data.marks["failed allocation"])), sum(data.marks["failed allocation"])],
    ["slow paths", count(data.slowpath.slowpaths)], ["direct reclaims", count(sum(data.marks["direct reclaim"]))],
    ["kswapd wake-ups", count(Object.entries(data.wakes).reduce((n, [name, wakes]) => n + (name.startsWith("kswapd") ? wakes : 0), 0))],
    ["OOM kills", count(sum(data.marks["OOM kill"])), sum(data.marks["OOM kill"])],
  ];
  at("tiles").append(...tiles.map(([name, text, bad]) => make("div", { class: bad ? "tile warn" : "tile" }, make("b", {}, text), make("span", {}, name))));
}

startTiles();
startTimeline();
startFragmentation();
startFailures();
startLocks();
startCounters();
startMap();
if (location.hash.startsWith("#failure-")) openFailure(location.hash.replace("#failure-", ""));
if (navigator.clipboard) {
  at("copy").hidden = false;
  at("copy").addEventListener("click", () => navigator.clipboard.writeText(at("command").textContent));
}
