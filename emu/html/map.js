// The map of memory: a canvas for each zone, a cell for each pageblock or for some neighbours.
const map = data.map;
const owners = map.owners, types = map.types.map((name) => name.toLowerCase());
const ownerColor = { free: "--empty", pcp: "--c4", anon: "--c3", file: "--c2", slab: "--c1", "page tables": "--c5", reserved: "--c7", other: "--c6", workload: "--c0" };
const typeColor = ["--c0", "--c2", "--c1", "--c5", "--c3", "--c7"];
const plane = Object.fromEntries(map.planes.map((name, i) => [name, i]));
let frames = null, holders = [], frame = 0, picked = -1;
const boards = [];

const value = (cell, name) => frames[(frame * map.planes.length + plane[name]) * map.cells + cell];
const pagesOf = (cell) => owners.reduce((sum, name) => sum + value(cell, name), 0);
const typeOf = (cell) => types.reduce((most, name, i) => (value(cell, name) > value(cell, types[most]) ? i : most), 0);

function largest(cell) {
  for (let order = map.orders - 1; order >= 0; order--) if (value(cell, `order ${order}`)) return order;
  return value(cell, "free") ? map.orders - 1 : -1; // the rest of a block that begins in the cell before
}

/** Parts of a cell from the bottom up: [share, colour]. */
const painters = {
  types(cell, pages) {
    const color = css(typeColor[typeOf(cell)]), used = 1 - value(cell, "free") / pages;
    return [[used, color], [1 - used, `${color}40`]];
  },
  owners: (cell, pages) => owners.filter((name) => name !== "free" && value(cell, name)).map((name) => [value(cell, name) / pages, css(ownerColor[name])]),
  parties(cell, pages) {
    const used = 1 - value(cell, "free") / pages, holder = value(cell, "holder");
    return [[used, holder ? partyColor(holder) : css("--c7")]];
  },
  free: (cell, pages) => [[1, scale(value(cell, "free") / pages)]],
  orders: (cell) => [[1, largest(cell) < 0 ? css("--empty") : scale((largest(cell) + 1) / map.orders)]],
};
const partyColor = (holder) => css(["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c8"][(holder - 1) % 8]); // more than eight share them
const ramp = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"]; // viridis: dark to light, also without colour
function scale(share) {
  const x = Math.min(share, 0.9999) * 4, i = Math.floor(x), [a, b] = [ramp[i], ramp[i + 1]].map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
  return `rgb(${a.map((n, k) => Math.round(n + (b[k] - n) * (x - i))).join(",")})`;
}

function geometry(board) {
  const width = board.figure.clientWidth, n = board.zone.count;
  const wished = n <= 160 ? 26 : n <= 700 ? 18 : n <= 2100 ? 12 : 9;
  const columns = Math.max(8, Math.round(width / wished / 8) * 8); // so that rows begin at round addresses
  return { step: Math.min(wished, Math.floor(width / columns)), columns, rows: Math.ceil(n / columns) };
}

function paint(board) {
  const { step, columns, rows } = (board.at = geometry(board)), ratio = devicePixelRatio || 1, { canvas } = board;
  const width = Math.min(columns, board.zone.count) * step, height = rows * step;
  canvas.width = width * ratio; canvas.height = height * ratio;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d"), parts = painters[at("mode").value];
  context.scale(ratio, ratio);
  context.font = `600 ${board.at.step >= 20 ? 12 : 10}px ui-monospace, monospace`; context.textAlign = "center"; context.textBaseline = "middle";
  for (let i = 0; i < board.zone.count; i++) {
    const cell = board.zone.first + i, x = (i % columns) * step, y = Math.floor(i / columns) * step, side = step - 1, pages = pagesOf(cell);
    context.fillStyle = css("--empty");
    context.fillRect(x, y, side, side);
    if (!pages) continue;
    let bottom = y + side;
    for (const [share, color] of parts(cell, pages)) {
      context.fillStyle = color;
      context.fillRect(x, bottom - share * side, side, share * side);
      bottom -= share * side;
    }
    if (step >= 16 && at("mode").value === "types") {
      context.fillStyle = css("--fg");
      context.fillText(letters[types[typeOf(cell)]], x + side / 2, y + side / 2 + 0.5);
    }
    if (cell === picked) { context.strokeStyle = css("--pick"); context.lineWidth = 2; context.strokeRect(x + 1, y + 1, side - 2, side - 2); }
  }
}
let painting = 0;
function paintAll() {
  cancelAnimationFrame(painting);
  painting = requestAnimationFrame(() => boards.forEach(paint));
}

function cellAt(board, event) {
  const box = board.canvas.getBoundingClientRect(), { step, columns } = board.at;
  const column = Math.floor((event.clientX - box.left) / step), i = Math.floor((event.clientY - box.top) / step) * columns + column;
  return column >= 0 && column < columns && i >= 0 && i < board.zone.count ? board.zone.first + i : -1;
}

function place(cell) {
  const { zone } = boards.find((b) => cell >= b.zone.first && cell < b.zone.first + b.zone.count);
  const begin = zone.block + (cell - zone.first) * map.per_cell, end = Math.min(begin + map.per_cell, zone.block + zone.blocks);
  const hex = (pfn) => `0x${(pfn * 4096).toString(16)}`;
  return { zone, begin: begin * map.pageblock, end: end * map.pageblock, bytes: `${hex(begin * map.pageblock)}–${hex(end * map.pageblock)}`, blocks: end - begin };
}

function describe(cell) {
  const pages = pagesOf(cell), free = value(cell, "free"), { zone, begin, end, bytes, blocks } = place(cell);
  const found = types.filter((name) => value(cell, name)).map((name) => (blocks === 1 ? name : `${value(cell, name)} ${name}`)).join(", ");
  const orders = [...Array(map.orders).keys()].filter((o) => value(cell, `order ${o}`)).map((o) => `${value(cell, `order ${o}`)}×${o}`).join(" ");
  const holder = value(cell, "holder");
  const facts = [
    ["address", bytes], ["pages", `${begin}–${end - 1}`], ["migratetype", found || "none"],
    ["free", `${count(free)} of ${count(pages)} (${pages ? Math.round((100 * free) / pages) : 0} %)`],
    ["free blocks × order", orders || (free ? "rest of a larger block" : "none")],
    ...owners.filter((name) => name !== "free" && value(cell, name)).map((name) => [name, `${count(value(cell, name))} pages`]),
    ...(holder ? [[map.page_owner ? "most of them allocated by" : "most of them held by", map.parties[holder - 1]]] : []),
  ];
  return { title: blocks === 1 ? `Pageblock ${begin / map.pageblock}, ${zone.name}` : `${blocks} pageblocks from ${begin / map.pageblock}, ${zone.name}`, pages, facts };
}

function tell(cell) {
  picked = cell;
  const { title, pages, facts } = describe(cell);
  const bar = make("div", { class: "bar", "aria-hidden": "true" });
  for (const name of owners) if (value(cell, name)) bar.append(make("div", { style: `width:${(100 * value(cell, name)) / pages}%;background:var(${ownerColor[name]})`, title: name }));
  at("cell").replaceChildren(make("h4", {}, title), bar, make("table", { class: "facts" }, ...facts.map(([name, text]) => row(name, text))));
  paintAll();
}

function hover(board, event) {
  const cell = cellAt(board, event), tip = at("tip");
  tip.hidden = cell < 0;
  if (cell < 0) return;
  const { title, facts } = describe(cell);
  tip.textContent = [title, ...facts.slice(2, 4).map(([name, text]) => `${name}: ${text}`)].join("\n");
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}

function walk(board, event) {
  const { columns } = board.at, { first, count: n } = board.zone;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -n, End: n }[event.key];
  if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const here = picked >= first && picked < first + n ? picked - first : step > 0 ? -step : 0;
  tell(first + Math.max(0, Math.min(n - 1, here + step)));
}

/** Whoever has most of a cell at some time: CPUs and daemons. */
function everyHolder() {
  const found = new Set();
  for (let at = plane.holder * map.cells; at < frames.length; at += map.planes.length * map.cells) for (const holder of frames.subarray(at, at + map.cells)) found.add(holder);
  return [...found].filter(Boolean).sort((a, b) => a - b);
}

function drawLegend() {
  const entries = {
    types: types.map((name, i) => [typeColor[i], letters[name], name]),
    owners: owners.map((name) => [ownerColor[name], "", name]),
    parties: [...holders.map((holder) => [partyColor(holder), "", map.parties[holder - 1]]), ["--c7", "", "nobody known"]],
    free: [0, 0.25, 0.5, 0.75, 1].map((share) => [scale(share), "", `${share * 100} % free`]),
    orders: [["--empty", "", "none free"], ...[0, 3, 6, 9, 10].map((o) => [scale((o + 1) / map.orders), "", `order ${o}`])],
  }[at("mode").value];
  const spans = entries.map(([color, letter, text]) => make("span", {}, make("i", { style: `background:${color.startsWith("--") ? `var(${color})` : color}` }, letter), text));
  if (at("mode").value === "types") spans.push(make("span", {}, "solid: in use; faint: free"));
  at("legend").replaceChildren(...spans);
}

/** Move everything that has a time to a frame. */
function show(number) {
  frame = number;
  at("time").value = number;
  const text = `${seconds(map.t[number])}, look ${number + 1} of ${map.t.length}`;
  at("shown").textContent = text;
  at("time").setAttribute("aria-valuetext", text);
  paintAll();
  moveCursor();
  if (picked >= 0) tell(picked);
}

let playing = 0;
function play() {
  const stop = () => { clearInterval(playing); playing = 0; at("play").textContent = "▶"; at("play").setAttribute("aria-label", "play"); };
  if (playing) return stop();
  if (frame === map.t.length - 1) show(0);
  at("play").textContent = "❚❚"; at("play").setAttribute("aria-label", "pause");
  playing = setInterval(() => (frame < map.t.length - 1 ? show(frame + 1) : stop()), 100);
}

function board(z) {
  const canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": `map of ${z.name}: arrow keys choose a cell` });
  const figure = make("figure", {}, make("figcaption", {}, `${z.name}: ${count(z.blocks)} pageblocks, ${size(z.blocks * map.pageblock)}`), canvas);
  const made = { zone: z, canvas, figure, at: null };
  canvas.addEventListener("mousemove", (event) => hover(made, event));
  canvas.addEventListener("mouseleave", () => (at("tip").hidden = true));
  canvas.addEventListener("click", (event) => { const cell = cellAt(made, event); if (cell >= 0) tell(cell); });
  canvas.addEventListener("keydown", (event) => walk(made, event));
  at("maps").append(figure);
  return made;
}

function drawOwners() {
  const totals = map.t.map((_, f) => owners.map((_, o) => {
    let sum = 0;
    for (let cell = 0, base = (f * map.planes.length + o) * map.cells; cell < map.cells; cell++) sum += frames[base + cell];
    return sum;
  }));
  const order = [...owners.keys()].slice(1).concat(0).filter((o) => totals.some((t) => t[o]));
  return {
    traces: order.map((o) => ({
      name: owners[o], x: map.t, y: totals.map((t) => t[o]), stackgroup: "all", mode: "lines", line: { width: 0.8, color: css(ownerColor[owners[o]]) },
      fillcolor: css(ownerColor[owners[o]]), hovertemplate: `%{y:,} pages ${owners[o]}<br>%{x:.3f} s<extra></extra>`,
    })),
    layout: { xaxis: { title: { text: "seconds" } }, yaxis: { title: { text: "pages" } } },
  };
}

async function startMap() {
  frames = await unpack();
  holders = everyHolder();
  const each = map.per_cell === 1 ? "A cell is a pageblock (512 pages, 2 MiB)" : `A cell is ${map.per_cell} pageblocks (${size(map.per_cell * map.pageblock)})`;
  at("map-about").textContent = `${each}, in the order of addresses, as seen at ${map.t.length} times.`;
  boards.push(...map.zones.map(board));
  at("time").max = map.t.length - 1;
  at("time").addEventListener("input", () => show(Number(at("time").value)));
  at("mode").addEventListener("change", () => { drawLegend(); paintAll(); });
  at("play").addEventListener("click", play);
  new ResizeObserver(paintAll).observe(at("maps"));
  drawers.push(paintAll);
  drawLegend();
  plot("owners-plot", drawOwners);
  show(Math.max(0, map.t.length - 2)); // the last one is of memory that was given back
  document.documentElement.dataset.ready = "yes";
}
