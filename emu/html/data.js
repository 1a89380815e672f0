// The data of the page, and words for it.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en");
const seconds = (t) => `${t.toFixed(3)} s`;
const letters = { unmovable: "U", movable: "M", reclaimable: "R", highatomic: "H", cma: "C", isolate: "I" };

function size(pages) {
  let kib = pages * 4, unit = 0;
  while (kib >= 1024 && unit < 3) { kib /= 1024; unit++; }
  return `${kib >= 100 || Number.isInteger(kib) ? Math.round(kib) : kib.toFixed(1)} ${["KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** An element with attributes, text and children; text is never taken for HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function row(...cells) {
  return make("tr", {}, ...cells.map((cell, i) => make(i ? "td" : "th", i ? {} : { scope: "row" }, String(cell))));
}

/** The frames of the map: Uint16Array, by frame, plane, cell. */
async function unpack() {
  const packed = Uint8Array.from(atob(at("frames").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const numbers = new Uint16Array(bytes.buffer);
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  return little ? numbers : numbers.map((n) => ((n & 255) << 8) | (n >> 8));
}
